"""Reading the pages: sections, tables, code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(page: str, heading: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    level = re.search(rf"^(#+) {re.escape(heading)}$", page, re.MULTILINE)
    assert level, f"there is no heading {heading!r}"
    end = re.compile(rf"^#{{1,{len(level[1])}}} ", re.MULTILINE).search(page, level.end())
    return page[level.end() : end.start() if end else len(page)]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every row of the tables in a text, heads and rules left out."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        is_rule = set(line) <= set("|-: ")
        before_rule = number + 1 < len(lines) and set(lines[number + 1]) <= set("|-: ") != set()
        if line.startswith("|") and not is_rule and not (before_rule and lines[number + 1]):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def coded(text: str) -> list[str]:
    """What stands in backticks within a line; blocks of code are left out."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def shell_lines(page: str) -> Iterator[str]:
    """Command lines in code blocks: after `$ `, or in a block without a prompt at their start."""
    for language, block in FENCE.findall(page):
        if language in ("", "sh", "console"):
            for line in block.splitlines():
                yield line.removeprefix("$ ")


def joined(text: str) -> str:
    """The text with its line breaks as spaces."""
    return " ".join(text.split())
