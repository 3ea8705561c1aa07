"""Where the prompt comes from: arguments, stdin, or both.

    1. `--prompt -`       stdin, to its end, in this place; several --prompt are parts of one prompt
    2. `--prompt TEXT`    the text, then whatever is on stdin already, as in `infer --prompt
                          'Summarise:' < notes.txt`
    3. no --prompt        what is on stdin already

Parts are joined by an empty line; line breaks at the end of stdin are dropped, as `$(...)` does.
"On stdin already" keeps a command from hanging under cron, in a loop or over ssh, where stdin may
be a pipe that nobody writes to or closes: a terminal and /dev/null are never read, a file is read,
and a pipe or socket is read if its first byte comes within half a second. A slower writer needs
`--prompt -`, which waits; a pipe that stayed silent is told to the user.
"""

from __future__ import annotations

import os
import select
import stat
from typing import TYPE_CHECKING, TextIO

from llorch.cli.style import is_terminal
from llorch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIRST_BYTE_SECONDS = 0.5
_HOW = "--prompt TEXT, or --prompt - to read stdin"


def assemble_prompt(parts: Sequence[str], stdin: TextIO | None, note: Callable[[str], None]) -> str:
    """The prompt. note: told, in a sentence, when a silent pipe was not waited for.

    Raises UsageError where there is no prompt, or stdin cannot be read as UTF-8 text.
    """
    if parts.count("-") > 1:
        raise UsageError("stdin can be only one part of the prompt", hint="--prompt - once")
    if "-" in parts:
        texts = [_read_all(_readable(stdin)) if part == "-" else part for part in parts]
    else:
        texts = [*parts, _read_if_there(stdin, note if parts else lambda _: None)]
    prompt = "\n\n".join(text for text in texts if text)
    if not prompt:
        raise UsageError("stdin is empty" if "-" in parts else "there is no prompt", hint=_HOW)
    if not _is_text(prompt):
        raise UsageError("the prompt is not UTF-8 text")
    return prompt


def _is_text(prompt: str) -> bool:
    """Bytes of an argument that are no UTF-8 arrive as lone surrogates, which nothing can send."""
    return not any("\ud800" <= character <= "\udfff" for character in prompt)


def _readable(stdin: TextIO | None) -> TextIO:
    if stdin is None or stdin.closed:
        raise UsageError("stdin is closed", hint="pipe the prompt in, or --prompt TEXT")
    if is_terminal(stdin):
        raise UsageError(
            "stdin is a terminal", hint="pipe the prompt in: echo Hello | llorch infer --prompt -"
        )
    return stdin


def _read_if_there(stdin: TextIO | None, note: Callable[[str], None]) -> str:
    if stdin is None or stdin.closed or is_terminal(stdin):
        return ""
    mode = os.fstat(stdin.fileno()).st_mode
    if stat.S_ISREG(mode):
        return _read_all(stdin)
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return ""
    if select.select([stdin], [], [], FIRST_BYTE_SECONDS)[0]:
        return _read_all(stdin)
    note("nothing on stdin, so --prompt is all (to wait for stdin add --prompt -)")
    return ""


def _read_all(stdin: TextIO) -> str:
    data = stdin.buffer.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"stdin is not UTF-8 text (byte {error.start})", hint="iconv -t UTF-8"
        ) from error
    return text.replace("\r\n", "\n").rstrip("\n")
