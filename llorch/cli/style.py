"""Colour and where it is wanted. Kept apart from render so that an error needs no slow import."""

from __future__ import annotations

import os
import sys
from typing import TextIO

RED, GREEN, YELLOW, BOLD, DIM = "1;31", "32", "33", "1", "2"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether someone looks at this stream."""
    return stream is not None and not stream.closed and stream.isatty()


def can_move(stream: TextIO | None) -> bool:
    """Whether it is a terminal on which a line can be written over."""
    return is_terminal(stream) and os.environ.get("TERM", "") != "dumb"


def colour_wanted(stream: TextIO | None) -> bool:
    """Colour only on a terminal that can show it, and never where NO_COLOR is set."""
    return can_move(stream) and not os.environ.get("NO_COLOR")


def styled(text: str, code: str, stream: TextIO | None = None) -> str:
    """The text in a colour, if the stream (default: stderr) should have it."""
    wanted = colour_wanted(sys.stderr if stream is None else stream)
    return f"\x1b[{code}m{text}\x1b[0m" if wanted else text
