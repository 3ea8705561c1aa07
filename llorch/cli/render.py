"""Facts as text: tables, sizes, ages, JSON. What goes to stdout comes through here.

A table keeps whole cells when it is written to a file or a pipe; on a terminal too narrow for it
the widest columns are cut, with an ellipsis. Never the first, which holds the id, nor a last one of
addresses or paths: half of one is worth nothing, and as the last it may run into the next line.
"""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from llorch.cli.style import BOLD, is_terminal, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = 2
_NARROWEST = 6
_WHOLE = {"URL", "PATH"}
_UNITS = ("B", "kB", "MB", "GB", "TB")


def size(byte_count: float | None) -> str:
    """98362432 -> `98.4 MB`: decimal units, three digits. None -> `?`."""
    if byte_count is None:
        return "?"
    value, unit = float(byte_count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {_UNITS[unit]}"


def age(seconds: float) -> str:
    """A length of time in its largest whole unit: `45 s`, `3 min`, `2 h`, `9 d`."""
    for unit_seconds, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_seconds:
            return f"{int(seconds // unit_seconds)} {unit}"
    return f"{max(0, int(seconds))} s"


def print_json(value: Any) -> None:
    """One JSON document on stdout, indented."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout."""
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    lines = table_lines(headings, rows, width)
    sys.stdout.write(styled(lines[0], BOLD, sys.stdout) + "\n")
    sys.stdout.writelines(f"{line}\n" for line in lines[1:])


def table_lines(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None
) -> list[str]:
    """The lines of a table, headings first, none longer than `width` where that is possible."""
    cells = [[_one_line(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(headings))]
    if width is not None:
        _shrink(widths, width, len(headings) - (headings[-1] in _WHOLE))
    return [
        (" " * _GAP).join(_fit(c, w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _shrink(widths: list[int], width: int, end: int) -> None:
    """Take from the widest column but the first and those from `end` on, one at a time, until all
    fits. Nothing is taken where even the narrowest columns would leave the table too wide."""
    over = sum(widths) + _GAP * (len(widths) - 1) - width
    if over > sum(max(0, w - _NARROWEST) for w in widths[1:end]) and end < len(widths):
        return
    for _ in range(over):
        widest = max(range(1, end), key=lambda column: widths[column], default=0)
        if widest == 0 or widths[widest] <= _NARROWEST:
            return
        widths[widest] -= 1


def _one_line(cell: str) -> str:
    """No cell may break the table or steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in str(cell))


def _width(text: str) -> int:
    """How many places of a terminal the text takes: East Asian letters two, accents none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _fit(cell: str, width: int) -> str:
    """The cell in exactly so many places, cut or filled up."""
    if _width(cell) > width:
        while _width(cell) >= width:
            cell = cell[:-1]
        cell += "…"
    return cell + " " * (width - _width(cell))


def say(text: str) -> None:
    """A line for eyes, on stderr: stdout holds data only."""
    sys.stderr.write(f"{text}\n")
