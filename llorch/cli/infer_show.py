"""The two forms of an answer: plain text with statistics, or one JSON line per event.

Text ends with a line break in any case, so that the next prompt of a shell stands where it should;
nothing else is added to what the model said.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from llorch.cli.style import DIM, can_move, styled

if TYPE_CHECKING:
    from collections.abc import Callable

    from llorch.cli.output import Output
    from llorch.net.control import StreamedEvent


# Shorter prompts are read before anybody could read the line.
LONG_PROMPT_TOKENS = 256


class Shower(Protocol):
    """Shows the events of one task to the user."""

    def show(self, event: StreamedEvent) -> None:
        """One event, in order."""

    def broken(self) -> None:
        """No more will come, and the last event is missing; an error message follows."""

    def interrupted(self, last: StreamedEvent | None) -> None:
        """The user pressed Ctrl-C. last: how the task ended, if that was told."""


class JsonShower:
    """One JSON object per line: `event`, `id`, and the event's own data."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, event: StreamedEvent) -> None:
        """Write the line."""
        line = {"event": event.event, "id": event.id, **event.data}
        self._output.write(json.dumps(line, ensure_ascii=False) + "\n")

    def broken(self) -> None:
        """Nothing to put right: each line is whole."""

    def interrupted(self, last: StreamedEvent | None) -> None:
        """Write the last line, so that a program knows that the task is over."""
        if last is not None:
            self.show(last)


class TextShower:
    """The text on stdout as it is made; on stderr where it stands and, at the end, statistics.

    eyes: stderr. quiet: nothing there. clock: seconds, for the time to the first token.
    """

    def __init__(
        self,
        output: Output,
        eyes: TextIO | None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output = output
        self._eyes = None if quiet else eyes
        self._clock = clock
        self._started = clock()
        self._first_token: float | None = None
        self._line_open = False
        self._status_shown = False

    def show(self, event: StreamedEvent) -> None:
        """Write what the event says, where it belongs."""
        if event.event == "token":
            self._text(str(event.data.get("t", "")))
        elif event.event == "queued" and event.data.get("queue_position"):
            self._status(f"waiting, number {event.data['queue_position']} in the queue")
        elif event.event == "progress":
            done, total = event.data.get("prompt_done", 0), event.data.get("prompt_total", 0)
            if total >= LONG_PROMPT_TOKENS:
                self._status(f"reading the prompt: {done} of {total} tokens")
        elif event.event in {"end", "error"}:
            self._close_line()
        if event.event == "end" and self._eyes is not None:
            self._eyes.write(styled(self._statistics(event.data), DIM, self._eyes) + "\n")
            self._eyes.flush()

    def broken(self) -> None:
        """End the line, so that the error stands on its own."""
        self._close_line()

    def interrupted(self, _last: StreamedEvent | None) -> None:
        """On a terminal end the line; a pipe's reader gets exactly what was said."""
        self._clear_status()
        if self._output.is_terminal():
            self._close_line()

    def _text(self, text: str) -> None:
        if not text:
            return
        self._clear_status()
        if self._first_token is None:
            self._first_token = self._clock()
        self._output.write(text)
        self._line_open = not text.endswith("\n")

    def _close_line(self) -> None:
        self._clear_status()
        if self._line_open:
            self._line_open = False
            self._output.write("\n")

    def _status(self, text: str) -> None:
        """A line that the next one overwrites, on a terminal only, until the answer begins."""
        if self._eyes is not None and can_move(self._eyes) and self._first_token is None:
            self._eyes.write(f"\r\x1b[K{text}")
            self._eyes.flush()
            self._status_shown = True

    def _clear_status(self) -> None:
        if self._status_shown and self._eyes is not None:
            self._eyes.write("\r\x1b[K")
            self._eyes.flush()
            self._status_shown = False

    def _statistics(self, end: dict[str, Any]) -> str:
        tokens = end.get("tokens_out", 0)
        parts = [f"{tokens} token{'' if tokens == 1 else 's'}"]
        speed = _tokens_per_second(end)
        if speed is not None:
            parts.append(f"{speed:.1f} tokens/s")
        if self._first_token is not None:
            parts.append(f"first token after {self._first_token - self._started:.2f} s")
        parts.append(f"stop reason: {end.get('stop_reason', 'unknown')}")
        return ", ".join(parts)


def _tokens_per_second(end: dict[str, Any]) -> float | None:
    """What the worker measured, else what its numbers give."""
    if isinstance(end.get("tokens_per_second"), (int, float)):
        return float(end["tokens_per_second"])
    decode_ms, tokens = end.get("decode_ms"), end.get("tokens_out")
    if isinstance(decode_ms, (int, float)) and isinstance(tokens, int) and decode_ms > 0:
        return tokens * 1000 / float(decode_ms)
    return None
