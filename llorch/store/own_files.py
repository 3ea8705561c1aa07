"""The model files that llorch keeps itself: those that came from a wheel or a URL.

They lie in one folder per model id, under the name they had at their source. What is in the middle
of arriving lies beside them under other names; a file under its final name is whole and checked.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from llorch.store.entries import ModelEntry, PyPiWheel, Url
from llorch.store.files import storage_errors
from llorch.store.paths import models_dir

if TYPE_CHECKING:
    from pathlib import Path


def own_place(entry: ModelEntry, source: PyPiWheel | Url) -> Path:
    """Where the entry's file lies once it has been fetched from this source; makes no folder."""
    address = source.member if isinstance(source, PyPiWheel) else urlsplit(source.url).path
    name = unquote(address).rsplit("/", 1)[-1].lstrip(".") or f"{entry.id}.gguf"
    return models_dir() / entry.id / name.replace("\0", "")


def remove_own(model_id: str) -> int:
    """Delete everything kept for this id, begun downloads too; returns the bytes freed."""
    folder = models_dir() / model_id
    if not folder.is_dir():
        return 0
    with storage_errors(folder, "delete"):
        freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        shutil.rmtree(folder)
    return freed
