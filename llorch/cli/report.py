"""Errors as text: `Error: ...`, the faults one per line, `Try: ...`, on stderr."""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING

from llorch.cli.style import BOLD, RED, styled

if TYPE_CHECKING:
    from llorch.errors import Fault, LlorchError

EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141


def show_error(error: LlorchError) -> int:
    """Print an error and return its exit code."""
    if os.environ.get("LLORCH_DEBUG"):
        traceback.print_exception(error)
    _write(error.message, error.hint, [_fault_line(f) for f in error.faults])
    return error.exit_code


def _fault_line(fault: Fault) -> str:
    """The sentence, with the field before it unless it names the field itself."""
    named = fault.message.startswith(fault.field.rpartition(".")[2])
    return fault.message if named else f"{fault.field}: {fault.message}"


def show_unexpected(error: Exception) -> int:
    """Print what nobody foresaw in one line and return 1; all of it where LLORCH_DEBUG is set."""
    if os.environ.get("LLORCH_DEBUG"):
        traceback.print_exception(error)
    said = " ".join(str(error).split())
    message = f"{type(error).__name__}: {said}" if said else type(error).__name__
    _write(message, "run again with LLORCH_DEBUG=1 for the traceback", [])
    return 1


def _write(message: str, hint: str, faults: list[str]) -> None:
    lines = [f"{styled('Error:', RED)} {message}", *(f"  {fault}" for fault in faults)]
    if hint:
        lines.append(f"{styled('Try:', BOLD)} {hint}")
    try:
        sys.stderr.write("\n".join(lines) + "\n")
        sys.stderr.flush()
    except (OSError, AttributeError, ValueError):
        return  # nobody reads stderr; the exit code still tells


def silence_stdout() -> None:
    """Let Python's own flush at exit go nowhere: its reader is gone and has been reported."""
    if sys.stdout is None:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
