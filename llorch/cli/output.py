"""Stdout for data that must arrive whole and at once, whatever reads it.

Python's own text layer gives up in the middle when it inherited a non-blocking descriptor (from ssh
or a script engine) and the reader is slow. This writes to the descriptor itself and waits.
"""

from __future__ import annotations

import os
import select
import sys

from llorch.errors import LlorchError


class Output:
    """Writes whole texts to a file descriptor at once, unbuffered, whatever mode it is in."""

    def __init__(self, descriptor: int, encoding: str = "utf-8") -> None:
        self._descriptor = descriptor
        self._encoding = encoding

    def write(self, text: str) -> None:
        """Return when all is written. Raises BrokenPipeError."""
        self.write_bytes(text.encode(self._encoding, "replace"))

    def write_bytes(self, data: bytes) -> None:
        """The same for bytes."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # inherited in non-blocking mode, and full
                select.select([], [self._descriptor], [])

    def is_terminal(self) -> bool:
        """Whether someone looks at it."""
        return os.isatty(self._descriptor)


def stdout_output() -> Output:
    """The process's own stdout. Raises LlorchError where it was closed before the start."""
    if sys.stdout is None:
        raise LlorchError("stdout is closed, so there is nowhere to write the answer to")
    sys.stdout.flush()
    return Output(sys.stdout.fileno(), sys.stdout.encoding)
