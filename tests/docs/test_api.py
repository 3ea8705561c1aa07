"""Endpoints, events, fields, metrics, errors and bounds in README.md are those of the daemons."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import llorch_boot
import pytest

from llorch import errors
from llorch.cli.report import EXIT_INTERRUPTED, EXIT_PIPE_CLOSED
from llorch.core.limits import Limits
from llorch.core.scheduler import Scheduler
from llorch.core.slots import SlotLine
from llorch.core.types import Finished, PromptRead, StopReason, TaskRequest, TextMade
from llorch.daemon import orchestrator, worker_routes
from llorch.daemon.membership import HEARTBEAT_SECONDS
from llorch.daemon.shell import STREAM_LEAVE_GRACE_SECONDS
from llorch.daemon.worker import WorkerSettings
from llorch.errors import LlorchError
from llorch.net.metrics import OrchestratorMetrics, WorkerMetrics
from llorch.net.server import ServerLimits
from llorch.wire import answers, openai_requests, tasks
from llorch.wire.fields import Fields
from tests.docs.pages import (
    README,
    coded,
    joined,
    rows,
    section,
)


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
