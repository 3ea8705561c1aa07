"""One file over http or https, resumed where an earlier try ended.

Theory of operation. Bytes go to a part file beside the target and are hashed on the way. A later
try, in this process or another, hashes what is there and asks for the rest (Range). That rest is
taken only when it surely belongs to the same file: the caller knows the file's SHA-256, so that a
wrong mixture is found at the end, or the server confirms its validator (If-Range). Only a whole and
checked file is renamed to the target.

    connection broken, 408, 429, 5xx   go on from where it broke, a few times, with growing pauses;
                                       progress starts the count anew
    206 at our offset                  append          200            start over
    416                                start over      other 4xx      give up
    wrong SHA-256 after a resume       start over once: the part file may have been damaged
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llorch import __version__
from llorch.errors import DownloadFailed
from llorch.store.files import storage_errors
from llorch.store.part_file import PartFile, Wanted
from llorch.store.space import in_words, require_space

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llorch.store.progress import Progress

TIMEOUT_SECONDS = 30.0
PAUSE_SECONDS = 0.5
_TRIES = 5
_BLOCK_BYTES = 256 * 1024
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the file is right now, with the headers to send there (and nowhere else)."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class _Broken(Exception):
    """The connection ended early, in words; what came so far is kept."""


def fetch(locate: Callable[[], Address], target: Path, wanted: Wanted, progress: Progress) -> str:
    """Bring the file to `target` and return its SHA-256.

    locate: called before each try, because addresses of a content network expire.
    Raises DownloadFailed, ChecksumMismatch, NoSpace and StoreFailed; the part file survives all
    but a mismatch.
    """
    with storage_errors(target.parent, "make the folder"):
        target.parent.mkdir(parents=True, exist_ok=True)
    part = PartFile(target.with_name(target.name + wanted.part_suffix), wanted)
    resumed = part.load()
    try:
        _pull_until_whole(locate, part, wanted, progress)
        if resumed and wanted.sha256 not in {None, part.sha256()}:
            progress.note(f"{wanted.what}: what was here of it was damaged, starting over")
            part.restart()
            _pull_until_whole(locate, part, wanted, progress)
    finally:
        part.close()
    part.finish(target)
    return part.sha256()


def shown(url: str) -> str:
    """The URL without what may be secret in it (a signed query)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _pull_until_whole(
    locate: Callable[[], Address], part: PartFile, wanted: Wanted, progress: Progress
) -> None:
    failures = 0
    while True:
        before = part.size
        try:
            _pull(locate(), part, wanted, progress)
            return
        except _Broken as broken:
            failures = 1 if part.size > before else failures + 1
            if failures >= _TRIES or not (before or part.size):
                raise DownloadFailed(
                    f"cannot fetch {wanted.what}: {broken}",
                    hint="check the network and run the same again: it goes on where it ended",
                ) from broken
            progress.note(f"{wanted.what}: {broken}; going on at {in_words(part.size)}")
            time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def _pull(address: Address, part: PartFile, wanted: Wanted, progress: Progress) -> None:
    try:
        with _open(address, part) as response:
            total = _begin(response, part, wanted, progress)
            while block := response.read1(_BLOCK_BYTES):
                part.write(block)
                progress.advance(len(block))
    except urllib.error.HTTPError as error:
        with error:
            _judge_status(error, address, part)
        raise _Broken(f"the server answered {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(_words(error)) from error
    if total is not None and part.size < total:
        raise _Broken(f"the connection broke at {in_words(part.size)} of {in_words(total)}")
    if total is not None and part.size > total:
        part.restart()
        raise DownloadFailed(f"{wanted.what} is longer than the {total} bytes it should have")


def _open(address: Address, part: PartFile) -> Any:
    headers = {"User-Agent": f"llorch/{__version__}", "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if part.validator:
            headers["If-Range"] = part.validator
    request = urllib.request.Request(address.url, headers=headers)  # noqa: S310
    for name, value in address.headers.items():
        request.add_unredirected_header(name, value)
    return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310


def _begin(response: Any, part: PartFile, wanted: Wanted, progress: Progress) -> int | None:
    """Make the part file fit what the server is about to send; returns the file's whole size."""
    offset, total = 0, _length(response)
    if response.status == 206:
        match = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        offset = int(match[1]) if match else -1
        total = int(match[2]) if match and match[2] != "*" else None
    if offset != part.size:
        part.restart()
        if offset:
            raise _Broken("the server sent another part than the one asked for")
    _check_size(total, wanted)
    part.remember(_validator(response.headers))
    if total is not None:
        require_space(part.path.parent, total - part.size)
    if not part.announced:
        progress.start(total or wanted.size_bytes, wanted.what)
        progress.advance(part.size)
        part.announced = True
    return total if total is not None else wanted.size_bytes


def _check_size(total: int | None, wanted: Wanted) -> None:
    if total is not None and wanted.size_bytes is not None and total != wanted.size_bytes:
        raise DownloadFailed(
            f"the server has {total} bytes under the name of {wanted.what}, "
            f"not the expected {wanted.size_bytes}",
            hint="the file was replaced there: choose another source",
        )


def _judge_status(error: urllib.error.HTTPError, address: Address, part: PartFile) -> None:
    if error.code in _TRY_AGAIN:
        return
    if error.code == 416:
        part.restart()
        return
    hints = {
        401: "the server wants a login: fetch the file yourself and register its path",
        403: "the server refuses: fetch the file yourself and register its path",
        404: "check the address",
    }
    raise DownloadFailed(
        f"{shown(address.url)} answered {error.code} {error.reason}",
        hint=hints.get(error.code, ""),
    ) from error


def _length(response: Any) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _validator(headers: Mapping[str, str]) -> str | None:
    etag = headers.get("ETag")
    # A weak validator may stand for different bytes, so it must not be used to join two halves.
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")


def _words(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        error = reason
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
