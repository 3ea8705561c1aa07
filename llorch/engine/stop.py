"""Cutting an answer at a stop string, the same way for every engine.

Theory of operation. Pieces of text arrive with the ids of the tokens that made them. A piece may go
out only when no stop string can still begin in it; until then it waits. Pieces leave whole, so that
text and token ids stay in step and an answer can be continued from any piece; only the piece in
which a stop string begins is cut.

Why not the engine's own stop strings: llama.cpp keeps back the text of a possible stop string, too,
but it drops that text when the answer ends on its length limit, and tells fewer token ids.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llorch.core.types import TextMade

if TYPE_CHECKING:
    from collections.abc import Sequence


class StopCutter:
    """Holds pieces back until they are sure to stand before every stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Stops: the stop strings; empty ones are ignored."""
        self.found: str | None = None
        self._stops = tuple(stop for stop in stops if stop)
        self._waiting: list[TextMade] = []

    def push(self, piece: TextMade) -> list[TextMade]:
        """Take the next piece, return what may go out. After `found` is set nothing may follow."""
        if not self._stops and piece.text and not self._waiting:
            return [piece]
        self._waiting.append(piece)
        held = "".join(waiting.text for waiting in self._waiting)
        start, self.found = _first_stop(held, self._stops)
        if self.found is not None:
            return self._release_cut(start)
        return self._release_whole(len(held) - _possible_start(held, self._stops))

    def rest(self) -> list[TextMade]:
        """What still waits when the answer has ended by itself."""
        return self._release_whole(sum(len(waiting.text) for waiting in self._waiting))

    def _release_whole(self, length: int) -> list[TextMade]:
        """Let out the pieces that lie whole within the first `length` characters.

        Tokens without text of their own (control tokens) wait to go with the text after them.
        """
        released: list[TextMade] = []
        end = taken = 0
        for count, waiting in enumerate(self._waiting, 1):
            end += len(waiting.text)
            if end > length:
                break
            if waiting.text:
                released.append(_joined(self._waiting[taken:count]))
                taken = count
        del self._waiting[:taken]
        return released

    def _release_cut(self, length: int) -> list[TextMade]:
        """Let out the first `length` characters; the piece that holds the last one is cut."""
        released = self._release_whole(length)
        rest = length - sum(len(piece.text) for piece in released)
        if rest:
            piece = _joined(_until_text(self._waiting))
            released.append(replace(piece, text=piece.text[:rest]))
        self._waiting.clear()
        return released


def _until_text(pieces: Sequence[TextMade]) -> Sequence[TextMade]:
    """The pieces up to the first that has text."""
    first = next(at for at, piece in enumerate(pieces) if piece.text)
    return pieces[: first + 1]


def _joined(pieces: Sequence[TextMade]) -> TextMade:
    """Several pieces as one: all ids, or none where some are unknown."""
    if len(pieces) == 1:
        return pieces[0]
    known = all(piece.ids for piece in pieces)
    return TextMade(
        text="".join(piece.text for piece in pieces),
        ids=tuple(token for piece in pieces for token in piece.ids) if known else (),
        index=pieces[0].index,
        exact=known and all(piece.exact for piece in pieces),
    )


def _first_stop(text: str, stops: Sequence[str]) -> tuple[int, str | None]:
    """Position and stop string of the earliest match; of two at one place the longer."""
    matches = [(text.find(stop), -len(stop), stop) for stop in stops if stop in text]
    if not matches:
        return -1, None
    start, _, stop = min(matches)
    return start, stop


def _possible_start(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of `text` with which some stop string begins."""
    longest = min(len(text), max(map(len, stops), default=1) - 1)
    for length in range(longest, 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
