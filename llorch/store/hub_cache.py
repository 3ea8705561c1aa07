"""The standard cache of the Hugging Face hub, read and tidied without importing its library.

    HUB/models--ORG--NAME/refs/REVISION            the commit that a branch or tag stood for
                          snapshots/COMMIT/FILE -> ../../blobs/ETAG
                          blobs/ETAG               of a large file the name is its SHA-256

Other programs share this cache. So a file found here is used, whoever fetched it, and removing a
model takes its own files only: a blob goes when no snapshot points to it any more.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from llorch.store.entries import HuggingFace, is_sha256
from llorch.store.files import storage_errors
from llorch.store.hub_reference import DEFAULT_QUANTISATION, choose_file, names_file, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "models--"


def cache_folder() -> Path:
    """$HF_HUB_CACHE, $HUGGINGFACE_HUB_CACHE or the `hub` folder of `hub_home()`."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(named).expanduser() if named else hub_home() / "hub"


def hub_home() -> Path:
    """$HF_HOME, $XDG_CACHE_HOME/huggingface or ~/.cache/huggingface."""
    named = os.environ.get("HF_HOME")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named or f"{cache}/huggingface").expanduser()


def is_offline() -> bool:
    """Whether the user forbade the hub's network: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE."""
    word = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return word.upper() in {"1", "ON", "YES", "TRUE"}


def repo_folder(repo: str) -> Path:
    """The cache folder of one repository, there or not."""
    return cache_folder() / (_PREFIX + repo.replace("/", "--"))


def cached_parts(source: HuggingFace) -> tuple[Path, ...]:
    """The files of the model in the cache, in order; empty unless all parts are there.

    Where the source leaves the choice open, only a Q4_K_M is surely what the hub would give;
    offline any file that fits will do.
    """
    snapshot = _snapshot(source)
    file = _file_in(snapshot, source) if snapshot else None
    if snapshot is None or file is None:
        return ()
    parts = tuple(snapshot / part for part in parts_of(file))
    return parts if all(part.is_file() for part in parts) else ()


def promised_sha256(path: Path) -> str | None:
    """The SHA-256 that a cached file should have, from the name of its blob; None where unsaid."""
    name = path.readlink().name if path.is_symlink() else ""
    return name if is_sha256(name) else None


def cached_models() -> Iterator[tuple[HuggingFace, tuple[Path, ...]]]:
    """Every whole GGUF model in the cache with its parts, each under the revision it was got as."""
    for folder in sorted(cache_folder().glob(f"{_PREFIX}*--*")):
        repo = folder.name.removeprefix(_PREFIX).replace("--", "/", 1)
        for revision, snapshot in _revisions(folder):
            for file in _gguf_files(snapshot):
                source = HuggingFace(repo, file, revision)
                parts = cached_parts(source) if file == parts_of(file)[0] else ()
                if parts:
                    yield source, parts


def remove_cached(source: HuggingFace) -> int:
    """Delete the model's files and what only they used; returns the bytes freed."""
    folder = repo_folder(source.repo)
    freed = 0
    with storage_errors(folder, "delete"):
        for part in cached_parts(source):
            blob = _blob_of(part)
            part.unlink()
            if not any(_blob_of(other) == blob for other in _pointers(folder)):
                freed += _size(blob)
                blob.unlink(missing_ok=True)
        _drop_empty(folder)
    return freed


def _snapshot(source: HuggingFace) -> Path | None:
    folder = repo_folder(source.repo)
    reference = folder / "refs" / source.revision
    commit = reference.read_text().strip() if reference.is_file() else source.revision
    snapshot = folder / "snapshots" / commit
    return snapshot if snapshot.is_dir() else None


def _file_in(snapshot: Path, source: HuggingFace) -> str | None:
    if names_file(source.file):
        return source.file
    wanted = source.file if is_offline() else source.file or DEFAULT_QUANTISATION
    return choose_file(_gguf_files(snapshot), wanted)


def _gguf_files(snapshot: Path) -> list[str]:
    return sorted(path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*.gguf"))


def _revisions(folder: Path) -> list[tuple[str, Path]]:
    references = [path for path in sorted((folder / "refs").rglob("*")) if path.is_file()]
    named = [
        (path.relative_to(folder / "refs").as_posix(), path.read_text().strip())
        for path in references
    ]
    commits = {commit for _, commit in named}
    others = [path.name for path in sorted((folder / "snapshots").glob("*"))]
    named += [(commit, commit) for commit in others if commit not in commits]
    return [(revision, folder / "snapshots" / commit) for revision, commit in named]


def _pointers(folder: Path) -> Iterator[Path]:
    return (path for path in (folder / "snapshots").rglob("*") if not path.is_dir())


def _blob_of(pointer: Path) -> Path:
    # Only one step: a blob may itself be a link into a store that other repositories share.
    target = pointer.parent / pointer.readlink() if pointer.is_symlink() else pointer
    return Path(os.path.normpath(target))


def _size(blob: Path) -> int:
    return 0 if blob.is_symlink() or not blob.exists() else blob.stat().st_size


def _drop_empty(folder: Path) -> None:
    snapshots = folder / "snapshots"
    for place in sorted(snapshots.rglob("*"), reverse=True):
        if place.is_dir():
            _rmdir(place)
    for reference in (folder / "refs").rglob("*"):
        if reference.is_file() and not (snapshots / reference.read_text().strip()).is_dir():
            reference.unlink()
    for place in (*sorted((folder / "refs").rglob("*"), reverse=True), *_layout(folder)):
        _rmdir(place)


def _layout(folder: Path) -> tuple[Path, ...]:
    return (folder / "refs", folder / "snapshots", folder / "blobs", folder)


def _rmdir(place: Path) -> None:
    with suppress(OSError):  # it is not empty: something else lives there and stays
        place.rmdir()
