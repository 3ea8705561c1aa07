"""Progress of downloads and waits, on stderr: a bar where somebody looks, else a line now and then.

Both obey `llorch.store.progress.Progress`.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from llorch.cli.render import size
from llorch.cli.style import colour_wanted, is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llorch.store.progress import Progress

SECONDS_BETWEEN_LINES = 5.0


class LineProgress:
    """Plain lines: one at the start of each stretch and one every few seconds, for logs."""

    def __init__(self, stream: TextIO, clock: Any = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._what = ""
        self._total: int | None = None
        self._done = 0
        self._next_line = 0.0

    def start(self, total_bytes: int | None, what: str) -> None:
        """Say what begins."""
        self._what, self._total, self._done = what, total_bytes, 0
        self._next_line = self._clock() + SECONDS_BETWEEN_LINES
        self._write(f"{what} ({size(total_bytes)})" if total_bytes else what)

    def advance(self, byte_count: int) -> None:
        """Say how far it is, if the last line is some seconds old."""
        self._done += byte_count
        if self._clock() < self._next_line:
            return
        self._next_line = self._clock() + SECONDS_BETWEEN_LINES
        share = (
            f" of {size(self._total)} ({self._done * 100 // self._total} %)" if self._total else ""
        )
        self._write(f"{self._what}: {size(self._done)}{share}")

    def note(self, text: str) -> None:
        """Say it."""
        self._write(text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except OSError:
            return  # the work is what matters, not who watches it


class BarProgress:
    """A bar on a terminal, drawn by rich."""

    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task: Any = None

    def start(self, total_bytes: int | None, what: str) -> None:
        """Begin a new bar; the last one stays as it ended."""
        self._task = self._bars.add_task(what, total=total_bytes)

    def advance(self, byte_count: int) -> None:
        """Draw the bar further."""
        if self._task is not None:
            self._bars.advance(self._task, byte_count)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)


@contextmanager
def shown_progress(quiet: bool = False) -> Iterator[Progress]:
    """The progress that suits stderr, for the time of one piece of work."""
    if quiet:
        from llorch.store.progress import Quiet

        yield Quiet()
    elif is_terminal(sys.stderr):
        with _bars() as bars:
            yield BarProgress(bars)
    else:
        yield LineProgress(sys.stderr)


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True, no_color=not colour_wanted(sys.stderr))


def _bars() -> Any:
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=None),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(compact=True),
        console=_console(),
    )


@contextmanager
def spinner(text: str, quiet: bool = False) -> Iterator[None]:
    """A sign of life while something without a measure goes on; one line where nobody looks."""
    if quiet:
        yield
    elif is_terminal(sys.stderr):
        from rich.markup import escape

        with _console().status(escape(text)):
            yield
    else:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
        yield
