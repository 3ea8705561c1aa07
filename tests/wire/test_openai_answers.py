"""The OpenAI dialect as its clients see it (the shapes are those of the public API reference)."""

from __future__ import annotations

import json

import pytest

from llorch.core.types import Finished, PromptRead, StopReason, TextMade
from llorch.errors import EngineFailed
from llorch.wire import sse
from llorch.wire.answers import Start
from llorch.wire.openai_answers import (
    OpenAIStreamRenderer,
    OpenAIWholeRenderer,
    model_list,
    model_object,
)
from llorch.wire.openai_requests import parse_chat, parse_completion

START = Start("t1", "w1", "m", attempt=1, seed=7, queue_wait_ms=40, created=1_700_000_000)
HEAD = {"created": 1_700_000_000, "model": "m", "system_fingerprint": "llorch-w1"}
CHAT_HEAD = {"id": "chatcmpl-t1", **HEAD}
TEXT_HEAD = {"id": "cmpl-t1", **HEAD}
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 2,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4},
}


def finished(reason: StopReason = StopReason.EOS) -> Finished:
    return Finished(reason, 2, 10, 4, 1.0, 2.0)


def chat(**more):
    return parse_chat({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **more})


def completion(**more):
    return parse_completion({"model": "m", "prompt": "Hi", **more})


def answer(renderer) -> bytes:
    return b"".join(
        [
            renderer.queued(0, 5),
            renderer.started(START),
            renderer.progress(PromptRead(5, 10)),
            renderer.text(TextMade("Hel", (5,), 0)),
            renderer.text(TextMade("lo", (6,), 1)),
            renderer.finished(finished()),
        ]
    )


def objects(data: bytes) -> list:
    return [f.json() if f.data != "[DONE]" else f.data for f in sse.parse(data)]


def chunk(delta: dict, finish: str | None = None) -> dict:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**CHAT_HEAD, "object": "chat.completion.chunk", "choices": [choice]}


def piece(text: str, finish: str | None = None) -> dict:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    return {**TEXT_HEAD, "object": "text_completion", "choices": [choice]}


def test_a_chat_stream_begins_with_the_role_and_ends_with_the_reason_and_the_end_mark():
    assert objects(answer(OpenAIStreamRenderer(chat()))) == [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        chunk({}, "stop"),
        "[DONE]",
    ]


def test_usage_comes_in_a_chunk_of_its_own_when_asked_for():
    asked = chat(stream=True, stream_options={"include_usage": True})
    usage = {**CHAT_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
    assert objects(answer(OpenAIStreamRenderer(asked)))[-3:] == [chunk({}, "stop"), usage, "[DONE]"]


def test_a_completion_stream_has_only_text():
    assert objects(answer(OpenAIStreamRenderer(completion(), "Hi"))) == [
        piece("Hel"),
        piece("lo"),
        piece("", "stop"),
        "[DONE]",
    ]


def test_a_completion_that_echoes_begins_with_its_prompt():
    first = objects(answer(OpenAIStreamRenderer(completion(echo=True), "Hi")))[0]
    assert first == piece("Hi")


def test_no_frame_has_an_event_name_and_ids_are_unique():
    asked = chat(stream=True, stream_options={"include_usage": True})
    frames = list(sse.parse(answer(OpenAIStreamRenderer(asked))))
    assert {f.event for f in frames} == {""}
    ids = [f.event_id for f in frames[:-1]]
    assert ids == ["s1", "t0:5", "t1:6", "finish", "usage"]


def test_a_stream_that_breaks_off_ends_with_the_error_and_without_the_end_mark():
    error = EngineFailed("boom")
    assert objects(OpenAIStreamRenderer(chat()).failed(error)) == [{"error": error.as_dict()}]


@pytest.mark.parametrize(
    "reason, word",
    [
        (StopReason.EOS, "stop"),
        (StopReason.STOP, "stop"),
        (StopReason.LENGTH, "length"),
        (StopReason.CANCELLED, "stop"),
        (StopReason.DEADLINE, "length"),
    ],
)
def test_every_stop_reason_has_a_word_that_clients_know(reason, word):
    renderer = OpenAIStreamRenderer(chat())
    renderer.started(START)
    assert objects(renderer.finished(finished(reason)))[0] == chunk({}, word)


def test_a_whole_chat_is_one_object():
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Hello"},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert json.loads(answer(OpenAIWholeRenderer(chat()))) == {
        **CHAT_HEAD,
        "object": "chat.completion",
        "choices": [choice],
        "usage": USAGE,
    }


@pytest.mark.parametrize("echo, text", [(False, "Hello"), (True, "HiHello")])
def test_a_whole_completion_is_one_object(echo, text):
    assert json.loads(answer(OpenAIWholeRenderer(completion(echo=echo), "Hi"))) == {
        **piece(text, "stop"),
        "usage": USAGE,
    }


def test_a_whole_answer_that_fails_is_the_error_alone():
    renderer = OpenAIWholeRenderer(chat())
    renderer.started(START)
    renderer.text(TextMade("Hel", (5,), 0))
    error = EngineFailed("boom")
    assert json.loads(renderer.failed(error)) == {"error": error.as_dict()}


def test_models_are_listed_as_clients_expect():
    assert model_list([model_object("m", 5, meta={"n_ctx": 8})]) == {
        "object": "list",
        "data": [
            {"id": "m", "object": "model", "created": 5, "owned_by": "llorch", "meta": {"n_ctx": 8}}
        ],
    }
