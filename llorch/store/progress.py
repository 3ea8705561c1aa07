"""How a long piece of work tells the caller that it moves, and how the caller stops it.

The store knows nothing of terminals: the CLI draws a bar, a daemon logs, a test counts. Whatever
`advance` raises ends the work at once and is passed on, so a caller in another thread than the main
one cancels by raising from it. It may be called with 0, as a sign of life,
and before the first `start`.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a download, a check or a wait for another process reports to."""

    def start(self, total_bytes: int | None, what: str) -> None:
        """A new stretch begins: `what` in words, and its size where it is known."""

    def advance(self, byte_count: int) -> None:
        """So many more bytes of the stretch are done; 0 is a sign of life."""

    def note(self, text: str) -> None:
        """One line worth saying: which source failed, whom we wait for."""


class Quiet:
    """The progress of work that nobody watches."""

    def start(self, total_bytes: int | None, what: str) -> None:
        """Say nothing."""

    def advance(self, byte_count: int) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""
