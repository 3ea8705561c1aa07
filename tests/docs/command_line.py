"""The commands that the pages show, and those that there are, parsed without running them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from llorch.cli import app as cli_app
from tests.docs.pages import README, ROOT, shell_lines

STARTS = (["llorch"], ["python3", "llorch.pyz"], ["python3", "dist/llorch.pyz"])


def llorch_calls(line: str) -> Iterator[list[str]]:
    """The arguments of every llorch command in a line; redirections and the like are left out."""
    if "llorch" not in line:
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&<>")
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # a line of output with a lone quotation mark
        return
    for command in split_commands(words):
        while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
            command = command[1:]
        for start in STARTS:
            if command[: len(start)] == start:
                yield command[len(start) :]


def split_commands(words: list[str]) -> Iterator[list[str]]:
    """The commands that are joined by pipes and the like, without redirections."""
    command: list[str] = []
    skip = False
    for word in words:
        if set(word) <= set("|&"):
            yield command
            command = []
        elif set(word) <= set("<>"):
            skip = True
        elif not skip:
            command.append(word)
        else:
            skip = False
    yield command


CALLS = sorted(
    {
        tuple(call)
        for page in (README, (ROOT / "CONTRIBUTING.md").read_text())
        for line in shell_lines(page)
        for call in llorch_calls(line)
    }
)


def descend(arguments: list[str]) -> list[tuple[Any, Any]]:
    """Parse a command line as the CLI does, without running it: each command and its context."""
    command: Any = get_command(cli_app.app)
    context = command.make_context("llorch", arguments, auto_envvar_prefix="LLORCH")
    path = [(command, context)]
    while hasattr(command, "commands"):
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not rest:
            break
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        path.append((command, context))
    return path


def commands() -> Iterator[tuple[list[str], Any]]:
    """Every command that does something, with its path."""

    def walk(path: list[str], command: Any) -> Iterator[tuple[list[str], Any]]:
        for name in getattr(command, "commands", {}):
            *_, (child, _) = descend_to([*path, name])
            if hasattr(child, "commands"):
                yield from walk([*path, name], child)
            else:
                yield [*path, name], child

    yield from walk([], get_command(cli_app.app))


def descend_to(path: list[str]) -> list[tuple[Any, Any]]:
    """The command at a path, parsed leniently since required arguments are missing."""
    command: Any = get_command(cli_app.app)
    context = command.make_context("llorch", [*path], resilient_parsing=True)
    context.default_map = {}
    for name in path:
        _, command, _ = command.resolve_command(context, [name])
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    return [(command, context)]


COMMANDS = list(commands())


def heading_of(path: list[str]) -> str:
    grouped = path[:2] if path[0] == "pool" else path[:1]
    return " ".join(["llorch", *grouped])


def own_options(command: Any) -> set[str]:
    return {
        text
        for parameter in command.params
        if parameter.param_type_name == "option" and not getattr(parameter, "hidden", False)
        for text in (*parameter.opts, *parameter.secondary_opts)
        if text not in {"--help", "-h", "--version"}
    }


def parsed(arguments: list[str]) -> dict[str, Any]:
    *_, (_, context) = descend(arguments)
    params: dict[str, Any] = context.params
    return params
