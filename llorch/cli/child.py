"""Arguments for another llorch process that shall do what the user told this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer


def flags(options: dict[str, Any]) -> list[str]:
    """`{"slots": 2}` -> `["--slots", "2"]`. What is None or auto is left out: the child finds its
    own settings, and they must not lose against a default of ours."""
    chosen = {name: value for name, value in options.items() if value not in (None, "auto")}
    return [text for name, value in chosen.items() for text in (f"--{name}", str(value))]


def config_arguments(context: typer.Context) -> list[str]:
    """What makes the child read the settings file that we read, wherever it stands."""
    path = context.find_root().obj.path
    return [] if path is None else ["--config", str(path.absolute())]
