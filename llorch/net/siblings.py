"""All open connections of a server, so that they can be counted and closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol


class Sibling(Protocol):
    """A connection, as far as closing goes."""

    def close_if_idle(self) -> None:
        """Close unless a request is being answered."""

    def abort(self) -> None:
        """Close at once."""


class Siblings:
    """All open connections of a server. `closing`: it takes no more requests."""

    def __init__(self) -> None:
        self.closing = False
        self.on_empty: Callable[[], None] | None = None
        self._connections: set[Sibling] = set()

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Sibling]:
        return iter(list(self._connections))

    def add(self, connection: Sibling) -> None:
        """A connection was opened."""
        self._connections.add(connection)

    def remove(self, connection: Sibling) -> None:
        """A connection was closed."""
        self._connections.discard(connection)
        if not self._connections and self.on_empty is not None:
            self.on_empty()
