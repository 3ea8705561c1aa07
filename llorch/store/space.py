"""Room on the disk, asked before a download rather than found missing at its end."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from llorch.errors import NoSpace
from llorch.store.files import storage_errors

if TYPE_CHECKING:
    from pathlib import Path

MARGIN_BYTES = 64 * 1024 * 1024
"""What must stay free beside the file: a disk filled to the brim breaks everything else on it."""


def require_space(folder: Path, needed_bytes: int, margin_bytes: int | None = None) -> None:
    """Raises NoSpace with both numbers where the file and the margin do not fit below `folder`."""
    margin = MARGIN_BYTES if margin_bytes is None else margin_bytes
    place = next(place for place in (folder, *folder.parents) if place.exists())
    with storage_errors(place, "measure the space in"):
        free = shutil.disk_usage(place).free
    if free < needed_bytes + margin:
        raise NoSpace(
            f"{in_words(needed_bytes + margin)} are needed in {folder}, {in_words(free)} are free",
            hint="free some space, or set LLORCH_HOME (for hub models HF_HOME) to a larger disk",
            extra={"needed_bytes": needed_bytes + margin, "free_bytes": free},
        )


def in_words(byte_count: int) -> str:
    """The size as people read it: `98.4 MB` (decimal, as disks and hubs count)."""
    size = float(byte_count)
    for unit in ("bytes", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
