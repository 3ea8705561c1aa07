from __future__ import annotations

import pytest

from llorch.core.types import Message, Sampling, TaskRequest
from llorch.errors import InvalidRequest
from llorch.wire.openai_requests import OpenAIRequest, parse_chat, parse_completion

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TEXT = {"model": "m", "prompt": "Hi"}


def faults_of(parse, values) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        parse(values)
    return [fault.field for fault in refused.value.faults]


def test_a_chat_has_the_defaults_of_the_dialect():
    task = TaskRequest(
        model="m",
        messages=(Message("user", "Hi"),),
        max_tokens=None,
        sampling=Sampling(temperature=1.0),
    )
    assert parse_chat(CHAT) == OpenAIRequest(task, chat=True, include_usage=False)


def test_a_completion_has_the_defaults_of_the_dialect():
    task = TaskRequest(model="m", prompt="Hi", max_tokens=16, sampling=Sampling(temperature=1.0))
    assert parse_completion(TEXT) == OpenAIRequest(task, chat=False, include_usage=False)


@pytest.mark.parametrize(
    "more, tokens",
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": None}, 5),
    ],
)
def test_a_chat_may_bound_its_tokens_under_either_name(more, tokens):
    assert parse_chat({**CHAT, **more}).task.max_tokens == tokens


def test_usage_in_a_stream_and_echo_are_read():
    asked = {"stream": True, "stream_options": {"include_usage": True}, "echo": True}
    chat = parse_chat({**CHAT, **asked})
    assert (chat.task.stream, chat.include_usage, chat.echo) == (True, True, False)
    assert parse_completion({**TEXT, **asked}).echo is True


def test_fields_that_clients_send_and_nobody_knows_are_ignored():
    extras = {
        "user": "me",
        "metadata": {"a": 1},
        "prompt_cache_key": "k",
        "cache_prompt": True,
        "n": 1,
        "best_of": 1,
        "tools": [],
        "logprobs": False,
        "logit_bias": {},
        "response_format": {"type": "text"},
    }
    assert parse_chat({**CHAT, **extras}) == parse_chat(CHAT)


@pytest.mark.parametrize(
    "more, field",
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"best_of": 3}, "best_of"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"functions": [{}]}, "functions"),
        ({"logit_bias": {"50": 1}}, "logit_bias"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"suffix": "x"}, "suffix"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"json_schema": {"type": "object"}}, "json_schema"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"response_format": "json"}, "response_format"),
        ({"stream_options": True}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_what_would_change_the_answer_and_is_not_served_is_refused_by_name(more, field):
    assert faults_of(parse_chat, {**CHAT, **more}) == [field]
    assert faults_of(parse_completion, {**TEXT, **more}) == [field]


@pytest.mark.parametrize("prompt", [None, "", [], [""], ["a", "b"], [1, 2], 5, {"a": 1}, "\ud800"])
def test_a_completion_has_one_prompt_of_text(prompt):
    assert faults_of(parse_completion, {**TEXT, "prompt": prompt}) == ["prompt"]


def test_a_list_of_one_prompt_is_that_prompt():
    assert parse_completion({**TEXT, "prompt": ["Hi"]}) == parse_completion(TEXT)


def test_a_chat_without_messages_and_model_names_both():
    assert faults_of(parse_chat, {}) == ["messages", "model"]
