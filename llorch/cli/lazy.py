"""Command groups that know their commands by name and help line, and import them only to run them.

Importing typer costs 60 ms, a command's own modules as much again. So a group holds stand-ins,
which are enough for `--help` and for shell completion of names; `resolve_command`, which typer
calls when a command runs (or is asked for its own help), swaps the stand-in for the real command.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from llorch import __version__
from llorch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HELP_NAMES = {"help_option_names": ["-h", "--help"]}


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command lives: the `typer.Typer` called `attribute` in `module`, and its help line.

    `help_line` must be what the command's own help begins with; a test compares them.
    """

    module: str
    help_line: str
    attribute: str = "app"


def load(name: str, lazy: Lazy) -> Any:
    """The real command behind a stand-in, with `--version` added to it and all below it."""
    command = get_command(getattr(importlib.import_module(lazy.module), lazy.attribute))
    command.name = name
    _add_house_manners(command)
    return command


def _add_house_manners(command: Any) -> None:
    """`--version`, and arguments written as people write them: `ID`, where typer has `{ID}`."""
    for argument in command.params:
        if argument.param_type_name == "argument" and argument.required:
            argument.make_metavar = _plain_metavar(argument)
    command.params.append(
        TyperOption(
            param_decls=["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            allow_from_autoenv=False,
            callback=_show_version,
            help="Show the version and exit.",
        )
    )
    for child in getattr(command, "commands", {}).values():
        if not isinstance(child, StandIn):
            _add_house_manners(child)


def _plain_metavar(argument: Any) -> Callable[..., str]:
    name = str(argument.metavar or argument.name.upper())
    return lambda *_, **__: name


def _show_version(_context: Any, _option: Any, wanted: bool) -> None:
    if wanted:
        typer.echo(f"llorch {__version__}")
        raise typer.Exit


class StandIn(TyperCommand):
    """A command that is not imported yet; good for listing only."""


def new_app(
    *, commands: Mapping[str, Lazy] | None = None, add_completion: bool = False
) -> typer.Typer:
    """A `typer.Typer` in the house's manner: plain help, no framework tracebacks, lazy if asked."""
    return typer.Typer(
        cls=_group_of(commands) if commands else None,
        add_completion=add_completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings=HELP_NAMES,
    )


def _group_of(table: Mapping[str, Lazy]) -> type[TyperGroup]:
    class LazyGroup(TyperGroup):
        """Holds stand-ins for the commands of `table`."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            for name, lazy in table.items():
                self.add_command(StandIn(name=name, help=lazy.help_line, rich_markup_mode=None))

        def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
            name, found, rest = super().resolve_command(ctx, args)
            if not isinstance(found, StandIn):
                return name, found, rest
            command = load(cast("str", name), table[cast("str", name)])
            section = [*ctx.command_path.split()[1:], str(name)]
            check_settings(command, (ctx.default_map or {}).get(name) or {}, section)
            return name, command, rest

    return LazyGroup


def check_settings(command: Any, settings: Any, section: list[str]) -> None:
    """Raise UsageError for a setting of `llorch.toml` that the command does not have.

    Sections of commands that are not imported yet are checked when these run.
    """
    children: dict[str, Any] = getattr(command, "commands", {})
    parameters = {parameter.name: parameter for parameter in command.params}
    for key, value in settings.items():
        if key in children and isinstance(value, dict):
            if not isinstance(children[key], StandIn):
                check_settings(children[key], value, [*section, key])
        elif key not in parameters:
            raise _bad_setting(section, "has a setting that the command does not know", key)
        elif getattr(parameters[key], "multiple", False) and not isinstance(value, list):
            # As a text it would be taken letter by letter.
            raise _bad_setting(section, "needs a list, in square brackets, for", key)


def _bad_setting(section: list[str], what: str, key: str) -> UsageError:
    place, command = ".".join(section), " ".join(section)
    return UsageError(f"llorch.toml: [{place}] {what}: {key}", hint=f"llorch {command} --help")
