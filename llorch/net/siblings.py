"""All open connections of a server, so that they can be counted and closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llorch.net.server import ServerConnection


class Siblings:
    """All open connections of a server. `closing`: it takes no more requests."""

    def __init__(self) -> None:
        self.closing = False
        self.on_empty: Callable[[], None] | None = None
        self._connections: set[ServerConnection] = set()

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[ServerConnection]:
        return iter(list(self._connections))

    def add(self, connection: ServerConnection) -> None:
        """A connection was opened."""
        self._connections.add(connection)

    def remove(self, connection: ServerConnection) -> None:
        """A connection was closed."""
        self._connections.discard(connection)
        if not self._connections and self.on_empty is not None:
            self.on_empty()
