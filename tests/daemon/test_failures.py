"""Workers that die, hang, refuse or leave, seen by clients of the orchestrator."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llorch.core.limits import Limits
from llorch.engine.echo import EchoOptions
from llorch.errors import Forbidden
from tests.daemon.living import (
    Follower,
    Living,
    Process,
    a_process,
    a_task,
    a_worker,
    an_orchestrator,
    call,
    follow,
)
from tests.net.looped import run, until
from tests.net.raw import a_server

SLOW = EchoOptions(tokens_per_second=20)
FOREVER = {"max_tokens": 100_000}
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], **FOREVER}
WORKER = ("serve-worker", "--engine", "echo", "--echo-tps", "20", "--slots", "1")


@asynccontextmanager
async def a_slow_process(
    home: Path, limits: Limits | None = None
) -> AsyncIterator[tuple[Living, Process]]:
    """An orchestrator here, and a slow worker of its in a process that can be killed."""
    async with (
        an_orchestrator(limits) as orchestrator,
        a_process(*WORKER, "--orchestrator", orchestrator.url, home=home) as worker,
    ):
        await worker.says("registered")
        yield orchestrator, worker


async def streamed(orchestrator: Living, **fields) -> Follower:
    return await follow(orchestrator.url + "/v2/tasks", a_task(stream=True, **fields))


async def workers(orchestrator: Living) -> dict[str, dict]:
    shown = (await call("GET", orchestrator.url + "/v2/workers")).json()["workers"]
    return {worker["worker_id"]: worker for worker in shown}


async def show(orchestrator: Living, task_id: str) -> Any:
    return (await call("GET", f"{orchestrator.url}/v2/tasks/{task_id}")).json()


def test_the_operator_reads_of_workers_that_come_and_die_and_of_the_task_that_failed(tmp_path):
    async def main():
        async with a_slow_process(tmp_path) as (orchestrator, worker):
            await until(lambda: orchestrator.said("worker"), "no line of the worker")
            stream = await streamed(orchestrator, **FOREVER)
            await stream.sees("token", 1)
            worker.signal(signal.SIGKILL)
            await stream.rest()
            await until(lambda: len(orchestrator.said("worker")) > 1, "no line of its death")
            assert [w["status"] for w in orchestrator.said("worker")][:2] == ["ready", "failed"]
            (failed,) = orchestrator.said("failed")
            assert failed["code"] == "WORKER_LOST"

    run(main())


def test_a_worker_that_is_killed_in_mid_stream_ends_the_stream_with_one_error(tmp_path):
    async def main() -> None:
        async with a_slow_process(tmp_path) as (orchestrator, worker):
            stream = await streamed(orchestrator, task_id="t", **FOREVER)
            await stream.sees("token", 3)
            worker.signal(signal.SIGKILL)
            error = (await stream.rest()).data("error")[0]
            assert (error["code"], error["retriable"]) == ("WORKER_LOST", True)
            shown = await show(orchestrator, "t")
            assert (shown["status"], shown["attempt"]) == ("failed", 1)
            assert shown["text"] == stream.text

    run(main())


def test_an_openai_stream_of_a_killed_worker_ends_with_the_error_and_without_done(tmp_path):
    async def main() -> None:
        async with a_slow_process(tmp_path) as (orchestrator, worker):
            url = orchestrator.url + "/v1/chat/completions"
            stream = await follow(url, CHAT | {"stream": True})
            await stream.sees_bytes(b'"content":"')
            await stream.sees_bytes(b"id: t1:")
            worker.signal(signal.SIGKILL)
            raw = await stream.raw_rest()
            last = json.loads(raw.rstrip().rpartition(b"data: ")[2])
            assert last["error"]["code"] == "WORKER_LOST"
            assert raw.count(b'"error"') == 1
            assert b"[DONE]" not in raw

    run(main())


def test_a_whole_openai_answer_of_a_killed_worker_is_502_when_no_other_can_answer(tmp_path):
    async def main() -> None:
        async with a_slow_process(tmp_path, Limits(max_attempts=1)) as (orchestrator, worker):
            url = orchestrator.url + "/v1/chat/completions"
            asking = asyncio.ensure_future(call("POST", url, CHAT))
            await until_running(orchestrator)
            worker.signal(signal.SIGKILL)
            reply = await asking
            assert (reply.status, reply.json()["error"]["code"]) == (502, "WORKER_LOST")

    run(main())


async def until_running(orchestrator: Living) -> None:
    while not (await call("GET", orchestrator.url + "/health")).json()["running"]:
        await asyncio.sleep(0.005)


SLOW_READER = EchoOptions(prefill_tokens_per_second=20)
LONG = "one two three " * 100


def test_a_stream_whose_worker_dies_before_the_first_text_goes_on_with_another():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW_READER) as dying,
        ):
            stream = await streamed(orchestrator, task_id="t", prompt=LONG)
            await stream.sees("started")
            async with a_worker(orchestrator=orchestrator.url) as other:
                dying.vanish()
                await stream.rest()
                started = stream.data("started")
                assert [s["attempt"] for s in started] == [1, 2]
                ids = [dying.worker_id, other.worker_id]
                assert [s["worker"] for s in started] == ids
                assert stream.text.startswith(" one two")
                assert len((await show(orchestrator, "t"))["failures"]) == 1

    run(main())


@pytest.mark.parametrize("whole", [True, False])
def test_an_openai_client_does_not_notice_a_worker_that_dies_before_the_first_text(whole):
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW_READER) as dying,
        ):
            body = a_task(prompt=LONG, stream=not whole)
            asking = asyncio.ensure_future(call("POST", orchestrator.url + "/v1/completions", body))
            await until(lambda: dying.line.running, "it does not run")
            async with a_worker(orchestrator=orchestrator.url):
                dying.vanish()
                reply = await asking
                assert reply.status == 200
                if whole:
                    assert reply.json()["choices"][0]["text"].startswith(" one two")
                else:
                    assert reply.body.endswith(b"data: [DONE]\n\n")

    run(main())


def test_a_task_that_no_worker_can_finish_ends_with_an_error_after_its_attempts():
    async def main() -> None:
        async with (
            an_orchestrator(Limits(max_attempts=2)) as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW_READER) as one,
            a_worker(orchestrator=orchestrator.url, echo=SLOW_READER) as two,
        ):
            stream = await streamed(orchestrator, task_id="t", prompt=LONG)
            for attempt in (1, 2):
                started = (await stream.sees("started", attempt))[-1]
                (one if started["worker"] == one.worker_id else two).vanish()
            assert (await stream.rest()).data("error")[0]["code"] == "WORKER_LOST"
            assert len((await show(orchestrator, "t"))["failures"]) == 2

    run(main())


def test_a_worker_that_hangs_is_severed_when_its_lease_expires(tmp_path):
    async def main() -> None:
        async with a_slow_process(tmp_path, Limits(lease_seconds=2.0)) as (orchestrator, worker):
            stream = await streamed(orchestrator, **FOREVER)
            await stream.sees("token")
            worker.signal(signal.SIGSTOP)
            error = (await stream.rest()).data("error")[0]
            assert error["code"] == "WORKER_LOST"
            (shown,) = (await workers(orchestrator)).values()
            assert shown["status"] == "failed"
            worker.signal(signal.SIGCONT)
            worker.signal(signal.SIGKILL)

    run(main())


def test_a_cancel_that_a_hung_worker_does_not_hear_is_cut_off(tmp_path):
    async def main() -> None:
        limits = Limits(lease_seconds=60, cancel_seconds=0.3)
        async with a_slow_process(tmp_path, limits) as (orchestrator, worker):
            stream = await streamed(orchestrator, task_id="t", **FOREVER)
            await stream.sees("token")
            worker.signal(signal.SIGSTOP)
            await call("POST", orchestrator.url + "/v2/tasks/t/cancel")
            assert (await stream.rest()).data("end")[0]["stop_reason"] == "cancelled"
            worker.signal(signal.SIGKILL)

    run(main())


def test_an_overlong_prompt_is_not_waited_for_when_the_worker_hangs(tmp_path, monkeypatch):
    """A long prompt is counted by a worker; one that hangs is not asked for ever."""
    monkeypatch.setattr("llorch.net.client.ask.__kwdefaults__", {"body": b"", "seconds": 0.2})

    async def main() -> None:
        async with a_slow_process(tmp_path) as (orchestrator, worker):
            worker.signal(signal.SIGSTOP)
            body = a_task(prompt="a " * 50_000)
            reply = await call("POST", orchestrator.url + "/v2/tasks", body)
            assert reply.status == 202
            worker.signal(signal.SIGKILL)

    run(main())


def test_a_worker_that_leaves_in_good_order_finishes_what_it_runs_for_the_orchestrator():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW, grace_seconds=30) as worker,
        ):
            stream = await streamed(orchestrator, max_tokens=10)
            await stream.sees("token")
            assert await worker.stop() == 0
            assert (await stream.rest()).data("end")[0]["tokens_out"] == 10
            assert await workers(orchestrator) == {}

    run(main())


def test_a_busy_worker_is_tried_again_and_the_task_waits_its_turn():
    """A direct client took the slot and the orchestrator has not heard of it yet."""

    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW, slots=1, line_bound=0) as worker,
        ):
            worker.daemon.loaded.on_change = lambda: None
            direct = await follow(worker.url + "/execute", a_task(**FOREVER))
            await direct.sees("started")
            stream = await streamed(orchestrator, task_id="t", max_tokens=2)
            await stream.sees("queued", 2)
            assert (await show(orchestrator, "t"))["failures"]
            await direct.leave()
            await until(lambda: not worker.line.running, "the slot is taken")
            worker.daemon._membership.poke()
            await stream.rest()
            assert stream.data("started")[0]["attempt"] == 2

    run(main())


def test_an_engine_that_dies_gives_its_error_to_the_client_unchanged():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW) as worker,
        ):
            stream = await streamed(orchestrator, task_id="t", **FOREVER)
            await stream.sees("token")
            worker.engine.die("out of memory")
            error = (await stream.rest()).data("error")[0]
            assert (error["code"], error["message"]) == ("ENGINE_FAILED", "out of memory")
            assert (await show(orchestrator, "t"))["status"] == "failed"

    run(main())


def test_a_worker_is_adopted_by_its_address_and_missed_when_it_is_gone(monkeypatch):
    monkeypatch.setattr("llorch.daemon.adoption.HEARTBEAT_SECONDS", 0.05)

    async def main() -> None:
        async with a_worker() as worker:
            limits = Limits(lease_seconds=0.5)
            async with an_orchestrator(limits, workers=(worker.url,)) as orchestrator:
                await orchestrator.says("adopted")
                await (await streamed(orchestrator)).rest()
                await worker.stop()
                facts = await orchestrator.says("unreachable")
                assert facts["worker"] == worker.url
                assert "Connection refused" in facts["reason"]
                while (await workers(orchestrator))[worker.worker_id]["status"] != "failed":
                    await asyncio.sleep(0.01)
                reply = await call("POST", orchestrator.url + "/v2/tasks", a_task())
                assert (reply.status, reply.json()["error"]["code"]) == (503, "POOL_UNAVAILABLE")

    run(main())


def test_what_is_no_worker_is_not_adopted(monkeypatch):
    monkeypatch.setattr("llorch.daemon.adoption.HEARTBEAT_SECONDS", 0.05)

    async def main() -> None:
        async with (
            an_orchestrator() as other,
            an_orchestrator(workers=(other.url,)) as orchestrator,
        ):
            facts = await orchestrator.says("unreachable")
            assert "no llorch worker" in facts["reason"]
            assert await workers(orchestrator) == {}

    run(main())


def test_the_reason_of_a_refusal_is_told_where_a_worker_is_not_adopted():
    async def refuse(_request: object) -> None:
        raise Forbidden("not for you")

    async def main() -> None:
        async with (
            a_server(refuse) as server,
            an_orchestrator(workers=(server.url,)) as orchestrator,
        ):
            assert (await orchestrator.says("unreachable"))["reason"] == "not for you"

    run(main())


def test_two_machines_of_one_host_name_are_not_taken_for_one_worker():
    async def main() -> None:
        async with an_orchestrator() as orchestrator:
            register = orchestrator.url + "/v2/workers/register"
            report = {"worker_id": "pi-8001", "model": "echo", "url": "http://10.0.0.1:8001"}
            first = await call("POST", register, report | {"started": 1})
            again = await call("POST", register, report | {"started": 2})
            assert (first.status, again.status) == (200, 200)
            other = report | {"url": "http://10.0.0.2:8001", "started": 3}
            refused = await call("POST", register, other)
            assert refused.status == 409
            assert "http://10.0.0.1:8001" in refused.json()["error"]["message"]
            known = (await workers(orchestrator))["pi-8001"]
            assert (known["url"], known["started"]) == ("http://10.0.0.1:8001", 2)

    run(main())


def test_a_drained_worker_gets_nothing_new_and_a_removed_one_is_gone():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW) as worker,
        ):
            stream = await streamed(orchestrator, max_tokens=5)
            await stream.sees("started")
            url = f"{orchestrator.url}/v2/workers/{worker.worker_id}"
            assert (await call("POST", url + "/drain")).status == 202
            reply = await call("POST", orchestrator.url + "/v2/tasks", a_task())
            assert (reply.status, reply.json()["error"]["code"]) == (503, "POOL_UNAVAILABLE")
            assert (await stream.rest()).data("end")
            assert (await call("DELETE", url)).status == 200
            again = await call("DELETE", url)
            assert (again.status, again.json()["error"]["code"]) == (404, "WORKER_NOT_FOUND")

    run(main())


def test_removing_a_worker_ends_what_it_ran_with_one_error():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW) as worker,
        ):
            stream = await streamed(orchestrator, **FOREVER)
            await stream.sees("token")
            await call("DELETE", f"{orchestrator.url}/v2/workers/{worker.worker_id}")
            error = (await stream.rest()).data("error")[0]
            assert error["code"] == "WORKER_LOST"
            assert error["message"].endswith("was lost: it left the fleet")
            await until(lambda: not worker.line.running, "the slot is taken")

    run(main())


@pytest.mark.parametrize(
    "report",
    [
        {},
        {"worker_id": "a\r\nb", "url": "http://h:1", "model": "m"},
        {"worker_id": "a", "url": "https://h:1", "model": "m"},
        {"worker_id": "a", "url": "http://h:99999", "model": "m"},
        {"worker_id": "a", "url": "http://h:1", "model": "m", "slots": 0},
        {"worker_id": "a", "url": "http://h:1", "model": "m", "status": "dancing"},
    ],
)
def test_a_faulty_report_is_400(report):
    async def main() -> None:
        async with an_orchestrator() as orchestrator:
            reply = await call("POST", orchestrator.url + "/v2/workers/register", report)
            assert reply.status == 400
            assert await workers(orchestrator) == {}

    run(main())
