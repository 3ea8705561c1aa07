"""What a shell may offer for an id. Only what is known without network and without much work."""

from __future__ import annotations

from llorch.errors import LlorchError


def model_ids(incomplete: str) -> list[str]:
    """Ids of the catalog that begin so; none where the catalog cannot be read."""
    from llorch.store import catalog

    try:
        return [entry.id for entry in catalog.entries() if entry.id.startswith(incomplete)]
    except LlorchError:
        return []


def worker_ids(incomplete: str) -> list[str]:
    """Ids of background workers that begin so; none where the records cannot be read."""
    from llorch.store import workers

    try:
        return [r.id for r in workers.records() if r.id.startswith(incomplete)]
    except LlorchError:
        return []
