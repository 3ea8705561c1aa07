"""Shows a log file, and with -f what is added to it, as `tail -F` does."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from llorch.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

POLL_SECONDS = 0.2
_BLOCK_BYTES = 65_536


def log_blocks(path: Path, still_running: Callable[[], bool] | None) -> Iterator[bytes]:
    """The bytes of a log from its start. still_running: None shows what is there and ends; else
    the log is followed until this turns False and all that was written before is shown.

    A log that became shorter was emptied, one with another inode was replaced: both are shown from
    their start. Raises NotFound where there is no log at the beginning.
    """
    place, identity = 0, _identity(path)
    if identity is None:
        raise NotFound(f"there is no log at {path}")
    while True:
        # Asked before reading: what a worker wrote before it ended must not be missed.
        ended = still_running is None or not still_running()
        now = _identity(path)
        if now is not None and (now[0] != identity[0] or now[1] < place):
            place, identity = 0, now
        for block in _blocks_from(path, place):
            place += len(block)
            yield block
        if ended:
            return
        time.sleep(POLL_SECONDS)


def _identity(path: Path) -> tuple[int, int] | None:
    """Inode and length of the file; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size


def _blocks_from(path: Path, place: int) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.lseek(descriptor, place, os.SEEK_SET)
        while block := os.read(descriptor, _BLOCK_BYTES):
            yield block
    finally:
        os.close(descriptor)
