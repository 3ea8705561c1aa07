"""The orchestrator's task dialect, from submission to the last event."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from llorch.core.limits import Limits
from llorch.engine.echo import EchoOptions
from llorch.wire import sse
from tests.daemon.living import Follower, a_task, a_worker, an_orchestrator, call, follow
from tests.net.looped import run, until

SLOW = EchoOptions(tokens_per_second=20)
FOREVER = {"max_tokens": 100_000}


async def submit(orchestrator, headers=(), **fields):
    return await call("POST", orchestrator.url + "/v2/tasks", a_task(**fields), headers)


async def streamed(orchestrator, **fields) -> Follower:
    return await follow(orchestrator.url + "/v2/tasks", a_task(stream=True, **fields))


async def events(orchestrator, task_id: str, headers=(), query: str = "") -> Follower:
    return await follow(f"{orchestrator.url}/v2/tasks/{task_id}/events{query}", None, headers)


async def show(orchestrator, task_id: str) -> Any:
    return (await call("GET", f"{orchestrator.url}/v2/tasks/{task_id}")).json()


async def cancel(orchestrator, task_id: str, method: str = "POST"):
    url = f"{orchestrator.url}/v2/tasks/{task_id}"
    return await call(method, url if method == "DELETE" else url + "/cancel")


async def is_final(orchestrator, task_id: str) -> Any:
    while (shown := await show(orchestrator, task_id))["status"] in {
        "queued",
        "running",
        "cancelling",
    }:
        await asyncio.sleep(0.005)
    return shown


def fleet(limits: Limits | None = None, **worker):
    """An orchestrator and one worker that registered with it."""

    class Both:
        async def __aenter__(self):
            self.outer = an_orchestrator(limits)
            orchestrator = await self.outer.__aenter__()
            self.inner = a_worker(orchestrator=orchestrator.url, **worker)
            return orchestrator, await self.inner.__aenter__()

        async def __aexit__(self, *error):
            await self.inner.__aexit__(*error)
            await self.outer.__aexit__(*error)

    return Both()


# -- submission -------------------------------------------------------------------------------


def test_a_task_is_accepted_with_202_and_where_its_events_are():
    async def main() -> None:
        async with fleet() as (orchestrator, _):
            reply = await submit(orchestrator)
            body = reply.json()
            assert reply.status == 202
            assert reply.headers["location"] == f"/v2/tasks/{body['task_id']}"
            assert body["events_url"] == f"/v2/tasks/{body['task_id']}/events"
            assert body["status"] in {"queued", "running", "finished"}
            assert body["queue_position"] == 0
            assert body["predicted_start_ms"] == 0
            stream = await (await events(orchestrator, body["task_id"])).rest()
            assert stream.text.startswith(" one two three"[:10])

    run(main())


def test_a_stream_is_the_workers_own_text_byte_for_byte():
    async def main() -> None:
        async with fleet() as (orchestrator, worker):
            fields = {"prompt": 'Grüße, 世界 🎉 \\n "x"', "max_tokens": 200, "seed": 1}
            relayed = await (await streamed(orchestrator, **fields)).rest()
            own = await (await follow(worker.url + "/execute", a_task(**fields))).rest()
            assert relayed.names[0] == "queued"
            assert relayed.headers["x-llorch-task"] == relayed.data("started")[0]["task_id"]
            from_first = re.compile(rb"id: t0:.*(?=id: end\n)", re.DOTALL)
            assert from_first.findall(relayed.raw) == from_first.findall(own.raw) != []
            assert relayed.text == own.text

    run(main())


def test_all_faults_of_a_task_are_told_at_once():
    async def main() -> None:
        async with fleet() as (orchestrator, _):
            reply = await submit(orchestrator, prompt="", max_tokens=0, priority="x", temperature=9)
            fields = {fault["field"] for fault in reply.json()["error"]["details"]}
            assert reply.status == 400
            assert fields == {"prompt", "max_tokens", "priority", "temperature"}

    run(main())


def test_without_a_worker_a_task_is_503_and_with_another_model_404():
    async def main() -> None:
        async with an_orchestrator() as orchestrator:
            reply = await submit(orchestrator)
            assert (reply.status, reply.json()["error"]["code"]) == (503, "POOL_UNAVAILABLE")
            assert "retry-after" in reply.headers
            async with a_worker(orchestrator=orchestrator.url):
                reply = await submit(orchestrator, model="other")
                assert (reply.status, reply.json()["error"]["code"]) == (404, "model_not_found")

    run(main())


@pytest.mark.parametrize("dialect", ["prompt", "messages", "openai"])
def test_a_prompt_that_fits_no_worker_is_400_with_both_numbers(dialect):
    async def main() -> None:
        async with fleet(ctx=64) as (orchestrator, _):
            long = "a " * 100
            turns = [{"role": "user", "content": long}]
            path, body = {
                "prompt": ("/v2/tasks", {"model": "echo", "prompt": long}),
                "messages": ("/v2/tasks", {"model": "echo", "messages": turns}),
                "openai": ("/v1/chat/completions", {"model": "echo", "messages": turns}),
            }[dialect]
            reply = await call("POST", orchestrator.url + path, body)
            error = reply.json()["error"]
            assert (reply.status, error["code"]) == (400, "context_length_exceeded")
            assert error["n_ctx"] == 64
            assert error["n_prompt_tokens"] > 64

    run(main())


def test_the_correlation_id_goes_through_to_the_worker_and_back():
    async def main() -> None:
        async with fleet() as (orchestrator, _):
            reply = await submit(orchestrator, [("x-correlation-id", "my-id")])
            assert reply.headers["x-correlation-id"] == "my-id"

    run(main())


# -- idempotency ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["Idempotency-Key", "task_id", "job_id"])
def test_a_task_is_never_run_twice_for_one_key(how):
    async def main() -> None:
        async with fleet() as (orchestrator, worker):
            headers = [(how, "key-1")] if how == "Idempotency-Key" else []
            fields = {} if headers else {how: "key-1"}
            ids = {(await submit(orchestrator, headers, **fields)).json()["task_id"] for _ in "123"}
            assert len(ids) == 1
            if not headers:
                assert ids == {"key-1"}
            await is_final(orchestrator, *ids)
            again = await submit(orchestrator, headers, **fields)
            assert (again.status, again.json()["status"]) == (202, "finished")
            other = await submit(orchestrator, headers, **fields, max_tokens=9)
            assert (other.status, other.json()["error"]["code"]) == (409, "IDEMPOTENCY_CONFLICT")
            assert other.headers["x-should-retry"] == "false"
            metrics = (await call("GET", worker.url + "/metrics")).body
            assert b'llorch_tasks_total{outcome="length"} 1.0' in metrics

    run(main())


def test_a_key_of_a_refused_task_may_be_used_again():
    async def main() -> None:
        async with an_orchestrator() as orchestrator:
            headers = [("idempotency-key", "k")]
            assert (await submit(orchestrator, headers, task_id="t")).status == 503
            async with a_worker(orchestrator=orchestrator.url):
                assert (await submit(orchestrator, headers, task_id="t")).status == 202
                await is_final(orchestrator, "t")

    run(main())


def test_the_same_streamed_task_again_is_the_same_stream_again():
    async def main() -> None:
        async with fleet(echo=SLOW) as (orchestrator, _):
            one = await streamed(orchestrator, task_id="t")
            await one.sees("token")
            two = await streamed(orchestrator, task_id="t")
            await asyncio.gather(one.rest(), two.rest())
            assert one.raw == two.raw

    run(main())


# -- events -----------------------------------------------------------------------------------


def test_a_stream_can_be_resumed_after_every_event():
    async def main() -> None:
        async with fleet() as (orchestrator, _):
            await submit(orchestrator, task_id="t")
            whole = await (await events(orchestrator, "t")).rest()
            at = 0
            for frame in whole.frames[:-1]:
                at = whole.raw.index(b"\n\n", at) + 2
                for headers, query in (
                    ([("last-event-id", frame.event_id)], ""),
                    ([], f"?after={frame.event_id}"),
                ):
                    rest = await (await events(orchestrator, "t", headers, query)).rest()
                    assert rest.raw == whole.raw[at:]
            url = f"{orchestrator.url}/v2/tasks/t/events"
            done = await call("GET", url, headers=[("last-event-id", whole.frames[-1].event_id)])
            assert (done.status, done.body) == (204, b"")
            lost = await call("GET", url + "?after=t99:1")
            assert (lost.status, lost.json()["error"]["code"]) == (410, "OFFSET_LOST")

    run(main())


def test_a_reader_that_comes_back_while_the_task_runs_misses_nothing():
    async def main() -> None:
        async with fleet(echo=SLOW) as (orchestrator, _):
            await submit(orchestrator, task_id="t", max_tokens=12)
            first = await events(orchestrator, "t")
            await first.sees("token", 3)
            await first.leave()
            last = first.frames[-1].event_id
            rest = await (await events(orchestrator, "t", [("last-event-id", last)])).rest()
            whole = await (await events(orchestrator, "t")).rest()
            seen = first.raw[: first.raw.rindex(b"\n\n") + 2]
            assert seen + rest.raw == whole.raw

    run(main())


def test_two_readers_of_one_task_get_the_same():
    async def main() -> None:
        async with fleet(echo=SLOW) as (orchestrator, _):
            await submit(orchestrator, task_id="t", max_tokens=6)
            one, two = await events(orchestrator, "t"), await events(orchestrator, "t")
            await asyncio.gather(one.rest(), two.rest())
            assert one.raw == two.raw

    run(main())


def test_a_slow_reader_holds_nobody_up_and_gets_everything():
    async def main() -> None:
        async with fleet() as (orchestrator, _):
            await submit(orchestrator, task_id="t", max_tokens=4000)
            slow = await events(orchestrator, "t")
            slow.pause()
            fast = await (await events(orchestrator, "t")).rest()
            slow.resume()
            assert (await slow.rest()).raw == fast.raw

    run(main())


def test_a_task_that_waits_in_silence_is_heard_of(monkeypatch):
    monkeypatch.setattr("llorch.daemon.orchestrator.PING_SECONDS", 0.05)

    async def main() -> None:
        async with fleet(slots=1, echo=SLOW) as (orchestrator, _):
            first = await streamed(orchestrator, **FOREVER)
            await first.sees("started")
            waits = await streamed(orchestrator)
            await waits.sees_bytes(sse.KEEP_ALIVE * 2)
            assert waits.names == ["queued"]
            await first.leave()
            await waits.leave()

    run(main())


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/v2/tasks/none"),
        ("GET", "/v2/tasks/none/events"),
        ("POST", "/v2/tasks/none/cancel"),
        ("DELETE", "/v2/tasks/none"),
    ],
)
def test_an_unknown_task_is_404(method, path):
    async def main() -> None:
        async with an_orchestrator() as orchestrator:
            reply = await call(method, orchestrator.url + path)
            assert (reply.status, reply.json()["error"]["code"]) == (404, "TASK_NOT_FOUND")

    run(main())


def test_a_task_shows_its_state_and_its_text():
    async def main() -> None:
        async with fleet(echo=SLOW, slots=1) as (orchestrator, worker):
            await submit(orchestrator, task_id="runs", max_tokens=5)
            await submit(orchestrator, task_id="waits", max_tokens=1)
            stream = await events(orchestrator, "runs")
            await stream.sees("token", 2)
            running, waiting = await show(orchestrator, "runs"), await show(orchestrator, "waits")
            assert (running["status"], running["worker"]) == ("running", worker.worker_id)
            assert running["text"]
            assert (waiting["status"], waiting["queue_position"]) == ("queued", 0)
            assert waiting["predicted_start_ms"] > 0
            final = await is_final(orchestrator, "runs")
            assert (final["status"], final["end"]["tokens_out"]) == ("finished", 5)
            assert final["text"] == (await stream.rest()).text
            assert (await is_final(orchestrator, "waits"))["status"] == "finished"

    run(main())


# -- cancelling -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("phase", ["waiting", "reading", "writing"])
def test_a_cancel_ends_the_task_in_every_phase(phase, method):
    async def main() -> None:
        echo = EchoOptions(prefill_tokens_per_second=20) if phase == "reading" else SLOW
        async with fleet(echo=echo, slots=1) as (orchestrator, worker):
            if phase == "waiting":
                await submit(orchestrator, task_id="first", **FOREVER)
            await submit(orchestrator, task_id="t", prompt="word " * 200, **FOREVER)
            stream = await events(orchestrator, "t")
            await stream.sees(
                {"waiting": "queued", "reading": "started", "writing": "token"}[phase]
            )
            reply = await cancel(orchestrator, "t", method)
            assert reply.status == 202
            end = (await stream.rest()).data("end")[0]
            assert end["stop_reason"] == "cancelled"
            assert end["tokens_out"] == len(stream.data("token"))
            assert (await show(orchestrator, "t"))["status"] == "cancelled"
            again = await cancel(orchestrator, "t", method)
            assert (again.status, again.json()["status"]) == (200, "cancelled")
            await cancel(orchestrator, "first")
            await until(lambda: not worker.line.running, "the slot is taken")

    run(main())


# -- the queue --------------------------------------------------------------------------------


def test_a_full_queue_is_429_with_when_to_try_again():
    async def main() -> None:
        async with fleet(Limits(queue_capacity=2), echo=SLOW, slots=1) as (orchestrator, _):
            for number in range(3):
                assert (await submit(orchestrator, task_id=f"t{number}", **FOREVER)).status == 202
            for path in ("/v2/tasks", "/v1/completions"):
                reply = await call("POST", orchestrator.url + path, a_task())
                assert (reply.status, reply.json()["error"]["code"]) == (429, "ADMISSION_REJECT")
                assert int(reply.headers["retry-after"]) >= 1
                assert int(reply.headers["x-backoff-ms"]) > 0
                assert reply.json()["error"]["retry_after_ms"] > 0
            assert (await cancel(orchestrator, "t2")).status == 202
            assert (await submit(orchestrator, task_id="t3", **FOREVER)).status == 202
            for number in (0, 1, 3):
                await cancel(orchestrator, f"t{number}")
                await is_final(orchestrator, f"t{number}")

    run(main())


def test_interactive_tasks_go_before_batch_ones_and_places_move():
    async def main() -> None:
        async with fleet(echo=SLOW, slots=1) as (orchestrator, _):
            await submit(orchestrator, task_id="first", **FOREVER)
            for name, priority in (("b1", "batch"), ("i1", "interactive"), ("b2", "batch")):
                await submit(orchestrator, task_id=name, priority=priority, max_tokens=1)
            moved = await events(orchestrator, "b1")
            await moved.sees("queued", 2)
            await cancel(orchestrator, "first")
            streams = [await (await events(orchestrator, n)).rest() for n in ("i1", "b1", "b2")]
            waits = [s.data("started")[0]["queue_wait_ms"] for s in streams]
            assert waits[0] < waits[1] < waits[2] + 1000
            places = [q["queue_position"] for q in (await moved.rest()).data("queued")]
            assert places[:2] == [0, 1]

    run(main())


def test_two_workers_share_the_work():
    async def main() -> None:
        async with (
            fleet(echo=SLOW, slots=1) as (orchestrator, one),
            a_worker(orchestrator=orchestrator.url, echo=SLOW, slots=1) as two,
        ):
            streams = [await streamed(orchestrator, max_tokens=5) for _ in range(2)]
            await asyncio.gather(*(stream.rest() for stream in streams))
            used = {stream.data("started")[0]["worker"] for stream in streams}
            assert used == {one.worker_id, two.worker_id}

    run(main())


def test_a_task_can_be_pinned_to_a_worker_or_kept_from_one():
    async def main() -> None:
        async with (
            fleet() as (orchestrator, one),
            a_worker(orchestrator=orchestrator.url) as two,
        ):
            for placement in ({"worker": two.worker_id}, {"avoid": [one.worker_id]}):
                for _ in range(3):
                    stream = await (await streamed(orchestrator, placement=placement)).rest()
                    assert stream.data("started")[0]["worker"] == two.worker_id
            nobody = await submit(orchestrator, placement={"worker": "nobody"})
            assert (nobody.status, nobody.json()["error"]["code"]) == (404, "WORKER_NOT_FOUND")
            both = {"avoid": [one.worker_id, two.worker_id]}
            none_left = await submit(orchestrator, placement=both)
            assert none_left.json()["error"]["code"] == "POOL_UNAVAILABLE"
            cuda = await submit(orchestrator, placement={"backend": "cuda"})
            assert cuda.status == 503

    run(main())


def test_a_deadline_ends_a_task_that_waits_and_one_that_runs():
    async def main() -> None:
        async with fleet(echo=SLOW, slots=1) as (orchestrator, _):
            runs = await streamed(orchestrator, deadline_ms=400, **FOREVER)
            waits = await streamed(orchestrator, deadline_ms=100, **FOREVER)
            for stream in (waits, runs):
                assert (await stream.rest()).data("end")[0]["stop_reason"] == "deadline"

    run(main())


# -- clients that leave -----------------------------------------------------------------------


def test_a_task_that_was_accepted_goes_on_without_readers():
    async def main() -> None:
        async with fleet(echo=SLOW) as (orchestrator, _):
            await submit(orchestrator, task_id="t", max_tokens=6)
            reader = await events(orchestrator, "t")
            await reader.sees("token")
            await reader.leave()
            assert (await is_final(orchestrator, "t"))["end"]["tokens_out"] == 6

    run(main())


def test_a_streamed_task_is_cancelled_when_its_client_stays_away(monkeypatch):
    monkeypatch.setattr("llorch.daemon.shell.STREAM_LEAVE_GRACE_SECONDS", 0.2)

    async def main() -> None:
        async with fleet(echo=SLOW) as (orchestrator, worker):
            stream = await streamed(orchestrator, task_id="t", **FOREVER)
            await stream.sees("token")
            await stream.leave()
            assert (await is_final(orchestrator, "t"))["status"] == "cancelled"
            await until(lambda: not worker.line.running, "the slot is taken")
            late = await (await events(orchestrator, "t")).rest()
            assert late.data("end")[0]["stop_reason"] == "cancelled"

    run(main())


def test_a_streamed_task_goes_on_when_its_client_comes_back(monkeypatch):
    monkeypatch.setattr("llorch.daemon.shell.STREAM_LEAVE_GRACE_SECONDS", 1.0)

    async def main() -> None:
        async with fleet(echo=SLOW) as (orchestrator, _):
            stream = await streamed(orchestrator, task_id="t", max_tokens=25)
            await stream.sees("token")
            await stream.leave()
            last = stream.frames[-1].event_id
            again = await (await events(orchestrator, "t", [("last-event-id", last)])).rest()
            assert again.data("end")[0]["tokens_out"] == 25

    run(main())


def test_nothing_of_a_prompt_is_logged_or_kept_after_the_end(caplog):
    caplog.set_level("DEBUG")

    async def main() -> None:
        async with fleet(ctx=64) as (orchestrator, worker):
            for fields in (
                {"prompt": "xyzzy-secret", "max_tokens": 1},
                {"prompt": "xyzzy-secret " * 50},
                {"prompt": "xyzzy-secret", "model": "other"},
                {"prompt": "xyzzy-secret", "stop": 7},
            ):
                assert b"xyzzy-secret" not in (await submit(orchestrator, **fields)).body
            for page in ("/metrics", "/health", "/v2/workers", "/v2/models"):
                assert b"xyzzy" not in (await call("GET", orchestrator.url + page)).body
            assert "xyzzy" not in str(orchestrator.events) + str(worker.events)

    run(main())
    assert "xyzzy" not in caplog.text
