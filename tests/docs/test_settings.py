"""Settings, variables and defaults of options in README.md are those of the CLI."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import get_args

from llorch.cli import options as cli_options
from llorch.cli import serve
from llorch.core.sizes import DEFAULT_BATCH, DEFAULT_CTX, DEFAULT_SLOTS
from llorch.store.config import load_config
from tests.docs.command_line import COMMANDS, descend, parsed
from tests.docs.pages import (
    FENCE,
    README,
    ROOT,
    coded,
    rows,
    section,
)


def test_the_example_of_a_settings_file_is_accepted(tmp_path):
    (block,) = [block for language, block in FENCE.findall(README) if language == "toml"]
    path = tmp_path / "llorch.toml"
    path.write_text(block)
    sections = load_config(path).sections
    for words in (["serve-orchestrator"], ["serve-worker"], ["infer", "-p", "x"]):
        assert descend(["--config", str(path), *words])
    spawn = ["pool", "worker", "spawn", "cpu"]
    *_, (_, context) = descend(["--config", str(path), *spawn])
    assert context.params["slots"] == sections["pool"]["worker"]["spawn"]["slots"]


def read_variables() -> set[str]:
    """Names that the code asks the environment for, in words."""
    found: set[str] = set()
    for path in [*(ROOT / "llorch").rglob("*.py"), *(ROOT / "packaging").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_bytes())):
            found |= set(_asked(node))
    return {name for name in found if not name.startswith("_")}


def _asked(node: ast.AST) -> Iterator[str]:
    parts: list[ast.expr] = []
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("environ.get"):
        parts = node.args[:1]
    elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "os.environ":
        parts = [node.left]
    for part in parts:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def test_every_variable_that_the_code_reads_is_documented():
    read = read_variables()
    assert {"LLORCH_HOME", "HF_TOKEN", "LLORCH_CACHE", "OMP_WAIT_POLICY"} <= read
    pages = README + (ROOT / "CONTRIBUTING.md").read_text()
    assert {name for name in read if f"`{name}`" not in pages} == set()


def test_variables_of_options_are_documented_and_work(monkeypatch):
    shared = {
        variable
        for _, command in COMMANDS
        for parameter in command.params
        for variable in ([parameter.envvar] if isinstance(parameter.envvar, str) else [])
        + (parameter.envvar if isinstance(parameter.envvar, list) else [])
    }
    table = {name for row in rows(section(README, "Settings")) for name in coded(row[0])}
    by_rule = re.compile(r"LLORCH_(INFER|SERVE_WORKER|POOL_WORKER_SPAWN)_")
    assert {name for name in shared if not by_rule.match(name)} <= table
    for name in ("LLORCH_INFER_MAX_TOKENS", "LLORCH_POOL_WORKER_SPAWN_SLOTS"):
        assert name in README
        monkeypatch.setenv(name, "7")
    assert parsed(["infer", "-p", "x"])["max_tokens"] == 7
    assert parsed(["pool", "worker", "spawn", "cpu"])["slots"] == 7


def test_documented_variables_exist():
    table = {name for row in rows(section(README, "Settings")) for name in coded(row[0])}
    source = "\n".join(p.read_text() for p in (ROOT / "llorch").rglob("*.py"))
    source += "\n".join(p.read_text() for p in (ROOT / "packaging").rglob("*.py"))
    built = {"LLORCH_ORCHESTRATOR", "LLORCH_WORKER", "LLORCH_MODEL"}  # put together in options.py
    assert {name for name in table - built if name not in source} == set()


def test_defaults_of_options_are_those_of_the_code():
    infer, serving = parsed(["infer", "-p", "x"]), parsed(["serve-worker"])
    assert f"`--max-tokens`, `-n` | the longest answer; {infer['max_tokens']} |" in README
    assert f"takes the likeliest token each time; {infer['temperature']:g} |" in README
    assert f"`--bind` | where to listen; `{serve.DEFAULT_BIND}` |" in README
    assert f"`--bind` | where to listen; `{serving['bind']}`; port 0" in README
    assert f"get to finish; {serving['grace']:g} |" in README
    capacity = parsed(["serve-orchestrator"])["queue_capacity"]
    assert f"`--queue-capacity` | tasks that may wait; {capacity} |" in README
    spawn = parsed(["pool", "worker", "spawn", "cpu"])
    assert f"`--timeout` ({spawn['timeout']:g} s for loading)" in README
    grace = parsed(["pool", "worker", "stop", "x"])["grace"]
    assert f"`--grace` ({grace:g} s, then it is killed)" in README


def test_defaults_of_workers_are_those_of_the_code():
    assert DEFAULT_SLOTS == {"cpu": 4, "metal": 4, "cuda": 8}
    assert "4 on `cpu` and `metal`, 8 on `cuda`" in README
    assert DEFAULT_BATCH == {"cpu": 64, "metal": 512, "cuda": 512}
    assert "64 on `cpu`, else 512" in README
    assert f"context of each slot in tokens; {DEFAULT_CTX}," in README
    for names in (get_args(cli_options.EngineName), get_args(cli_options.BackendName)):
        assert all(f"`{name}`" in README for name in names)
