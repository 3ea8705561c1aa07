"""Daemons that are killed, and daemons that are asked to go, in the middle of an answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.daemon import Daemon, a_task, is_free
from tests.e2e.home import Home, finish
from tests.e2e.wait import eventually

WORKER = ("serve-worker", "--backend", "cpu", "--model", "smollm2-135m", "--slots", "2")
ENDLESS = {"max_tokens": 4000, "stream": True}
SHORT = {"max_tokens": 40, "stream": True}
LONG = {"max_tokens": 200, "stream": True}


@contextmanager
def a_fleet(home: Home) -> Iterator[tuple[Daemon, Daemon]]:
    """An orchestrator and a worker of two slots that nobody else uses."""
    with (
        home.daemon("serve-orchestrator") as orchestrator,
        home.daemon(*WORKER, "--orchestrator", orchestrator.url) as worker,
    ):
        worker.says("registered")
        yield orchestrator, worker


def statuses(orchestrator: Daemon) -> list[str]:
    return [worker["status"] for worker in orchestrator.get("/v2/workers").json["workers"]]


def test_kill_9_of_a_worker_ends_its_streams_with_one_clear_error(home: Home) -> None:
    with a_fleet(home) as (orchestrator, worker):
        stream = orchestrator.stream("/v2/tasks", a_task(**ENDLESS))
        openai = orchestrator.stream("/v1/completions", a_task(**ENDLESS))
        stream.sees("token", 3)
        worker.signal(signal.SIGKILL)
        error = stream.rest().error
        assert (error["code"], error["retriable"]) == ("WORKER_LOST", True)
        assert len(stream.named("token")) >= 3
        assert b'"error"' in openai.rest().raw
        assert b"[DONE]" not in openai.raw
        assert worker.ended() == -signal.SIGKILL
        eventually(lambda: statuses(orchestrator) == ["failed"], lambda: statuses(orchestrator))
        refused = orchestrator.post("/v2/tasks", a_task())
        assert (refused.status, refused.error["code"]) == (503, "POOL_UNAVAILABLE")
        eventually(lambda: list(home.processes()) == [orchestrator.process.pid], home.processes)


def test_kill_9_of_the_engine_ends_its_worker_with_the_reason(home: Home) -> None:
    with a_fleet(home) as (orchestrator, worker):
        stream = orchestrator.stream("/v2/tasks", a_task(**ENDLESS))
        stream.sees("token", 3)
        os.kill(worker.engine_pid(), signal.SIGKILL)
        error = stream.rest().error
        assert error["code"] == "ENGINE_FAILED"
        assert "killed by SIGKILL" in error["message"]
        assert worker.ended() == 1
        assert worker.errors.startswith("Error: the engine process was killed by SIGKILL")
        assert "Traceback" not in worker.errors
        assert is_free(worker.port)
        eventually(lambda: statuses(orchestrator) == [], lambda: statuses(orchestrator))


def test_sigterm_lets_a_worker_finish_and_leave(home: Home) -> None:
    with a_fleet(home) as (orchestrator, worker):
        stream = orchestrator.stream("/v2/tasks", a_task(**SHORT))
        stream.sees("token")
        worker.signal(signal.SIGTERM)
        worker.says("draining")
        end = stream.rest().end
        assert (end["stop_reason"], end["tokens_out"]) == ("length", 40)
        assert worker.ended() == 0
        assert worker.errors == ""
        assert is_free(worker.port)
        assert statuses(orchestrator) == []
        assert list(home.processes()) == [orchestrator.process.pid]


def test_sigterm_lets_an_orchestrator_finish_and_its_worker_lives_on(home: Home) -> None:
    with a_fleet(home) as (orchestrator, worker):
        stream = orchestrator.stream("/v2/tasks", a_task(**LONG))
        stream.sees("token")
        orchestrator.signal(signal.SIGTERM)
        orchestrator.says("draining")
        refused = orchestrator.post("/v2/tasks", a_task())
        assert (refused.status, refused.error["code"]) == (503, "SHUTTING_DOWN")
        assert stream.rest().end["tokens_out"] == 200
        assert orchestrator.ended() == 0
        assert orchestrator.errors == ""
        assert is_free(orchestrator.port)
        assert worker.stream("/execute", a_task(**SHORT)).rest().text.startswith(" Paris")


def test_a_worker_joins_an_orchestrator_again_that_was_killed_and_started(home: Home) -> None:
    with a_fleet(home) as (orchestrator, worker):
        stream = orchestrator.stream("/v2/tasks", a_task(**ENDLESS))
        stream.sees("token")
        orchestrator.signal(signal.SIGKILL)
        assert orchestrator.ended() == -signal.SIGKILL
        stream.leave()
        eventually(lambda: worker.health()["slots_free"] == 2, worker.health)
        with home.daemon("serve-orchestrator", port=orchestrator.port) as again:
            eventually(lambda: statuses(again) == ["ready"], lambda: statuses(again))
            answer = again.stream("/v2/tasks", a_task(**SHORT)).rest()
            assert answer.text.startswith(" Paris")


def test_sigterm_while_the_model_loads_ends_a_worker_at_once(home: Home) -> None:
    with home.daemon(*WORKER, until="loading") as worker:
        worker.signal(signal.SIGTERM)
        assert worker.ended() == 0
        assert is_free(worker.port)
        home.is_still()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_infer_that_is_told_to_go_takes_its_worker_along(
    home: Home, number: signal.Signals
) -> None:
    running = home.start("infer", "--prompt", "Once upon a time", "--max-tokens", "3000")
    assert running.stdout is not None
    assert running.stdout.read(1)
    running.send_signal(number)
    code, _, errors = finish(running)
    assert code != 0
    assert "Traceback" not in errors
    home.is_still()
