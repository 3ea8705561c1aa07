"""A model that a command needs: its name, and its file, downloaded if it is not here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def model_file(model: str, engine: str, quiet: bool = False) -> tuple[str, Path | None]:
    """The name under which the model is served, and its file; the echo engine needs none.

    Raises ModelNotFound, ModelFileInvalid, DownloadFailed, UsageError, StoreFailed and NoSpace.
    """
    if engine == "echo":
        return model, None
    from llorch.cli.progress import shown_progress
    from llorch.store import models

    found = models.resolve(model)
    if found.path is not None:
        return found.name, found.path.absolute()
    with shown_progress(quiet) as progress:
        return found.name, models.fetch(found, progress).absolute()
