"""What a worker answers, with the echo engine behind it."""

from __future__ import annotations

import asyncio
import json

import pytest

from llorch.engine.echo import EchoOptions
from tests.daemon.living import Follower, a_task, a_worker, call, follow
from tests.net.looped import run, until

SLOW = EchoOptions(tokens_per_second=20)
SLOW_READER = EchoOptions(prefill_tokens_per_second=20)
LONG = "word " * 200


async def execute(worker, **fields) -> Follower:
    return await follow(worker.url + "/execute", a_task(**fields))


async def free(worker) -> None:
    """Wait until nothing runs or waits."""
    line = worker.line
    await until(lambda: not line.running and not line.waiting, "a slot is still taken")


# -- one answer -------------------------------------------------------------------------------


def test_an_answer_is_started_then_tokens_then_one_end():
    async def main() -> None:
        async with a_worker() as worker:
            stream = await (await execute(worker, task_id="t-1", seed=7)).rest()
            assert stream.text == " one two three one"[: len(stream.text)]
            assert stream.names == ["started", "progress", *["token"] * 8, "end"]
            started, end = stream.data("started")[0], stream.data("end")[0]
            assert started["task_id"] == "t-1"
            assert started["worker"] == worker.worker_id
            assert started["seed"] == 7
            assert (end["tokens_out"], end["prompt_tokens"]) == (8, 6)
            assert end["stop_reason"] == "length"

    run(main())


def test_a_chosen_seed_repeats_and_a_made_one_is_reported():
    async def main() -> None:
        async with a_worker() as worker:
            prompt = " ".join(f"word{n}" for n in range(50))
            one = await (await execute(worker, prompt=prompt, temperature=1)).rest()
            seed = one.data("started")[0]["seed"]
            two = await (await execute(worker, prompt=prompt, temperature=1, seed=seed)).rest()
            other = await (
                await execute(worker, prompt=prompt, temperature=1, seed=seed ^ 1)
            ).rest()
            assert one.text == two.text != other.text

    run(main())


def test_a_stop_string_ends_the_answer_and_is_named():
    async def main() -> None:
        async with a_worker() as worker:
            stream = await (await execute(worker, stop=["two", "never"], max_tokens=50)).rest()
            assert stream.text == " one "
            end = stream.data("end")[0]
            assert (end["stop_reason"], end["stop_sequence"]) == ("stop", "two")

    run(main())


def test_an_answer_that_ends_by_itself_says_eos():
    async def main() -> None:
        async with a_worker(echo=EchoOptions(periods_before_eos=2)) as worker:
            end = (await (await execute(worker)).rest()).data("end")[0]
            assert (end["stop_reason"], end["tokens_out"]) == ("eos", 6)

    run(main())


def test_messages_are_put_into_the_models_template():
    async def main() -> None:
        async with a_worker() as worker:
            task = a_task(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}])
            del task["prompt"]
            stream = await (await follow(worker.url + "/execute", task)).rest()
            assert stream.text.startswith(" user: hi")

    run(main())


# -- refusals ---------------------------------------------------------------------------------


def test_all_faults_of_a_request_are_told_at_once():
    faulty = {
        "prompt": "",
        "max_tokens": 0,
        "temperature": "hot",
        "top_p": 2,
        "top_k": -1,
        "min_p": -0.1,
        "repetition_penalty": 0,
        "seed": 1.5,
        "stop": [""],
        "priority": "urgent",
        "session_id": 7,
        "deadline_ms": 10**9,
        "placement": {"avoid": 3},
        "task_id": "a/b",
        "stream": "yes",
    }

    async def main() -> None:
        async with a_worker() as worker:
            reply = await call("POST", worker.url + "/execute", faulty)
            error = reply.json()["error"]
            assert (reply.status, error["code"]) == (400, "INVALID_REQUEST")
            named = {fault["field"] for fault in error["details"]}
            expected = {"model", *faulty} - {"placement"} | {"placement.avoid"}
            assert named == expected

    run(main())


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"],
)
@pytest.mark.parametrize(
    "path", ["/execute", "/cancel", "/tokenize", "/v1/chat/completions", "/v1/completions"]
)
def test_a_body_that_is_no_object_is_400(path, body):
    async def main() -> None:
        async with a_worker() as worker:
            reply = await call("POST", worker.url + path, raw=body)
            assert reply.status == 400
            assert reply.json()["error"]["type"] == "invalid_request_error"

    run(main())


@pytest.mark.parametrize("path", ["/execute", "/v1/completions", "/tokenize"])
def test_another_model_is_404(path):
    async def main() -> None:
        async with a_worker() as worker:
            body = {"model": "other", "prompt": "x"}
            reply = await call("POST", worker.url + path, body)
            assert (reply.status, reply.json()["error"]["code"]) == (404, "model_not_found")
            assert "echo" in reply.json()["error"]["hint"]

    run(main())


@pytest.mark.parametrize("path", ["/execute", "/v1/completions"])
def test_a_prompt_that_is_too_long_is_400_with_both_numbers(path):
    async def main() -> None:
        async with a_worker(ctx=64) as worker:
            body = {"model": "echo", "prompt": "a " * 64, "stream": True}
            reply = await call("POST", worker.url + path, body)
            error = reply.json()["error"]
            assert (reply.status, error["code"]) == (400, "context_length_exceeded")
            counted = await call("POST", worker.url + "/tokenize", {"prompt": "a " * 64})
            assert counted.json() == {"n_prompt_tokens": error["n_prompt_tokens"], "n_ctx": 64}
            assert error["n_ctx"] == 64
            assert error["n_prompt_tokens"] >= 64
            await free(worker)

    run(main())


def test_a_prompt_one_token_short_of_the_context_is_taken():
    async def main() -> None:
        async with a_worker(ctx=64) as worker:
            count = (await call("POST", worker.url + "/tokenize", {"prompt": "a " * 62})).json()
            assert count["n_prompt_tokens"] == 63
            stream = await (await execute(worker, prompt="a " * 62)).rest()
            assert stream.data("end")[0]["tokens_out"] == 1

    run(main())


def test_a_task_that_already_runs_is_409():
    async def main() -> None:
        async with a_worker(echo=SLOW) as worker:
            stream = await execute(worker, task_id="same", max_tokens=1000)
            await stream.sees("started")
            reply = await call("POST", worker.url + "/execute", a_task(task_id="same"))
            assert (reply.status, reply.headers["x-should-retry"]) == (409, "false")
            await stream.leave()
            await free(worker)

    run(main())


# -- loading ----------------------------------------------------------------------------------


def test_a_loading_worker_answers_its_health_at_once_and_refuses_work():
    async def main() -> None:
        echo = EchoOptions(load_seconds=30)
        async with a_worker(echo=echo, ready=False) as worker:
            await worker.says("loading")
            health = await call("GET", worker.url + "/health")
            assert (health.status, health.json()["status"]) == (503, "loading")
            assert health.json()["error"]["message"] == "Loading model"
            for path in ("/execute", "/v1/completions"):
                reply = await call("POST", worker.url + path, {"model": "echo", "prompt": "x"})
                assert (reply.status, reply.json()["error"]["code"]) == (503, "MODEL_LOADING")
                assert reply.headers["retry-after"] == "1"
            assert (await call("GET", worker.url + "/metrics")).status == 200
            assert (await call("GET", worker.url + "/v1/models")).json()["data"][0]["id"] == "echo"
            assert (await call("POST", worker.url + "/cancel", {"task_id": "x"})).status == 404
            assert await worker.stop() == 0  # and it can be ended meanwhile

    run(main())


def test_health_answers_at_once_while_every_slot_generates():
    async def main() -> None:
        async with a_worker() as worker:
            streams = [await execute(worker, max_tokens=1_000_000, prompt="x") for _ in range(2)]
            health = (await call("GET", worker.url + "/health")).json()
            assert (health["status"], health["slots"]) == ("ready", 2)
            for stream in streams:
                await stream.leave()
            await free(worker)
            assert (await call("GET", worker.url + "/health")).json()["slots_free"] == 2

    run(main())


# -- the line ---------------------------------------------------------------------------------


def test_requests_wait_in_the_order_of_their_arrival_and_see_their_places_move():
    async def main() -> None:
        async with a_worker(echo=SLOW, slots=1, line_bound=3) as worker:
            runs = [await execute(worker, max_tokens=1000) for _ in range(4)]
            await runs[0].sees("started")
            for place in range(3):
                queued = await runs[place + 1].sees("queued")
                assert queued[0]["queue_position"] == place
                assert queued[0]["predicted_start_ms"] > 0
            await runs[0].sees("token", 2)
            await runs[0].leave()
            await runs[1].sees("started")
            assert (await runs[2].sees("queued", 2))[1]["queue_position"] == 0
            await runs[2].leave()
            assert [q["queue_position"] for q in await runs[3].sees("queued", 3)] == [2, 1, 0]
            await runs[1].leave()
            started = await runs[3].sees("started")
            assert started[0]["queue_wait_ms"] > 0
            await runs[3].leave()
            await free(worker)

    run(main())


def test_a_line_that_is_full_is_503_with_when_to_try_again():
    async def main() -> None:
        async with a_worker(echo=SLOW, slots=1, line_bound=1) as worker:
            runs = [await execute(worker, max_tokens=1000) for _ in range(2)]
            await runs[1].sees("queued")
            for path in ("/execute", "/v1/completions"):
                reply = await call("POST", worker.url + path, a_task())
                assert (reply.status, reply.json()["error"]["code"]) == (503, "WORKER_BUSY")
                assert reply.headers["retry-after"] == "1"
                assert reply.json()["error"]["retriable"] is True
            for stream in runs:
                await stream.leave()
            await free(worker)

    run(main())


# -- ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["waiting", "reading", "writing"])
@pytest.mark.parametrize("how", ["leaves", "cancels"])
def test_a_slot_is_free_again_when_its_client_leaves_or_cancels(phase, how):
    async def main() -> None:
        echo = SLOW_READER if phase == "reading" else SLOW
        async with a_worker(echo=echo, slots=1) as worker:
            first = None
            if phase == "waiting":
                first = await execute(worker, task_id="first", max_tokens=1000)
                await first.sees("started")
            stream = await execute(worker, task_id="t", prompt=LONG, max_tokens=1000)
            await stream.sees(
                {"waiting": "queued", "reading": "started", "writing": "token"}[phase]
            )
            if how == "leaves":
                await stream.leave()
            else:
                reply = await call("POST", worker.url + "/cancel", {"task_id": "t"})
                assert reply.status == 202
                end = (await stream.rest()).data("end")[0]
                assert end["stop_reason"] == "cancelled"
                assert end["tokens_out"] == len(stream.data("token"))
            if first is not None:
                await until(lambda: not worker.line.waiting, "it still waits")
                await first.leave()
            await free(worker)
            again = await call("POST", worker.url + "/cancel", {"task_id": "t"})
            assert again.status == 404

    run(main())


def test_a_cancel_without_a_task_is_400():
    async def main() -> None:
        async with a_worker() as worker:
            reply = await call("POST", worker.url + "/cancel", {})
            assert (reply.status, reply.json()["error"]["param"]) == (400, "task_id")

    run(main())


@pytest.mark.parametrize("phase", ["waiting", "running"])
def test_a_deadline_ends_the_answer_and_says_so(phase):
    async def main() -> None:
        async with a_worker(echo=SLOW, slots=1) as worker:
            first = None
            if phase == "waiting":
                first = await execute(worker, max_tokens=1000)
                await first.sees("started")
            stream = await (await execute(worker, max_tokens=1000, deadline_ms=300)).rest()
            end = stream.data("end")[0]
            assert end["stop_reason"] == "deadline"
            assert end["tokens_out"] == len(stream.data("token"))
            if first is not None:
                assert end["tokens_out"] == 0
                await first.leave()
            await free(worker)

    run(main())


# -- the OpenAI dialect -----------------------------------------------------------------------

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def chunks(raw: bytes) -> list[dict]:
    lines = [line for line in raw.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_a_whole_chat_answer(prefix):
    async def main() -> None:
        async with a_worker() as worker:
            body = CHAT | {"max_tokens": 4}
            reply = await call("POST", f"{worker.url}{prefix}/chat/completions", body)
            answer = reply.json()
            assert answer["object"] == "chat.completion"
            assert answer["id"].startswith("chatcmpl-")
            choice = answer["choices"][0]
            assert choice["message"]["role"] == "assistant"
            assert " user: hi user: hi".startswith(choice["message"]["content"])
            assert choice["finish_reason"] == "length"
            usage = answer["usage"]
            assert usage["completion_tokens"] == 4
            assert usage["total_tokens"] == usage["prompt_tokens"] + 4

    run(main())


def test_a_streamed_chat_answer_with_its_usage():
    async def main() -> None:
        async with a_worker() as worker:
            body = CHAT | {
                "max_tokens": 4,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            stream = await follow(worker.url + "/v1/chat/completions", body)
            raw = await stream.raw_rest()
            assert raw.endswith(b"data: [DONE]\n\n")
            parts = chunks(raw)
            assert {p["id"] for p in parts} == {parts[0]["id"]}
            assert parts[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
            assert parts[-2]["choices"][0]["finish_reason"] == "length"
            assert parts[-1]["choices"] == []
            assert parts[-1]["usage"]["completion_tokens"] == 4

    run(main())


def test_a_completion_stops_at_its_stop_string_streamed_or_whole():
    async def main() -> None:
        async with a_worker() as worker:
            url = worker.url + "/v1/completions"
            body = {"model": "echo", "prompt": "a b c", "temperature": 0, "stop": " c"}
            whole = (await call("POST", url, body)).json()["choices"][0]
            assert (whole["text"], whole["finish_reason"]) == (" a b", "stop")
            raw = await (await follow(url, body | {"stream": True, "echo": True})).raw_rest()
            texts = [c["choices"][0]["text"] for c in chunks(raw)]
            assert texts[0] == "a b c"
            assert "".join(texts[1:]) == " a b"

    run(main())


def test_an_openai_stream_that_fails_ends_with_the_error_and_without_done():
    async def main() -> None:
        async with a_worker(echo=SLOW) as worker:
            body = CHAT | {"stream": True, "max_tokens": 1000}
            stream = await follow(worker.url + "/v1/chat/completions", body)
            await stream.sees_bytes(b'"content":" us')
            worker.engine.die("it burst")
            parts = chunks(await stream.raw_rest())
            assert parts[-1]["error"]["code"] == "ENGINE_FAILED"
            assert b"[DONE]" not in stream.raw
            assert sum("error" in part for part in parts) == 1
            with pytest.raises(Exception, match="it burst"):
                await worker.life

    run(main())


def test_a_whole_openai_answer_that_fails_is_an_error_answer():
    async def main() -> None:
        async with a_worker(echo=SLOW) as worker:
            asking = asyncio.ensure_future(
                call("POST", worker.url + "/v1/chat/completions", CHAT | {"max_tokens": 1000})
            )
            await until(lambda: worker.line.running, "it does not run")
            worker.engine.die("it burst")
            reply = await asking
            assert (reply.status, reply.json()["error"]["code"]) == (500, "ENGINE_FAILED")

    run(main())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["deadline", "cancel"])
def test_an_openai_answer_that_ends_while_it_waits_is_an_error_and_not_empty(how, stream):
    async def main() -> None:
        async with a_worker(echo=SLOW, slots=1) as worker:
            first = await execute(worker, max_tokens=1000)
            await first.sees("started")
            limit = {"deadline_ms": 50} if how == "deadline" else {}
            body = CHAT | limit | {"task_id": "t", "stream": stream}
            asking = asyncio.ensure_future(call("POST", worker.url + "/v1/chat/completions", body))
            if how == "cancel":
                await until(lambda: worker.line.waiting, "it does not wait")
                await call("POST", worker.url + "/cancel", {"task_id": "t"})
            reply = await asking
            status, code = (504, "DEADLINE_EXCEEDED") if how == "deadline" else (499, "CANCELLED")
            if stream:
                status, (answer,) = 200, chunks(reply.body)
            else:
                answer = reply.json()
            assert (reply.status, answer["error"]["code"]) == (status, code)
            await first.leave()
            await free(worker)

    run(main())


def test_an_openai_client_that_leaves_frees_its_slot():
    async def main() -> None:
        async with a_worker(echo=SLOW) as worker:
            for stream in (True, False):
                body = CHAT | {"max_tokens": 1000, "stream": stream}
                url = worker.url + "/v1/chat/completions"
                asking = asyncio.ensure_future(call("POST", url, body))
                await until(lambda: worker.line.running, "it does not run")
                asking.cancel()
                await asyncio.wait([asking])
                await free(worker)

    run(main())


def test_models_are_listed_and_found_by_name():
    async def main() -> None:
        async with a_worker(name="hf:org/repo:q4") as worker:
            listed = (await call("GET", worker.url + "/v1/models")).json()
            assert listed["object"] == "list"
            assert listed["data"][0]["meta"] == {"n_ctx": 4096}
            found = await call("GET", worker.url + "/v1/models/hf:org/repo:q4")
            assert found.json()["id"] == "hf:org/repo:q4"
            assert (await call("GET", worker.url + "/v1/models/x")).status == 404

    run(main())


# -- metrics and secrets ----------------------------------------------------------------------


def test_metrics_count_what_was_done():
    async def main() -> None:
        async with a_worker() as worker:
            await (await execute(worker)).rest()
            text = (await call("GET", worker.url + "/metrics")).body.decode()
            assert 'llorch_tasks_total{outcome="length"} 1.0' in text
            assert "llorch_generated_tokens_total 8.0" in text
            assert "llorch_prompt_tokens_total 6.0" in text
            assert 'llorch_worker_slots{state="free"} 2.0' in text

    run(main())


def test_nothing_of_a_prompt_is_logged_or_told_back(caplog):
    caplog.set_level("DEBUG")

    async def main() -> None:
        async with a_worker(ctx=64) as worker:
            secret = "xyzzy-secret"
            await (await execute(worker, prompt=secret)).rest()
            for body in (
                a_task(prompt=secret * 100),
                a_task(prompt=secret, max_tokens=-1),
                a_task(prompt=[secret]),
                a_task(model="other", prompt=secret),
            ):
                reply = await call("POST", worker.url + "/execute", body)
                assert reply.status in (400, 404)
                assert secret.encode() not in reply.body
            reply = await call("POST", worker.url + "/execute", raw=b'{"prompt":"xyzzy-secret')
            assert secret.encode() not in reply.body
            assert secret not in str(worker.events)

    run(main())
    assert "xyzzy" not in caplog.text
