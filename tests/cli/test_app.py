"""The root of the command line: help, errors, settings, completion, ways of ending."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import get_args

import pytest
import typer

from llorch.cli import app as cli_app
from llorch.cli import pool as cli_pool
from llorch.cli.lazy import StandIn, load
from llorch.cli.options import BackendName, EngineName
from llorch.cli.report import show_unexpected
from llorch.core import choice
from llorch.errors import LlorchError
from tests.cli.conftest import LLORCH
from tests.cli.terminal import in_terminal

TABLES = {"llorch": cli_app.COMMANDS, "llorch pool": cli_pool.COMMANDS}
LAZY = [(place, name) for place, table in TABLES.items() for name in table]
POOL_COMMANDS = {
    "models": {"catalog", "list", "download", "register", "unregister", "verify", "remove"},
    "worker": {"spawn", "list", "stop", "stop-all", "logs", "cleanup"},
}


def _walk(name, command):
    yield name, command
    for child, below in getattr(command, "commands", {}).items():
        if not isinstance(below, StandIn):
            yield from _walk(f"{name} {child}", below)


def _all_commands():
    for place, name in LAZY:
        yield from _walk(f"{place} {name}", load(name, TABLES[place][name]))


def test_help_lists_every_command_of_this_storey(cli):
    shown = cli("--help")
    assert shown.returncode == 0
    assert shown.stderr == ""
    for command in ("serve-orchestrator", "serve-worker", "infer", "pool"):
        assert f"\n  {command} " in shown.stdout


@pytest.mark.parametrize("group", POOL_COMMANDS)
def test_a_pool_group_has_exactly_its_commands(group):
    assert set(load(group, cli_pool.COMMANDS[group]).commands) == POOL_COMMANDS[group]


@pytest.mark.parametrize("place,name", LAZY)
def test_the_line_in_the_list_is_the_one_in_the_commands_own_help(place, name):
    lazy = TABLES[place][name]
    assert load(name, lazy).get_short_help_str(200) == lazy.help_line


def test_every_command_answers_version_and_help_and_reports_in_json():
    silent = {"llorch pool", "llorch pool models", "llorch pool worker", "llorch pool worker logs"}
    for name, command in _all_commands():
        options = {text for parameter in command.params for text in parameter.opts}
        assert "--version" in options, name
        assert name in silent or "--json" in options, name


def test_every_option_says_what_it_does():
    for name, command in _all_commands():
        for parameter in command.params:
            hidden = getattr(parameter, "hidden", False)
            assert hidden or parameter.help, f"{name} {parameter.name}"


def test_the_engines_and_backends_are_those_that_a_worker_can_choose():
    assert set(get_args(EngineName)) == {choice.AUTO, *choice.ENGINES}
    assert set(get_args(BackendName)) == {choice.AUTO, *choice.BACKENDS}


@pytest.mark.parametrize("arguments", [["--help"], ["pool", "--help"], ["pool", "worker", "-h"]])
def test_help_imports_nothing_slow(cli, arguments):
    script = (
        "import sys; sys.argv = ['llorch', *sys.argv[1:]]\n"
        "from llorch.cli import main\n"
        "code = main()\n"
        "slow = {'httpx', 'rich', 'huggingface_hub', 'xllamacpp', 'asyncio', 'paramiko'}\n"
        "sys.exit(f'imported {slow & set(sys.modules)}' if slow & set(sys.modules) else code)\n"
    )
    command = [sys.executable, "-c", script, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Usage:" in ran.stdout


def test_listing_commands_does_not_import_them(cli):
    script = "import sys; from llorch.cli.app import run; run(['--help'])\n"
    script += "print([m for m in sys.modules if m.startswith('llorch.cli.infer')], file=sys.stderr)"
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["infer", "--version"], ["pool", "--version"], ["pool", "models", "--version"]],
)
def test_version_is_answered_everywhere(cli, arguments):
    shown = cli(*arguments)
    assert (shown.returncode, shown.stdout.split()[0]) == (0, "llorch")


@pytest.mark.parametrize(
    "arguments,said,hint",
    [
        (["infr"], "No such command 'infr'. Did you mean 'infer'?", "llorch --help"),
        (["infer", "--nope"], "No such option: --nope", "llorch infer --help"),
        (["infer", "--max-tokens", "x"], "'x' is not a whole number", "llorch infer --help"),
        (["infer", "--max-tokens", "0"], "0 is not in the range", "llorch infer --help"),
        (["infer", "--temperature", "nan"], "must be an ordinary number", "llorch infer --help"),
        (["pool", "worker", "stop"], "Missing argument", "llorch pool worker stop --help"),
        (["pool", "worker", "spawn", "tpu"], "'tpu' is not one of", "spawn --help"),
    ],
)
def test_a_mistake_on_the_command_line_exits_2_and_says_what_to_try(cli, arguments, said, hint):
    failed = cli(*arguments)
    assert failed.returncode == 2
    assert failed.stdout == ""
    error, attempt = failed.stderr.splitlines()
    assert error.startswith("Error: ")
    assert said in error
    assert attempt.startswith("Try: ")
    assert attempt.endswith(hint)


@pytest.mark.parametrize("arguments", [[], ["pool"], ["pool", "models"]])
def test_no_command_at_all_is_a_usage_error_that_shows_the_help(cli, arguments):
    shown = cli(*arguments)
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert shown.stderr.startswith("Usage: llorch")


def _break(monkeypatch, error):
    def broken(_arguments):
        raise error

    monkeypatch.setattr(cli_app, "_run", broken)


def test_an_unforeseen_error_is_one_line_without_a_traceback(monkeypatch, capsys):
    monkeypatch.delenv("LLORCH_DEBUG", raising=False)
    _break(monkeypatch, ZeroDivisionError("many\nlines"))
    assert cli_app.run([]) == 1
    assert capsys.readouterr().err == (
        "Error: ZeroDivisionError: many lines\n"
        "Try: run again with LLORCH_DEBUG=1 for the traceback\n"
    )


def test_llorch_debug_adds_the_traceback(monkeypatch, capsys):
    monkeypatch.setenv("LLORCH_DEBUG", "1")
    _break(monkeypatch, ZeroDivisionError("x"))
    assert cli_app.run([]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error,code", [(KeyboardInterrupt(), 130), (typer.Abort(), 130), (LlorchError("x"), 1)]
)
def test_each_way_of_ending_has_its_exit_code(monkeypatch, capsys, error, code):
    _break(monkeypatch, error)
    assert cli_app.run([]) == code
    assert ("Error" in capsys.readouterr().err) == (code == 1)


def test_a_reader_that_leaves_ends_the_command_quietly_with_141(cli):
    script = f"{sys.executable} {LLORCH[1]} --help | true; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env=cli.environment,
        check=True,
    )
    # `true` may end before or after the help is written: both are fine, a traceback is not.
    assert ran.stdout.strip() in {"0", "141"}
    assert ran.stderr == ""


def test_an_error_that_nobody_reads_still_has_its_exit_code(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert show_unexpected(ValueError("x")) == 1


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(cli, daemon):
    (cli.home / "llorch.toml").write_text("[infer]\nmax-tokens = 11\nseed = 7\n")
    ask = ["infer", "--worker", daemon.address, "--prompt", "x"]

    def asked(*flags, **variables):
        daemon.requests.clear()
        ran = cli(*ask, *flags, **variables)
        assert ran.returncode == 0, ran.stderr
        return daemon.task()["max_tokens"], daemon.task()["seed"]

    assert asked() == (11, 7)
    assert asked(LLORCH_INFER_MAX_TOKENS="12") == (12, 7)
    assert asked("--max-tokens", "13", LLORCH_INFER_MAX_TOKENS="12") == (13, 7)


def test_the_settings_file_is_named_by_a_flag_or_a_variable(cli, daemon, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("[infer]\nmax_tokens = 21\n")
    ask = ["infer", "--worker", daemon.address, "--prompt", "x"]
    cli("--config", str(other), *ask)
    assert daemon.task()["max_tokens"] == 21
    daemon.requests.clear()
    cli(*ask, LLORCH_CONFIG=str(other))
    assert daemon.task()["max_tokens"] == 21


@pytest.mark.parametrize("command", ["serve-worker", "pool worker list", "pool", "pool status"])
def test_a_setting_that_the_command_does_not_know_is_an_error(cli, command):
    section = command.replace(" ", ".")
    (cli.home / "llorch.toml").write_text(f"[{section}]\nslotz = 4\n")
    failed = cli(*command.split(), *(["list"] if command == "pool" else []))
    assert failed.returncode == 2
    assert "slotz" in failed.stderr
    assert f"[{section}]" in failed.stderr


def test_a_setting_that_may_be_repeated_is_a_list(cli, daemon):
    settings = cli.home / "llorch.toml"
    ask = ("infer", "--worker", daemon.address, "--prompt", "x")
    settings.write_text('[infer]\nstop = ["ab", "cd"]\n')
    assert cli(*ask).returncode == 0
    assert daemon.task()["stop"] == ["ab", "cd"]
    settings.write_text('[infer]\nstop = "ab"\n')
    failed = cli(*ask)
    assert failed.returncode == 2
    assert "needs a list" in failed.stderr


def test_no_variable_is_cut_up_into_stop_texts(cli, daemon):
    cli("infer", "--worker", daemon.address, "--prompt", "x", LLORCH_INFER_STOP="a b")
    assert "stop" not in daemon.task()


@pytest.mark.parametrize(
    "words,expected",
    [("llorch in", ["infer"]), ("llorch pool w", ["worker"]), ("llorch pool worker st", ["stop"])],
)
def test_a_shell_completes_commands(cli, words, expected):
    ran = cli(_LLORCH_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
    assert set(expected) <= set(ran.stdout.split())


def test_a_shell_completes_options(cli):
    ran = cli(_LLORCH_COMPLETE="complete_bash", COMP_WORDS="llorch infer --max", COMP_CWORD="2")
    assert ran.stdout.split() == ["--max-tokens"]


@pytest.mark.parametrize(
    "words,expected",
    [
        ("llorch infer --model smol", "smollm2-135m"),
        ("llorch pool models remove tiny", "tinyllama"),
    ],
)
def test_a_shell_completes_the_names_of_models(cli, words, expected):
    where = str(words.count(" "))
    ran = cli(_LLORCH_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=where)
    assert ran.stdout.split() == [expected]


def test_the_completion_script_is_for_the_name_llorch(cli):
    # The shell is told from the parent process, so a shell must start it.
    words = [sys.executable, LLORCH[1], "--show-completion"]
    script = f"{' '.join(words)}; exit $?"
    ran = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env=cli.environment,
        check=True,
    )
    assert "_LLORCH_COMPLETE=complete_bash" in ran.stdout
    assert "llorch" in ran.stdout.splitlines()[-1]


def test_errors_are_coloured_on_a_terminal_only(cli, tmp_path):
    plain = cli("infr").stderr
    assert "\x1b" not in plain
    assert "\x1b[1;31mError:\x1b[0m" in in_terminal(cli, "infr")
    assert "\x1b[1;31m" not in in_terminal(cli, "infr", NO_COLOR="1")


def test_json_reports_are_json(cli):
    for command in (["models", "list"], ["models", "catalog"], ["worker", "list"], ["backends"]):
        ran = cli("pool", *command, "--json")
        assert ran.returncode == 0, ran.stderr
        json.loads(ran.stdout)


def test_a_report_that_finds_no_space_is_an_error_and_no_traceback(cli):
    with open("/dev/full", "w") as full:
        process = cli.start("pool", "models", "catalog", stdout=full)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert err == b"Error: No space left on device\nTry: free some space there\n"


@pytest.mark.parametrize(
    "arguments,message,remedy",
    [
        (["infer", "--temperature", "abc"], "'abc' is not a number", "llorch infer --help"),
        (["infer", "--promt", "x"], "--promt. Did you mean --prompt?", "llorch infer --help"),
        (["infer", "hello"], "unexpected: hello", 'llorch infer --prompt "TEXT"'),
        (["infer", "--config", "x"], "--config", "llorch --config PATH infer ..."),
        (["pool", "worker", "spawn"], "from: auto, cpu, cuda, metal", "spawn --help"),
        (["ps"], "No such command 'ps'", "Try: llorch pool worker list"),
        (["pull", "x"], "No such command 'pull'", "Try: llorch pool models download ID"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_what_to_try(cli, arguments, message, remedy):
    shown = cli(*arguments)
    assert shown.returncode == 2
    error, tried = shown.stderr.splitlines()
    assert message in error
    assert tried.startswith("Try: ")
    assert remedy in tried


def test_a_wrong_variable_and_a_wrong_setting_are_blamed_by_name(cli, tmp_path):
    shown = cli("infer", "-p", "x", LLORCH_INFER_MAX_TOKENS="abc")
    assert "Invalid value for LLORCH_INFER_MAX_TOKENS: 'abc'" in shown.stderr
    settings = tmp_path / "llorch.toml"
    settings.write_text('[infer]\nmax_tokens = "three"\n', encoding="utf-8")
    shown = cli("--config", str(settings), "infer", "-p", "x")
    assert f"Invalid value for max-tokens in {settings}: 'three'" in shown.stderr


def test_help_fits_80_columns_and_shows_arguments_without_braces():
    for name, command in _all_commands():
        with command.make_context(name, [], resilient_parsing=True, terminal_width=80) as context:
            shown = command.get_help(context)
        assert max(map(len, shown.splitlines())) <= 80, name
        assert "{" not in shown.splitlines()[0], name
