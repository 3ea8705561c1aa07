"""How a worker comes, belongs to a fleet, and goes."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from llorch.daemon.worker import WorkerDaemon, WorkerSettings
from llorch.engine.echo import EchoOptions
from llorch.errors import BindFailed, EngineFailed, ModelFileInvalid
from tests.daemon.living import a_task, a_worker, an_orchestrator, call, follow
from tests.net.looped import run, until

SLOW = EchoOptions(tokens_per_second=20)


async def fleet(orchestrator) -> dict[str, dict]:
    """The workers that an orchestrator knows, by id."""
    shown = (await call("GET", orchestrator.url + "/v2/workers")).json()["workers"]
    return {worker["worker_id"]: worker for worker in shown}


async def fleet_until(orchestrator, condition) -> None:
    for _ in range(2000):
        if condition(await fleet(orchestrator)):
            return
        await asyncio.sleep(0.005)
    raise AssertionError(await fleet(orchestrator))


def test_a_port_in_use_is_told_before_anything_is_loaded():
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            settings = WorkerSettings("echo", bind_port=taken.getsockname()[1], engine="echo")
            events: list[str] = []
            daemon = WorkerDaemon(settings, lambda: None, lambda name, _: events.append(name))
            with pytest.raises(BindFailed, match="is in use"):
                await daemon.run(asyncio.Event())
            assert events == []

    run(main())


def test_a_model_that_cannot_be_fetched_ends_the_worker_with_the_reason():
    def fetch() -> Path | None:
        raise ModelFileInvalid("the file is broken")

    async def main() -> None:
        settings = WorkerSettings("echo", bind_port=0, engine="echo")
        daemon = WorkerDaemon(settings, fetch, lambda *_: None)
        with pytest.raises(ModelFileInvalid, match="the file is broken"):
            await daemon.run(asyncio.Event())

    run(main())


def test_a_worker_registers_when_it_is_ready_and_leaves_the_fleet_at_the_end():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url) as worker,
        ):
            shown = (await fleet(orchestrator))[worker.worker_id]
            assert (shown["url"], shown["status"]) == (worker.url, "ready")
            names = [name for name, _ in worker.events]
            assert names == ["bound", "loading", "ready", "registered"]
            assert await worker.stop() == 0
            assert await fleet(orchestrator) == {}

    run(main())


def test_a_stopping_worker_drains_finishes_what_runs_and_says_goodbye_last():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW, grace_seconds=30) as worker,
        ):
            stream = await follow(worker.url + "/execute", a_task(max_tokens=10))
            await stream.sees("token")
            stopping = asyncio.ensure_future(worker.stop())
            seen = worker.worker_id
            await fleet_until(orchestrator, lambda f: f[seen]["status"] == "draining")
            reply = await call("POST", worker.url + "/execute", a_task())
            assert (reply.status, reply.json()["error"]["code"]) == (503, "SHUTTING_DOWN")
            assert "retry-after" in reply.headers
            health = await call("GET", worker.url + "/health")
            assert (health.status, health.json()["status"]) == (503, "draining")
            end = (await stream.rest()).data("end")[0]
            assert end["tokens_out"] == 10
            assert await stopping == 0
            assert await fleet(orchestrator) == {}

    run(main())


def test_no_report_follows_the_goodbye():
    async def main() -> None:
        async with an_orchestrator() as orchestrator:
            for _ in range(10):
                async with a_worker(orchestrator=orchestrator.url, grace_seconds=5) as worker:
                    stream = await follow(worker.url + "/execute", a_task())
                    await worker.stop()  # the end of the stream is news for the orchestrator
                    await stream.rest()
            assert await fleet(orchestrator) == {}

    run(main())


def test_what_still_runs_when_the_grace_ends_gets_one_error():
    async def main() -> None:
        async with a_worker(echo=SLOW, slots=1, grace_seconds=0.1) as worker:
            running = await follow(worker.url + "/execute", a_task(max_tokens=1000))
            waiting = await follow(worker.url + "/execute", a_task(max_tokens=1000))
            await running.sees("token")
            await waiting.sees("queued")
            assert await worker.stop() == 0
            for stream in (running, waiting):
                assert (await stream.rest()).data("error")[0]["code"] == "SHUTTING_DOWN"

    run(main())


def test_a_drained_worker_finishes_takes_nothing_new_and_stays():
    async def main() -> None:
        async with a_worker(echo=SLOW) as worker:
            stream = await follow(worker.url + "/execute", a_task(max_tokens=5))
            await stream.sees("started")
            for _ in range(2):
                reply = await call("POST", worker.url + "/drain")
                assert (reply.status, reply.json()["status"]) == (202, "draining")
            assert (await call("POST", worker.url + "/v1/completions", a_task())).status == 503
            assert (await stream.rest()).data("end")[0]["tokens_out"] == 5
            assert (await call("GET", worker.url + "/health")).json()["status"] == "draining"
            assert len(worker.said("draining")) == 1

    run(main())


def test_an_engine_that_dies_gives_every_stream_one_error_and_ends_the_worker():
    async def main() -> None:
        async with a_worker(echo=SLOW, slots=1, grace_seconds=30) as worker:
            running = await follow(worker.url + "/execute", a_task(max_tokens=1000))
            waiting = await follow(worker.url + "/execute", a_task(max_tokens=1000))
            await running.sees("token")
            await waiting.sees("queued")
            worker.engine.die("out of memory")
            for stream in (running, waiting):
                error = (await stream.rest()).data("error")[0]
                assert (error["code"], error["message"]) == ("ENGINE_FAILED", "out of memory")
            with pytest.raises(EngineFailed, match="out of memory"):
                await worker.life

    run(main())


def test_a_worker_serves_its_own_clients_while_no_orchestrator_answers():
    async def main() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
            async with a_worker() as worker:
                await worker.stop()
            async with a_worker(orchestrator=nobody, ready=False) as worker:
                await worker.says("unregistered")
                await (await follow(worker.url + "/execute", a_task())).rest()
                assert await worker.stop() == 0

    run(main())


def test_a_worker_registers_again_with_an_orchestrator_that_was_restarted():
    async def main() -> None:
        async with an_orchestrator() as first:
            port = int(first.url.rpartition(":")[2])
            async with a_worker(orchestrator=first.url) as worker:
                await first.stop()
                async with an_orchestrator(bind_port=port) as second:
                    worker.daemon._membership.poke()
                    await fleet_until(second, lambda f: worker.worker_id in f)
                    stream = await follow(second.url + "/v2/tasks", a_task(stream=True))
                    await stream.rest()

    run(main())


def test_slots_that_direct_clients_take_are_reported_at_once():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url, echo=SLOW) as worker,
        ):
            stream = await follow(worker.url + "/execute", a_task(max_tokens=1000))
            seen = worker.worker_id
            await fleet_until(orchestrator, lambda f: f[seen]["slots_elsewhere"] == 1)
            await stream.leave()
            await fleet_until(orchestrator, lambda f: f[seen]["slots_elsewhere"] == 0)

    run(main())


def test_a_worker_that_is_cancelled_leaves_nothing_behind():
    async def main() -> None:
        async with (
            an_orchestrator() as orchestrator,
            a_worker(orchestrator=orchestrator.url) as worker,
        ):
            worker.life.cancel()
            await asyncio.wait([worker.life])
            await until(lambda: worker.life.done(), "it lives")

    run(main())
