"""Settings from `llorch.toml`, one section per command.

    [infer]
    max-tokens = 100

    [pool.worker.spawn]
    model = "smollm2-135m"

The file knows only which commands there are; whether a setting exists is the command's own
knowledge. A section that no command has is an error, because it is most likely a spelling mistake
whose settings would silently do nothing.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llorch.errors import UsageError
from llorch.store.files import storage_errors
from llorch.store.paths import config_dir

if TYPE_CHECKING:
    from collections.abc import Mapping

SECTIONS = ("serve-orchestrator", "serve-worker", "infer", "pool")
FILE_NAME = "llorch.toml"


@dataclass(frozen=True, slots=True)
class Config:
    """The file that was read (None: there is none) and its sections.

    Names of settings have underscores for hyphens, as a command's parameters are called; names of
    sections and sub-sections (`[pool.worker.spawn]`) stay as written. So `sections` is what click
    takes as `default_map`.
    """

    path: Path | None = None
    sections: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def section(self, command: str) -> dict[str, Any]:
        """The settings of one command, empty where the file has none."""
        return dict(self.sections.get(command, {}))


def load_config(explicit: Path | None = None) -> Config:
    """The first of: `explicit`, $LLORCH_CONFIG, ./llorch.toml, llorch.toml of the config folder.

    Raises UsageError with file and line (syntax, unknown section, a named file that is not there)
    and StoreFailed (unreadable).
    """
    path = _named(explicit) or _found()
    if path is None:
        return Config()
    with storage_errors(path, "read"):
        data = path.read_bytes()
    text = _decoded(data, path)
    document = _parsed(text, path)
    for name, value in document.items():
        _check_section(name, value, text, path)
    return Config(path, {name: _settings(value) for name, value in document.items()})


def _named(explicit: Path | None) -> Path | None:
    variable = os.environ.get("LLORCH_CONFIG")
    named = explicit or (Path(variable) if variable else None)
    if named is None:
        return None
    path = named.expanduser()
    if not path.is_file():
        origin = "--config" if explicit else "LLORCH_CONFIG"
        raise UsageError(f"{path} is not a file", hint=f"correct the path given in {origin}")
    return path


def _found() -> Path | None:
    here = Path(FILE_NAME)
    places = (here, config_dir() / FILE_NAME)
    return next((place for place in places if place.is_file()), None)


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line}: not UTF-8 text", hint="save the file as UTF-8") from error


def _parsed(text: str, path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(where[1]) if where else text.count("\n") + 1
        words = re.sub(r" \(at .*\)$", "", str(error))
        raise UsageError(
            f"{path}:{line}: {words}", hint='a setting reads: name = 1, or name = "text"'
        ) from error
    return document


def _check_section(name: str, value: object, text: str, path: Path) -> None:
    if name in SECTIONS and isinstance(value, dict):
        return
    known = ", ".join(f"[{section}]" for section in SECTIONS)
    near = get_close_matches(name, SECTIONS, 1)
    hint = f"did you mean [{near[0]}]?" if near else f"the sections are {known}"
    kind = "section" if isinstance(value, dict) else "setting outside a section"
    raise UsageError(f"{path}:{_line_of(name, text)}: unknown {kind} {name!r}", hint=hint)


def _line_of(name: str, text: str) -> int:
    pattern = re.compile(rf"""^\s*\[*\s*["']?{re.escape(name)}["']?\s*[\].=]""")
    lines = text.splitlines()
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line)), 1)


def _settings(table: dict[str, Any]) -> dict[str, Any]:
    return {
        name if isinstance(value, dict) else name.replace("-", "_"): (
            _settings(value) if isinstance(value, dict) else value
        )
        for name, value in table.items()
    }
