"""Settings from `llorch.toml`, one section per command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTIONS = ("serve-orchestrator", "serve-worker", "infer", "pool")


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
    raise NotImplementedError
