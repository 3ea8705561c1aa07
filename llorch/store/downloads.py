"""One door to every model file: `ensure` finds it here or fetches it from the first source."""

from __future__ import annotations

from pathlib import Path

from llorch.store.entries import ModelEntry
from llorch.store.progress import Progress


def ensure(entry: ModelEntry, progress: Progress) -> Path:
    """The entry's file, fetched where it is not here yet; of a split model the first part.

    Sources are tried in order. Two processes that want the same model: one fetches, the other
    waits (with a note) and uses the result.

    Raises DownloadFailed naming each source's failure (ChecksumMismatch where that was the only
    one), NoSpace with both numbers, ModelFileInvalid (a user's own file is gone), StoreFailed;
    passes on KeyboardInterrupt and whatever `progress.advance` raises.
    """
    raise NotImplementedError
