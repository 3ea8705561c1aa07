"""A model file from the Hugging Face hub, into the hub's standard cache.

Theory of operation. huggingface_hub speaks the hub's protocol: it finds the repository's files,
asks for a file's SHA-256 and address, and lays out the cache (references, snapshots, links). The
bytes themselves are brought by `transfer`, because the library keeps nothing of a download that its
process did not finish, checks only its size, and warns of a full disk instead of stopping. So the
blob is put in its place, whole and checked, and the library then finds it there and links it.

Settings of the user's (endpoint, cache, login) are read at each call and handed to the library,
which itself reads them only once, when it is imported.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llorch.errors import ChecksumMismatch, DownloadFailed, LlorchError
from llorch.store import transfer
from llorch.store.entries import HuggingFace, ModelEntry, describe, is_sha256
from llorch.store.files import locked, storage_error, storage_errors
from llorch.store.hub_cache import cache_folder, cached_parts, hub_home, is_offline, repo_folder
from llorch.store.hub_reference import choose_file, names_file, parts_of
from llorch.store.part_file import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import HfFileMetadata

    from llorch.store.progress import Progress

_ENDPOINT = "https://huggingface.co"
_ETAG = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class _Access:
    """How the hub is reached: its address and the user's login (None: not logged in)."""

    endpoint: str
    login: str | None

    def headers_for(self, url: str) -> dict[str, str]:
        """The login goes to the hub itself, never to the content network that it points to."""
        if self.login is None or urlsplit(url).netloc != urlsplit(self.endpoint).netloc:
            return {}
        return {"Authorization": f"Bearer {self.login}"}


def fetch_from_hub(entry: ModelEntry, source: HuggingFace, progress: Progress) -> Path:
    """The model's file in the hub's cache, all parts of it; returns the first.

    Raises DownloadFailed (not there, gated, offline, network), ChecksumMismatch, NoSpace and
    StoreFailed.
    """
    if is_offline():
        raise DownloadFailed(
            f"{describe(source)} is not in the hub's cache, and HF_HUB_OFFLINE forbids to fetch it",
            hint="unset HF_HUB_OFFLINE, or copy the cache folder from another machine",
        )
    access = _Access(os.environ.get("HF_ENDPOINT", "").rstrip("/") or _ENDPOINT, _login())
    exact = replace(source, file=_file(source, access))
    present = cached_parts(exact)
    if present:
        return present[0]
    parts = parts_of(exact.file)
    promised = entry.sha256 if len(parts) == 1 else None
    paths = [_fetch_file(replace(exact, file=part), promised, access, progress) for part in parts]
    return paths[0]


def _login() -> str | None:
    named = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    if named:
        return named.strip()
    place = Path(os.environ.get("HF_TOKEN_PATH") or hub_home() / "token").expanduser()
    if not place.is_file():
        return None
    with storage_errors(place, "read"):
        return place.read_text().strip() or None


def _file(source: HuggingFace, access: _Access) -> str:
    if names_file(source.file):
        return source.file
    from huggingface_hub import HfApi

    api = HfApi(endpoint=access.endpoint, token=access.login or False, library_name="llorch")
    with _hub_errors(source):
        files = api.list_repo_files(source.repo, revision=source.revision)
    chosen = choose_file(files, source.file)
    if chosen is None:
        ggufs = ", ".join(sorted(file for file in files if names_file(file))) or "none"
        raise DownloadFailed(
            f"{source.repo} has no {source.file or 'GGUF'} file",
            hint=f"its GGUF files: {ggufs[:500]}",
        )
    return chosen


def _fetch_file(
    source: HuggingFace, promised: str | None, access: _Access, progress: Progress
) -> Path:
    metadata = _metadata(source, access)
    etag = metadata.etag or ""
    # It becomes a file's name, and it was sent by another machine.
    if not _ETAG.fullmatch(etag):
        raise DownloadFailed(
            f"{describe(source)}: the hub sent no usable ETag",
            hint="check HF_ENDPOINT and the proxy: something between changes the answers",
        )
    wanted = _wanted(source, promised, metadata, progress)
    _bring_blob(source, etag, wanted, access, progress)
    return _link(source, access)


def _wanted(
    source: HuggingFace, promised: str | None, metadata: HfFileMetadata, progress: Progress
) -> Wanted:
    theirs = metadata.etag if is_sha256(metadata.etag) else None
    if promised and theirs and promised != theirs:
        raise ChecksumMismatch(
            f"{describe(source)} is now another file: the hub says SHA-256 {theirs}, "
            f"the catalog {promised}",
            hint="name the revision that has the right file: hf:org/repo@revision:file",
        )
    if not (promised or theirs):
        progress.note(f"{describe(source)}: the hub tells no SHA-256, only the size is checked")
    # The library's own name for a begun blob, so that its tools show and clear ours too.
    return Wanted(describe(source), metadata.size, promised or theirs, ".incomplete")


def _bring_blob(
    source: HuggingFace, etag: str, wanted: Wanted, access: _Access, progress: Progress
) -> None:
    folder = repo_folder(source.repo)
    blob = folder / "blobs" / etag
    # The library's own lock for this blob: other programs may be fetching it as well.
    lock = cache_folder() / ".locks" / folder.name / etag
    with storage_errors(lock, "make the folder of"):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(
        lock,
        on_wait=lambda: progress.note(f"{wanted.what}: another program fetches it, waiting"),
        tick=lambda: progress.advance(0),
    ):
        if not blob.exists():
            transfer.fetch(lambda: _address(source, access), blob, wanted, progress)


def _address(source: HuggingFace, access: _Access) -> transfer.Address:
    url = _metadata(source, access).location
    return transfer.Address(url, access.headers_for(url))


def _metadata(source: HuggingFace, access: _Access) -> HfFileMetadata:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(source.repo, source.file, revision=source.revision, endpoint=access.endpoint)
    with _hub_errors(source):
        return get_hf_file_metadata(
            url, token=access.login or False, endpoint=access.endpoint, library_name="llorch"
        )


def _link(source: HuggingFace, access: _Access) -> Path:
    from huggingface_hub import hf_hub_download

    with _hub_errors(source):
        path = hf_hub_download(
            source.repo,
            source.file,
            revision=source.revision,
            cache_dir=cache_folder(),
            endpoint=access.endpoint,
            token=access.login or False,
            library_name="llorch",
        )
    return Path(path)


@contextmanager
def _hub_errors(source: HuggingFace) -> Iterator[None]:
    """Turn what the library raises into errors of llorch's, one line each."""
    try:
        yield
    except LlorchError:
        raise
    except Exception as error:  # the library documents no common base of what it raises
        raise _translated(error, source) from error


def _translated(error: Exception, source: HuggingFace) -> LlorchError:
    from huggingface_hub import errors as hub

    what = describe(source)
    page = f"https://huggingface.co/{source.repo}"
    told: tuple[tuple[type[Exception], str, str], ...] = (
        (hub.GatedRepoError, "is gated", f"accept its licence at {page}, then set HF_TOKEN"),
        (
            hub.RepositoryNotFoundError,
            "does not exist, or is private",
            "check the name; for a private one set HF_TOKEN",
        ),
        (hub.RevisionNotFoundError, "has no such revision", f"see {page}"),
        (hub.EntryNotFoundError, "has no such file", f"see {page}/tree/main"),
        (hub.OfflineModeIsEnabled, "cannot be fetched: HF_HUB_OFFLINE is set", "unset it"),
    )
    for kind, words, hint in told:
        if isinstance(error, kind):
            return DownloadFailed(f"{what} {words}", hint=hint)
    if isinstance(error, hub.HfHubHTTPError):
        return DownloadFailed(f"{what}: the hub answered {_status(error)}", hint="try again later")
    if isinstance(error, OSError) and error.errno is not None and error.filename:
        return storage_error(error, Path(error.filename), "write")
    return DownloadFailed(
        f"{what}: the hub was not reached ({type(error).__name__})",
        hint="check the network, the proxy and HF_ENDPOINT",
    )


def _status(error: Any) -> str:
    code = error.response.status_code
    hints = {401: " (HF_TOKEN is wrong)", 403: " (not allowed)", 429: " (too many requests)"}
    return f"{code}{hints.get(code, '')}"
