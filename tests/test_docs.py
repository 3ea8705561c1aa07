"""What README.md, ARCHITECTURE.md, CONTRIBUTING.md and CHANGELOG.md claim, held against the code.

Nothing is run but the parser of the command line: commands are parsed, tables are compared with
the objects that they describe, files and links are looked for.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args
from xml.etree import ElementTree as ET

import llorch_boot
import llorch_refuse
import pytest
import typer
from typer.main import get_command

from llorch import errors
from llorch.cli import app as cli_app
from llorch.cli import options as cli_options
from llorch.cli import serve
from llorch.cli.lazy import StandIn
from llorch.cli.report import EXIT_INTERRUPTED, EXIT_PIPE_CLOSED
from llorch.core.limits import Limits
from llorch.core.scheduler import Scheduler
from llorch.core.sizes import DEFAULT_BATCH, DEFAULT_CTX, DEFAULT_SLOTS
from llorch.core.slots import SlotLine
from llorch.core.task import TRANSITIONS
from llorch.core.types import Finished, PromptRead, StopReason, TaskRequest, TextMade
from llorch.daemon import orchestrator, worker_routes
from llorch.daemon.membership import HEARTBEAT_SECONDS
from llorch.daemon.shell import STREAM_LEAVE_GRACE_SECONDS
from llorch.daemon.worker import WorkerSettings
from llorch.errors import LlorchError
from llorch.net.metrics import OrchestratorMetrics, WorkerMetrics
from llorch.net.server import ServerLimits
from llorch.store.builtin import BUILT_IN
from llorch.store.config import load_config
from llorch.wire import answers, openai_requests, tasks
from llorch.wire.fields import Fields

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STARTS = (["llorch"], ["python3", "llorch.pyz"], ["python3", "dist/llorch.pyz"])


# -- reading the pages ----------------------------------------------------------------------------


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


# -- the command line -----------------------------------------------------------------------------


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


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    """The tests see the CLI without the settings and variables of whoever runs them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLORCH_HOME", str(tmp_path))
    monkeypatch.delenv("LLORCH_CONFIG", raising=False)


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


# -- variables ------------------------------------------------------------------------------------


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


def parsed(arguments: list[str]) -> dict[str, Any]:
    *_, (_, context) = descend(arguments)
    params: dict[str, Any] = context.params
    return params


# -- endpoints, events, fields --------------------------------------------------------------------


class RecordingRouter:
    """Takes routes as the router does, and remembers them."""

    def __init__(self) -> None:
        self.routes: set[tuple[str, str]] = set()

    def add(self, method: str, pattern: str, _handle: object) -> None:
        self.routes.add((method, pattern))


def served(module: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The endpoints of a daemon; those that repeat one of /v1 without it are left out."""
    monkeypatch.setattr(module, "Router", RecordingRouter)
    routes = make(SimpleNamespace()).routes
    return {f"{m} {p}" for m, p in routes if (m, f"/v1{p}") not in routes}


@pytest.mark.parametrize(
    "heading,module,make",
    [
        ("Orchestrator endpoints", orchestrator, orchestrator.orchestrator_router),
        ("Worker endpoints", worker_routes, worker_routes.worker_router),
    ],
    ids=["orchestrator", "worker"],
)
def test_the_table_of_endpoints_is_what_the_daemon_serves(heading, module, make, monkeypatch):
    first = [row[0] for row in rows(section(README, heading))]
    documented = {c for cell in first for c in coded(cell) if re.match(r"[A-Z]+ /", c)}
    assert documented == served(module, make, monkeypatch)


def test_the_table_of_events_has_the_fields_that_are_sent():
    table = {coded(row[0])[0]: set(coded(row[1])) for row in rows(section(README, "Events"))}
    start = answers.Start("t", "w", "m", 1, 7, 0, 0)
    renderer = answers.TaskRenderer(1)
    finished = Finished(StopReason.STOP, 1, 1, 0, 1.0, 1.0, "x")
    sent = {
        "queued": renderer.queued(0, 0),
        "started": renderer.started(start),
        "progress": renderer.progress(PromptRead(1, 2)),
        "token": renderer.text(TextMade("a", (5,), 0)),
        "end": renderer.finished(finished),
    }
    assert set(table) == {*sent, "error"}
    for event, frame in sent.items():
        fields = set(json.loads(frame.partition(b"data: ")[2]))
        assert fields <= table[event], event
    assert {reason.value for reason in StopReason} <= table["end"]


def test_every_field_that_a_task_reads_is_documented(monkeypatch):
    asked: set[str] = set()
    real = Fields.inner

    class Seen(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            asked.add(name)
            return super().get(name, default)

    def inner(self: Fields, name: str) -> Fields:
        asked.add(name)
        return real(self, name)

    monkeypatch.setattr(Fields, "inner", inner)
    tasks.parse_task(Seen(model="m", prompt="x"))
    text = section(README, "Orchestrator endpoints")
    documented = {c for row in rows(text) for c in coded(row[0])} | {"job_id"}
    assert asked - documented - {"repeat_penalty"} == set()
    fields = {c for row in rows(text) for c in coded(row[0]) if re.fullmatch(r"[a-z_]+", c)}
    assert fields - asked == set()


def test_what_the_openai_dialect_refuses_is_told():
    unserved = ["tools", "functions", "logprobs", "logit_bias", "suffix", "grammar", "json_schema"]
    text = section(README, "OpenAI clients")
    for name in unserved:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], name: True}
        with pytest.raises(errors.InvalidRequest):
            openai_requests.parse_chat(body)
        assert f"`{name}`" in text


def test_metrics_are_those_that_are_exposed():
    both = [OrchestratorMetrics(Scheduler(Limits())), WorkerMetrics(SlotLine(1, 1))]
    exposed = {
        family.name + ("_total" if family.type == "counter" else "")
        for metrics in both
        for family in metrics.registry.collect()
    }
    assert {c for c in coded(section(README, "Metrics")) if c.startswith("llorch_")} == exposed


# -- errors and exit codes ------------------------------------------------------------------------


def classes(of: type[LlorchError] = LlorchError) -> Iterator[type[LlorchError]]:
    yield of
    for child in of.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from classes(child)


def test_the_table_of_errors_is_the_tree():
    table = {
        (coded(code)[0], int(status), int(exit_code), again == "yes")
        for code, status, exit_code, again, *_ in rows(section(README, "Errors"))
    }
    assert table == {(c.code, c.status, c.exit_code, c.retriable) for c in set(classes())}


def test_the_table_of_exit_codes_is_complete():
    table = {int(row[0]) for row in rows(section(README, "Exit codes"))}
    special = {0, EXIT_INTERRUPTED, EXIT_PIPE_CLOSED, llorch_boot.EXIT_UNUSABLE}
    assert table == special | {c.exit_code for c in classes()}


# -- numbers --------------------------------------------------------------------------------------


def test_the_bounds_are_those_of_the_code():
    http, limits = ServerLimits(), Limits()
    real = {
        "body of a request": f"{http.max_body_bytes >> 20} MiB",
        "request line and headers": f"{http.max_header_bytes >> 10} KiB",
        "connections of a daemon": f"{http.max_connections}",
        "time to send a request": f"{http.request_seconds:g} s",
        "an idle connection is closed after": f"{http.idle_seconds:g} s",
        "a client that reads nothing is cut off after": f"{http.stalled_seconds:g} s",
        "a worker reports every": f"{HEARTBEAT_SECONDS:g} s",
        "a worker that was silent is lost after": f"{limits.lease_seconds:g} s",
        "a cancel that a worker does not act on is enforced after": f"{limits.cancel_seconds:g} s",
        "attempts of a task": f"{limits.max_attempts}",
        "tasks that may wait at the orchestrator": f"{limits.queue_capacity}",
        "requests that may wait at a worker": f"{WorkerSettings('m').line_bound}",
        "a task is kept after its end for": f"{limits.retention_seconds:g} s",
        "ended tasks kept": f"{limits.max_retained}",
    }
    assert {row[0]: row[1] for row in rows(section(README, "Bounds"))} == real


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


def test_defaults_of_tasks_are_those_of_the_code():
    text = section(README, "Orchestrator endpoints")
    table = {coded(row[0])[0]: row for row in rows(text)}
    assert table["max_tokens"][1:] == [f"1 to {tasks.MAX_TOKENS}", f"{TaskRequest('m').max_tokens}"]
    assert table["deadline_ms"][2] == f"{tasks.DEFAULT_DEADLINE_MS}"
    assert f"1 to {tasks.MAX_DEADLINE_MS}," in table["deadline_ms"][1]
    plain = tasks.parse_task({"model": "m", "prompt": "x"})
    assert table["temperature"][2] == f"{plain.sampling.temperature:g}"
    assert f"up to {tasks.MAX_STOPS} of them" in table["stop"][1]
    assert f"waited {Limits().promote_after_seconds / 60:g} minutes" in table["priority"][1]
    assert f"cancelled {STREAM_LEAVE_GRACE_SECONDS:g} seconds after its last reader" in joined(text)
    tokens = openai_requests.DEFAULT_COMPLETION_TOKENS
    assert f"without `max_tokens` has {tokens}" in joined(section(README, "OpenAI clients"))


def joined(text: str) -> str:
    """The text with its line breaks as spaces."""
    return " ".join(text.split())


def test_the_catalog_is_the_one_that_ships():
    for entry in BUILT_IN:
        assert re.search(
            rf"^{re.escape(entry.id)} .* {re.escape(entry.name)}$", README, re.MULTILINE
        )


def test_the_supported_systems_are_those_of_the_boot_code():
    text = section(README, "What one file contains")
    for _, minor in llorch_refuse.PYTHONS:
        assert f"3.{minor}" in text
    assert ".".join(map(str, llorch_refuse.GLIBC)) in text
    assert llorch_refuse.MACHINES == {"linux": ("x86_64", "aarch64"), "darwin": ("arm64",)}
    for name in ("Linux x86-64", "Linux aarch64", "macOS"):
        assert name in text


# -- ARCHITECTURE.md ------------------------------------------------------------------------------


def test_the_life_of_a_task_is_the_table_of_transitions():
    table = {
        (coded(row[0])[0], coded(row[1])[0]): coded(row[2])[0]
        for row in rows(section(ARCHITECTURE, "The life of a task"))
    }
    assert table == {(s.value, f.value): to.value for (s, f), to in TRANSITIONS.items()}


def test_every_folder_of_the_house_is_told():
    told = {c for row in rows(section(ARCHITECTURE, "The house")) for c in coded(row[0])}
    here = {f"llorch/{p.parent.name}" for p in (ROOT / "llorch").glob("*/__init__.py")}
    assert {name for name in told if name.startswith("llorch/")} == here


def imported() -> dict[str, set[str]]:
    """Third-party packages that the code imports, and the folders that do."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "llorch").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                if top not in {"llorch", "tomllib"} and top not in sys.stdlib_module_names:
                    folder = path.relative_to(ROOT / "llorch").parts[0]
                    found.setdefault(top.replace("_", "-"), set()).add(folder)
    return found


def required(file: str) -> set[str]:
    lines = (ROOT / "packaging" / file).read_text().splitlines()
    names = (re.match(r"[\w-]+", line) for line in lines if not line.startswith(("#", "-r")))
    return {name[0].replace("_", "-") for name in names if name}


def test_every_package_is_listed_with_its_folder_and_a_reason():
    table = {
        row[0].replace("_", "-"): row[1]
        for row in rows(section(ARCHITECTURE, "Dependencies"))
        if len(row) == 3 and row[2]
    }
    assert set(table) == required("requirements.in")
    assert {name: ", ".join(sorted(folders)) for name, folders in imported().items()} == {
        name: folder for name, folder in table.items() if folder != "nowhere yet"
    }


def test_every_package_for_development_is_listed_with_a_reason():
    text = section(ARCHITECTURE, "Dependencies").partition("For development only")[2]
    told = {name for row in rows(text) if row[1] for name in row[0].split(", ")}
    assert told == required("requirements-dev.in")


# -- files and links ------------------------------------------------------------------------------

PLACE = re.compile(r"(?:llorch|packaging|tests|bench|docs)(?:/[\w.*-]+)+/?")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_folder_that_is_named_exists(page):
    text = (ROOT / page).read_text()
    named = {code for code in coded(FENCE.sub("", text)) if PLACE.fullmatch(code)}
    named |= set(re.findall(r"(?:bench|packaging)/\w+\.(?:py|sh)", text))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as they are made where it is shown."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    text = FENCE.sub("", (ROOT / page).read_text())
    for target in LINK.findall(text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        other = ROOT / path if path else ROOT / page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other.read_text()), target


def test_pictures_are_drawings_that_have_words_for_those_who_do_not_see_them():
    pictures = sorted((ROOT / "docs").glob("*.svg"))
    assert pictures
    for path in pictures:
        root = ET.fromstring(path.read_text())
        names = {child.tag.rpartition("}")[2] for child in root}
        assert {"title", "desc"} <= names
        assert "prefers-color-scheme: dark" in path.read_text()


def test_the_two_commands_stand_as_they_are_run():
    assert (
        './build_pyz.sh && python3 dist/llorch.pyz infer --prompt "The capital of France is"\n'
        "./check.sh\n"
    ) in README


def test_the_changelog_is_in_order():
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    numbers = [tuple(map(int, v.split("."))) for v in versions[1:]]
    assert numbers == sorted(numbers, reverse=True)
    kinds = re.findall(r"^### (.+)$", text, re.MULTILINE)
    allowed = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert set(kinds) <= allowed
