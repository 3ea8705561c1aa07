"""Every command and option is in README.md, and every command line there parses."""

from __future__ import annotations

import re
import shlex
from typing import Any

import llorch_boot
import pytest
import typer
from typer.main import get_command

from llorch.cli import app as cli_app
from llorch.cli.lazy import StandIn
from tests.docs.command_line import CALLS, COMMANDS, descend, heading_of, own_options
from tests.docs.pages import (
    README,
    coded,
    rows,
    section,
)


def test_the_pages_show_commands():
    assert len(CALLS) > 25


@pytest.mark.parametrize("call", CALLS, ids=shlex.join)
def test_every_command_line_of_the_pages_parses(call):
    if call[0] in {llorch_boot.PRUNE, "--install-completion"}:
        assert len(call) == 1  # the one is the boot code's own, the other acts while it is parsed
        return
    try:
        command, context = descend(list(call))[-1]
    except typer.Exit:  # as --version and --help end
        return
    assert not hasattr(command, "commands"), f"{context.command_path} is a group"


def test_a_stand_in_is_never_taken_for_a_command():
    assert not [path for path, command in COMMANDS if isinstance(command, StandIn)]
    assert ["pool", "worker", "spawn"] in [path for path, _ in COMMANDS]


@pytest.mark.parametrize("path,command", COMMANDS, ids=[" ".join(p) for p, _ in COMMANDS])
def test_every_option_of_a_command_is_in_its_section(path, command):
    text = section(README, heading_of(path))
    documented = {word for code in coded(text) for word in re.split(r"[\s=/,]+", code)}
    assert own_options(command) - documented == set()
    if len(path) > 2:
        assert path[-1] in documented


@pytest.mark.parametrize("heading", sorted({heading_of(path) for path, _ in COMMANDS}))
def test_a_section_names_only_options_that_exist(heading):
    tables = " ".join(" ".join(row) for row in rows(section(README, heading)))
    named = {word for code in coded(tables) for word in code.split() if word.startswith("--")}
    known = [own_options(command) for path, command in COMMANDS if heading_of(path) == heading]
    assert named - set().union(*known) == set()


def test_every_command_of_the_root_is_documented():
    headings = set(re.findall(r"^### (llorch .+)$", README, re.MULTILINE))
    assert headings == {heading_of(path) for path, _ in COMMANDS}
    root: Any = get_command(cli_app.app)
    for option in own_options(root):
        assert option in README
