"""What a daemon in the foreground says: one line per event with its time, or one JSON line.

For eyes the lines go to stderr. With --json each event is one line on stdout, `{"event": ...}`, and
that is also how `infer` follows the worker that it starts for one answer.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llorch.cli.report import silence_stdout
from llorch.cli.style import BOLD, GREEN, is_terminal, styled
from llorch.errors import LlorchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def log_line(text: str) -> None:
    """One line for eyes, with the local time; in a file, which is read another day, with the date.
    A daemon goes on when its log cannot be written."""
    form = "%H:%M:%S" if is_terminal(sys.stderr) else "%Y-%m-%d %H:%M:%S"
    try:
        sys.stderr.write(f"{time.strftime(form)} {text}\n")
        sys.stderr.flush()
    except OSError:
        return


def json_line(event: str, facts: dict[str, Any]) -> None:
    """One event for a program. A reader that left does not end the daemon either."""
    try:
        sys.stdout.write(json.dumps({"event": event, **facts}, default=str) + "\n")
        sys.stdout.flush()
    except OSError:
        silence_stdout()


def event_sink(as_json: bool, try_line: Callable[[dict[str, Any]], str]) -> Any:
    """The `on_event` of a daemon. try_line: a command to try, made from the facts of `ready`."""

    def show(event: str, facts: dict[str, Any]) -> None:
        if as_json:
            json_line(event, facts)
            return
        details = " ".join(f"{key}={_shown(value)}" for key, value in _flat(facts).items())
        log_line(f"{styled(event, GREEN if event == 'ready' else BOLD)} {details}".rstrip())
        if event == "ready":
            log_line(f"try: {try_line(facts)}")

    return show


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    """Nested facts (those of an engine) beside the others; what is unknown is left out."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return {key: value for key, value in flat.items() if value is not None}


def _shown(value: Any) -> str:
    text = "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return json.dumps(text) if not text or " " in text else text


@contextmanager
def errors_as_events(as_json: bool) -> Iterator[None]:
    """With --json an error is an event too, besides the lines on stderr and the exit code."""
    try:
        yield
    except LlorchError as error:
        if as_json:
            json_line("error", error.as_dict() | {"exit_code": error.exit_code})
        raise
