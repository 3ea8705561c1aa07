"""Files that are whole or not there, however many processes write and whenever one dies.

Theory of operation. Every change happens under an advisory lock (flock on a file beside it), which
the system drops when its holder dies, so a dead holder never blocks. The new content goes to a
temporary file in the same folder, is forced to the disk and renamed over the old: a reader sees the
old or the new, never half of one, and needs no lock. Whoever holds the lock knows that temporaries
of that name are left over from the dead, and deletes them.

A document is JSON with a `version`. A newer version or a damaged file is refused with words and
never written over: it may hold what somebody still wants.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

from llorch.errors import NoSpace, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")
_POLL_SECONDS = 0.1
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an OSError inside into NoSpace (disk or quota full) or StoreFailed that names `path`.

    doing: the verb phrase of the message, such as "write".
    """
    try:
        yield
    except OSError as error:
        raise storage_error(error, path, doing) from error


def storage_error(error: OSError, path: Path, doing: str) -> StoreFailed:
    """The error in words: what could not be done, to which path, and what to try."""
    if error.errno in _FULL:
        return NoSpace(f"cannot {doing} {path}: the disk is full", hint="free some space there")
    hints = {
        errno.EACCES: "check who owns it, or set LLORCH_HOME to a folder of your own",
        errno.EPERM: "check who owns it, or set LLORCH_HOME to a folder of your own",
        errno.EROFS: "the file system is read-only: set LLORCH_HOME to a folder elsewhere",
    }
    words = error.strerror or str(error)
    return StoreFailed(f"cannot {doing} {path}: {words}", hint=hints.get(error.errno or 0, ""))


@contextmanager
def locked(
    path: Path, *, on_wait: Callable[[], None] | None = None, tick: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold the lock that belongs to `path` (a file beside it, `PATH.lock`).

    on_wait: called once when another holds it. tick: called several times a second while waiting;
    what it raises ends the wait. Raises StoreFailed and NoSpace where the lock file cannot be made.
    """
    lock_path = path.with_name(path.name + ".lock")
    with storage_errors(lock_path, "lock"):
        handle = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _acquire(handle, on_wait, tick)
        yield
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put `data` at `path`, whole or not at all. Raises NoSpace and StoreFailed."""
    with locked(path):
        replace(path, data, mode=mode)


def replace(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Like `write_atomic`, for a caller who already holds the lock of `path`."""
    drop_temporaries(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(path, "write"):
        try:
            with open_new(temporary, mode) as stream:
                stream.write(data)
                settle(stream)
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def open_new(path: Path, mode: int = 0o644) -> IO[bytes]:
    """A new empty file to write to: one of two seams through which the store writes."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    return os.fdopen(handle, "wb")


def open_to_append(path: Path) -> IO[bytes]:
    """A file to read and to write at the end of, made where it is not there: the other seam."""
    return path.open("ab+")


def settle(stream: IO[bytes]) -> None:
    """Force what was written to the disk, so that a rename cannot overtake it."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Force a rename in this folder to the disk."""
    with storage_errors(folder, "write to"):
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def drop_temporaries(path: Path) -> None:
    """Delete what dead writers of `path` left; its lock must be held."""
    with storage_errors(path.parent, "clean"):
        for left_over in path.parent.glob(f".{path.name}.*.tmp"):
            left_over.unlink(missing_ok=True)


def read_document(path: Path, version: int) -> dict[str, Any]:
    """The JSON object at `path`; empty where there is no file.

    Raises StoreFailed when it is damaged, of a newer version, or unreadable.
    """
    with storage_errors(path, "read"):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return {}
    return _parse_document(path, data, version)


def update_document(path: Path, version: int, change: Callable[[dict[str, Any]], T]) -> T:
    """Read, change in place and write the document under its lock; returns what `change` returns.

    When `change` raises, nothing is written. Raises StoreFailed (also when the present file is
    damaged or newer, which leaves it as it is) and NoSpace.
    """
    with locked(path):
        body = read_document(path, version)
        before = json.dumps(body)
        answer = change(body)
        if json.dumps(body) != before:
            text = json.dumps({"version": version, **body}, indent=1, ensure_ascii=False)
            replace(path, text.encode() + b"\n")
        return answer


def _acquire(
    handle: int, on_wait: Callable[[], None] | None, tick: Callable[[], None] | None
) -> None:
    if _try_lock(handle):
        return
    if on_wait:
        on_wait()
    while not _try_lock(handle):
        time.sleep(_POLL_SECONDS)
        if tick:
            tick()


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parse_document(path: Path, data: bytes, version: int) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError:
        document = None
    found = document.get("version") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(found, int):
        raise damaged(path)
    if found > version:
        raise StoreFailed(
            f"{path} was written by a newer llorch (its version is {found}, known is {version})",
            hint="use that newer llorch here too, or set LLORCH_HOME to another folder",
        )
    del document["version"]
    return document


def damaged(path: Path) -> StoreFailed:
    """The error for a file of llorch's own that is not what llorch writes."""
    return StoreFailed(
        f"{path} is damaged and was left as it is",
        hint="repair it, or move it away to start without it",
    )
