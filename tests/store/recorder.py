"""A progress that remembers what it was told, and can cancel like a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Cancelled(Exception):
    """What a caller raises from `advance` to stop."""


class Recorder:
    """stretches: (what, total); done: bytes of the last stretch; moves: every non-zero advance."""

    def __init__(self, on_advance: Callable[[int], None] | None = None) -> None:
        self.stretches: list[tuple[str, int | None]] = []
        self.moves: list[int] = []
        self.notes: list[str] = []
        self.done = 0
        self._on_advance = on_advance

    def start(self, total_bytes: int | None, what: str) -> None:
        self.stretches.append((what, total_bytes))
        self.done = 0

    def advance(self, byte_count: int) -> None:
        self.done += byte_count
        if byte_count:
            self.moves.append(byte_count)
        if self._on_advance:
            self._on_advance(self.done)

    def note(self, text: str) -> None:
        self.notes.append(text)
