"""The orchestrator beside its task dialect: OpenAI, the control plane, shutdown, long use."""

from __future__ import annotations

import asyncio
import gc
import json
import sys

import pytest

from llorch.core.limits import Limits
from llorch.daemon.orchestrator import TICK_SECONDS
from llorch.engine.echo import EchoOptions
from tests.daemon.living import Living, a_task, a_worker, an_orchestrator, call, follow
from tests.net.looped import run, until

SLOW = EchoOptions(tokens_per_second=20)
FOREVER = {"max_tokens": 100_000}
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


async def health(orchestrator: Living) -> dict:
    body = (await call("GET", orchestrator.url + "/health")).json()
    assert isinstance(body, dict)
    return body


# -- the OpenAI dialect -----------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/v1", ""])
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_an_openai_answer_is_the_workers_own_but_for_its_id(path, prefix):
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url) as worker,
        ):
            body = CHAT | {"prompt": "Grüße 世界 🎉", "seed": 1, "max_tokens": 30}
            for stream in (False, True):
                options = {"stream": stream, "stream_options": {"include_usage": True}}
                replies = [
                    await call("POST", f"{url}{prefix}/{path}", body | options)
                    for url in (orchestrator.url, worker.url)
                ]
                relayed = replies[0]
                assert relayed.headers["x-llorch-worker"] == worker.worker_id
                assert relayed.headers["x-llorch-queue-ms"].isdigit()
                assert texts(relayed.body, stream) == texts(replies[1].body, stream)
                if stream:
                    assert relayed.headers["content-type"].startswith("text/event-stream")
                    assert relayed.body.endswith(b"data: [DONE]\n\n")
                    assert relayed.headers["x-llorch-task"].encode() in relayed.body

    run(main())


def texts(body: bytes, stream: bool) -> list[str]:
    """What an answer says, piece by piece."""
    if stream:
        lines = [line[6:] for line in body.decode().split("\n") if line.startswith("data: {")]
        parts = [json.loads(line)["choices"] for line in lines]
    else:
        parts = [json.loads(body)["choices"]]
    return [json.dumps(choice[0]) for choice in parts if choice]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("phase", ["waiting", "running"])
def test_an_openai_client_that_leaves_ends_its_task_at_once(phase, stream):
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW, slots=1) as worker,
        ):
            url = orchestrator.url + "/v1/chat/completions"
            body = CHAT | {"stream": stream, **FOREVER}
            clients = [asyncio.ensure_future(call("POST", url, body))]
            await until(lambda: worker.line.running, "it does not run")
            if phase == "waiting":
                clients.append(asyncio.ensure_future(call("POST", url, body)))
                while not (await health(orchestrator))["queue_depth"]:
                    await asyncio.sleep(0.005)
            clients.reverse()
            for client in clients:
                client.cancel()
                await asyncio.wait([client])
                while (await health(orchestrator))["queue_depth"]:
                    await asyncio.sleep(0.005)
            await until(lambda: not worker.line.running, "the slot is taken")
            while (await health(orchestrator))["running"]:
                await asyncio.sleep(0.005)

    run(main())


def test_faulty_openai_requests_and_foreign_models_are_told_as_its_clients_expect():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url),
        ):
            url = orchestrator.url + "/v1/chat/completions"
            faulty = await call(
                "POST", url, {"model": "echo", "messages": [], "n": 2, "tools": [1]}
            )
            error = faulty.json()["error"]
            assert (faulty.status, error["type"]) == (400, "invalid_request_error")
            assert {d["field"] for d in error["details"]} == {"messages", "n", "tools"}
            foreign = await call("POST", url, CHAT | {"model": "gpt"})
            assert (foreign.status, foreign.json()["error"]["code"]) == (404, "model_not_found")

    run(main())


def test_an_openai_request_is_not_readable_as_a_task_stream():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url),
        ):
            reply = await call(
                "POST", orchestrator.url + "/v1/chat/completions", CHAT | {"max_tokens": 2}
            )
            url = f"{orchestrator.url}/v2/tasks/{reply.headers['x-llorch-task']}"
            assert (await call("GET", url)).json()["status"] == "finished"
            assert (await call("GET", url + "/events")).status == 404

    run(main())


# -- the control plane ------------------------------------------------------------------------


def test_workers_models_and_health_show_what_there_is():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, name="org/a:q4", slots=1, echo=SLOW) as one,
            a_worker(orchestrator=orchestrator.url, name="b", slots=3),
        ):
            stream = await follow(
                one.url + "/v1/completions", a_task(model="org/a:q4", stream=True)
            )
            await call("GET", orchestrator.url + "/health")
            models = (await call("GET", orchestrator.url + "/v2/models")).json()["models"]
            assert [(m["id"], m["status"], m["slots"]) for m in models] == [
                ("b", "ready", 3),
                ("org/a:q4", "ready", 1),
            ]
            listed = (await call("GET", orchestrator.url + "/v1/models")).json()
            assert [m["id"] for m in listed["data"]] == ["b", "org/a:q4"]
            one_model = await call("GET", orchestrator.url + "/v1/models/org/a:q4")
            assert one_model.json()["meta"] == {"n_ctx": 4096}
            assert (await call("GET", orchestrator.url + "/v1/models/none")).status == 404
            told = await health(orchestrator)
            assert (told["status"], told["workers"], told["workers_ready"]) == ("ok", 2, 2)
            await stream.leave()

    run(main())


def test_metrics_count_tasks_workers_and_the_queue():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url) as worker,
        ):
            stream = await follow(orchestrator.url + "/v2/tasks", a_task(stream=True))
            await stream.rest()
            await call("POST", orchestrator.url + "/v2/tasks", a_task(model="none"))
            reply = await call("GET", orchestrator.url + "/metrics")
            assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
            text = reply.body.decode()
            for line in (
                'llorch_tasks_total{outcome="finished"} 1.0',
                'llorch_tasks_total{outcome="refused"} 1.0',
                'llorch_queue_depth{priority="interactive"} 0.0',
                f'llorch_worker_up{{model="echo",worker="{worker.worker_id}"}} 1.0',
            ):
                assert line in text

    run(main())


# -- shutdown ---------------------------------------------------------------------------------


def test_a_stopping_orchestrator_finishes_what_runs_and_refuses_the_rest():
    async def main() -> None:
        async with (
            an_orchestrator(grace_seconds=30) as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW, slots=1),
        ):
            url = orchestrator.url + "/v2/tasks"
            running = await follow(url, a_task(stream=True, max_tokens=10))
            await running.sees("token")
            waiting = await follow(url, a_task(stream=True))
            await waiting.sees("queued")
            asking = asyncio.ensure_future(
                call("POST", orchestrator.url + "/v1/chat/completions", CHAT)
            )
            while (await health(orchestrator))["queue_depth"] < 2:
                await asyncio.sleep(0.005)
            stopping = asyncio.ensure_future(orchestrator.stop())
            await orchestrator.says("draining")
            told = await call("GET", orchestrator.url + "/health")
            assert (told.status, told.json()["status"]) == (503, "shutting_down")
            refused = await call("POST", url, a_task())
            assert (refused.status, refused.json()["error"]["code"]) == (503, "SHUTTING_DOWN")
            assert (await waiting.rest()).data("error")[0]["code"] == "SHUTTING_DOWN"
            assert (await asking).status == 503
            assert (await running.rest()).data("end")[0]["tokens_out"] == 10
            assert await stopping == 0

    run(main())


def test_what_still_runs_when_the_grace_ends_gets_one_error_and_frees_its_slot():
    async def main() -> None:
        async with (
            an_orchestrator(grace_seconds=0.1) as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW) as worker,
        ):
            stream = await follow(orchestrator.url + "/v2/tasks", a_task(stream=True, **FOREVER))
            await stream.sees("token")
            assert await orchestrator.stop() == 0
            assert (await stream.rest()).data("error")[0]["code"] == "SHUTTING_DOWN"
            await until(lambda: not worker.line.running, "the slot is taken")

    run(main())


# -- long use ---------------------------------------------------------------------------------


def test_two_thousand_streams_leave_nothing_behind():
    """Bounded retention: what a task leaves is forgotten, and nothing else grows."""

    async def main() -> None:
        limits = Limits(max_retained=20)
        async with (
            an_orchestrator(limits) as orchestrator,
            a_worker(orchestrator=orchestrator.url, slots=8),
        ):
            await streams(orchestrator, 200)
            before = await blocks(orchestrator)
            await streams(orchestrator, 2000)
            grown = await blocks(orchestrator) - before
            assert grown < 2000, f"{grown} blocks of memory more"

    run(main())


async def streams(orchestrator: Living, count: int) -> None:
    async def client(number: int) -> None:
        for _ in range(number):
            stream = await follow(orchestrator.url + "/v2/tasks", a_task(stream=True, max_tokens=3))
            await stream.rest()

    await asyncio.gather(*(client(count // 8) for _ in range(8)))


async def blocks(orchestrator: Living) -> int:
    """Pieces of memory in use, after a tick that forgets."""
    while (await health(orchestrator))["running"]:
        await asyncio.sleep(0.01)
    await asyncio.sleep(2 * TICK_SECONDS)
    gc.collect()
    return sys.getallocatedblocks()
