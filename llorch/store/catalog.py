"""The models this machine knows: those that came with llorch and those its user registered."""

from __future__ import annotations

from pathlib import Path

from llorch.store.entries import ModelEntry

DEFAULT_MODEL = "smollm2-135m"


def entries() -> tuple[ModelEntry, ...]:
    """Every model this machine knows: the built-in ones, then the user's in order of registering.

    Raises StoreFailed when the catalog file is damaged, newer than this llorch or unreadable.
    """
    raise NotImplementedError


def find(model_id: str) -> ModelEntry:
    """The entry of this id. Raises ModelNotFound, with near matches in its hint, and StoreFailed."""
    raise NotImplementedError


def register(
    model_id: str,
    *,
    path: Path | None = None,
    repo: str | None = None,
    file: str | None = None,
    revision: str | None = None,
    url: str | None = None,
    sha256: str | None = None,
    name: str = "",
    licence: str = "",
) -> ModelEntry:
    """Add an entry with one source: a path, or a hub repository and file, or a URL.

    Raises UsageError (bad id, not exactly one source, bad repository, URL or hash), Conflict (the
    id is taken), ModelFileInvalid (the path is no readable file), StoreFailed and NoSpace.
    """
    raise NotImplementedError


def unregister(model_id: str) -> ModelEntry:
    """Forget an entry of the user's and return it. A file of the user's own is never touched.

    Raises ModelNotFound, UsageError (the entry is built in), StoreFailed and NoSpace.
    """
    raise NotImplementedError
