"""Ways to end a task early, and what is free afterwards."""

from __future__ import annotations

import subprocess

import pytest

from tests.e2e.client import Stream
from tests.e2e.conftest import Fleet
from tests.e2e.daemon import a_task
from tests.e2e.home import Home, finish, interrupt
from tests.e2e.wait import eventually

ENDLESS = {"max_tokens": 4000, "stream": True}
LONG_PROMPT = "word " * 5000


def slots_free(fleet: Fleet, wanted: int = 4) -> None:
    eventually(lambda: fleet.worker.health()["slots_free"] == wanted, fleet.worker.health)


def test_a_cancel_stops_the_reading_of_a_prompt_of_5000_tokens(fleet: Fleet) -> None:
    task = a_task(LONG_PROMPT, stream=True, task_id="long-prompt")
    stream = fleet.orchestrator.stream("/v2/tasks", task)
    (seen,) = stream.sees("progress")[:1]
    assert seen.json["prompt_total"] >= 5000
    assert fleet.orchestrator.post("/v2/tasks/long-prompt/cancel").status == 202
    assert fleet.orchestrator.post("/v2/tasks/long-prompt/cancel").status in (200, 202)
    stream.rest()
    assert stream.end["stop_reason"] == "cancelled"
    read = stream.named("progress")[-1].json
    assert read["prompt_done"] < read["prompt_total"]
    assert not stream.named("token")
    slots_free(fleet)
    assert fleet.orchestrator.get("/v2/tasks/long-prompt").json["status"] == "cancelled"


def test_a_worker_answers_while_it_reads_a_long_prompt(fleet: Fleet) -> None:
    task = a_task(LONG_PROMPT + "!", stream=True, task_id="reading")
    stream = fleet.worker.stream("/execute", task)
    stream.sees("progress")
    health = fleet.worker.health()
    assert (health["status"], health["slots_free"]) == ("ready", 3)
    assert fleet.worker.post("/cancel", {"task_id": "reading"}).status == 202
    assert stream.rest().end["stop_reason"] == "cancelled"
    assert fleet.worker.post("/cancel", {"task_id": "reading"}).status == 404
    slots_free(fleet)


def test_a_cancelled_answer_ends_with_what_was_said(fleet: Fleet) -> None:
    stream = fleet.orchestrator.stream("/v2/tasks", a_task(task_id="talk", **ENDLESS))
    stream.sees("token", 5)
    fleet.orchestrator.post("/v2/tasks/talk/cancel")
    end = stream.rest().end
    assert (end["stop_reason"], end["tokens_out"] >= 5) == ("cancelled", True)
    slots_free(fleet)


def worker_client(fleet: Fleet) -> Stream:
    return fleet.worker.stream("/execute", a_task(**ENDLESS))


def openai_client(fleet: Fleet) -> Stream:
    return fleet.orchestrator.stream("/v1/completions", a_task(**ENDLESS))


@pytest.mark.parametrize("open_one", [worker_client, openai_client])
def test_a_client_that_leaves_frees_its_slot(fleet: Fleet, open_one) -> None:
    before = _ended(fleet, "cancelled")
    stream = open_one(fleet)
    stream.until(lambda: len(stream.reads) > 2)
    slots_free(fleet, 3)
    stream.leave()
    slots_free(fleet)
    eventually(lambda: _ended(fleet, "cancelled") == before + 1)


def _ended(fleet: Fleet, outcome: str) -> float:
    """How many tasks the worker counts as ended so."""
    line = f'llorch_tasks_total{{outcome="{outcome}"}} '
    text = fleet.worker.get("/metrics").body.decode()
    return sum(float(found.split()[-1]) for found in text.splitlines() if found.startswith(line))


def test_ctrl_c_ends_infer_with_130_and_the_task_with_it(fleet: Fleet) -> None:
    asked = ("--prompt", "Once upon a time", "--max-tokens", "4000")
    running = fleet.home.start("infer", "--orchestrator", fleet.orchestrator.url, *asked)
    assert running.stdout is not None
    assert running.stdout.read(1)
    interrupt(running)
    code, _, errors = finish(running)
    assert (code, errors) == (130, "")
    slots_free(fleet)


def test_ctrl_c_leaves_no_process_of_a_worker_for_one_answer(home: Home) -> None:
    running = home.start("infer", "--prompt", "Once upon a time", "--max-tokens", "3000")
    assert running.stdout is not None
    assert running.stdout.read(1)
    assert len(home.processes()) == 3  # infer, its worker, the worker's engine
    interrupt(running)
    code, _, errors = finish(running)
    assert (code, "Traceback" in errors) == (130, False)
    home.is_still()


@pytest.mark.parametrize(
    "command",
    [("infer", "--prompt", "one two"), ("pool", "worker", "spawn", "cpu")],
    ids=["infer", "spawn"],
)
def test_ctrl_c_while_a_worker_loads_leaves_no_process_and_no_record(
    command: tuple[str, ...], empty_home: Home
) -> None:
    endless = {"LLORCH_SERVE_WORKER_ECHO_LOAD_SECONDS": "3600"}
    running = empty_home.start(*command, "--engine", "echo", variables=endless)
    assert running.stderr is not None
    assert running.stderr.readline() == b"starting a worker for echo\n"
    eventually(lambda: len(empty_home.processes()) > 1)
    interrupt(running)
    assert finish(running) == (130, "", "")
    empty_home.is_still()
    assert empty_home.ok("pool", "worker", "list", "--json").strip() == "[]"


def test_kill_9_of_infer_leaves_no_process_either(home: Home) -> None:
    running = home.start("infer", "--prompt", "Once upon a time", "--max-tokens", "3000")
    assert running.stdout is not None
    assert running.stdout.read(1)
    running.kill()
    finish(running)
    home.is_still()


def test_a_reader_that_leaves_ends_infer_quietly_with_141(fleet: Fleet) -> None:
    asked = ("--prompt", "Once upon a time", "--max-tokens", "4000")
    running = fleet.home.start("infer", "--worker", fleet.worker.address, *asked)
    reader = subprocess.Popen(["head", "-c", "5"], stdin=running.stdout, stdout=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.close()
    said, _ = reader.communicate(timeout=60)
    assert len(said) == 5
    assert running.stderr is not None
    assert running.stderr.read() == b""
    running.stderr.close()
    assert running.wait(60) == 141
    slots_free(fleet)
