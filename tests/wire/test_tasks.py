from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.core.types import Message, Priority, Sampling, TaskRequest
from llorch.errors import InvalidRequest
from llorch.wire.openai_requests import parse_chat, parse_completion
from llorch.wire.tasks import Attempt, attempt_fields, parse_attempt, parse_task

GOOD = {"model": "m", "prompt": "Hi"}


def faults_of(values, parse=parse_task) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        parse(values)
    return [fault.field for fault in refused.value.faults]


def test_a_task_needs_a_model_and_a_prompt_and_has_defaults_for_the_rest():
    assert parse_task(GOOD) == TaskRequest(model="m", prompt="Hi")
    assert parse_task({**GOOD, "max_tokens": None, "stop": [], "from_the_future": 1}) == (
        TaskRequest(model="m", prompt="Hi")
    )


def test_every_field_of_a_task_is_read():
    values = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "temperature": 0,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "seed": 7,
        "stop": ["a", "b"],
        "priority": "batch",
        "session_id": "s",
        "deadline_ms": 1000,
        "placement": {"worker": "w1", "backend": "cpu", "avoid": ["w2"]},
        "task_id": "id-1",
        "stream": True,
    }
    assert parse_task(values) == TaskRequest(
        model="m",
        messages=(Message("user", "Hi"),),
        max_tokens=5,
        sampling=Sampling(0.0, 0.9, 40, 0.1, 1.1, 0.5, -0.5, 7),
        stop=("a", "b"),
        priority=Priority.BATCH,
        session_id="s",
        deadline_ms=1000,
        task_id="id-1",
        stream=True,
        worker="w1",
        avoid=("w2",),
        backend="cpu",
    )


@pytest.mark.parametrize(
    "more, wanted",
    [
        ({"job_id": "j"}, {"task_id": "j"}),
        ({"job_id": "j", "task_id": "t"}, {"task_id": "t"}),
        ({"placement": {"pool": "p"}}, {"pool": "p"}),
        ({"stop": "x"}, {"stop": ("x",)}),
        ({"seed": -1}, {"sampling": Sampling()}),
        ({"seed": 2**32 - 1}, {"sampling": Sampling(seed=0)}),
        ({"seed": 2**64 - 1}, {"sampling": Sampling(seed=0)}),
        ({"repeat_penalty": 1.2}, {"sampling": Sampling(repetition_penalty=1.2)}),
        ({"max_tokens": 1.0}, {"max_tokens": 1}),
    ],
)
def test_other_names_and_forms_mean_the_same(more, wanted):
    request = parse_task({**GOOD, **more})
    assert {name: getattr(request, name) for name in wanted} == wanted


NUMBERS: list[Any] = ["5", True, [], {}, float("nan"), float("inf"), -(10**400), 10**400]
FAULTY: dict[str, list[Any]] = {
    "model": ["", 5, [], "x" * 257, "\ud800"],
    "prompt": ["", 5, [], {}, "\udc00"],
    "max_tokens": [0, -1, 1.5, 10**7, *NUMBERS],
    "temperature": [-0.1, 2.1, *NUMBERS],
    "top_p": [0, 1.1, *NUMBERS],
    "top_k": [-1, 1.5, *NUMBERS],
    "min_p": [-0.1, 1.1, *NUMBERS],
    "repetition_penalty": [0, 11, *NUMBERS],
    "frequency_penalty": [-2.1, 2.1, *NUMBERS],
    "presence_penalty": [-2.1, 2.1, *NUMBERS],
    "seed": [1.5, 2**64, *NUMBERS],
    "stop": ["", [""], [1], {}, ["x"] * 17, ["x" * 257]],
    "priority": ["urgent", 1, [], "Batch"],
    "session_id": ["", 5, "x" * 257],
    "deadline_ms": [0, 1_800_001, *NUMBERS],
    "task_id": ["", 5, "a b", "a/b", "é", "x" * 129],
    "job_id": ["a b", 5],
    "stream": [1, "true", []],
    "placement": [5, "w1", []],
    "placement.worker": ["", 5, []],
    "placement.pool": ["", 5],
    "placement.backend": ["", 5],
    "placement.avoid": [5, [5], ["x"] * 65],
}


def faulty_values(field: str, value) -> dict:
    outer, _, inner = field.partition(".")
    return {**GOOD, outer: {inner: value} if inner else value}


@pytest.mark.parametrize(
    "field, value", [(field, value) for field, values in FAULTY.items() for value in values]
)
def test_a_faulty_field_is_named(field, value):
    assert faults_of(faulty_values(field, value)) == [field]


def test_all_faults_are_told_at_once():
    values = {field: values[-1] for field, values in FAULTY.items() if "." not in field}
    values["placement"] = {"worker": 5, "pool": 5, "backend": 5, "avoid": 5}
    del values["job_id"]  # task_id goes before it
    assert sorted(faults_of(values)) == sorted(set(FAULTY) - {"job_id", "placement"})


@pytest.mark.parametrize(
    "values, field",
    [
        ({"model": "m"}, "prompt"),
        ({**GOOD, "messages": [{"role": "user", "content": "x"}]}, "prompt"),
        ({"prompt": "Hi"}, "model"),
    ],
)
def test_what_is_missing_or_contradicts_itself_is_named(values, field):
    assert faults_of(values) == [field]


@pytest.mark.parametrize(
    "messages, fields",
    [
        ([], ["messages"]),
        ("Hi", ["messages"]),
        ([5], ["messages[0]"]),
        ([{"content": "x"}], ["messages[0].role"]),
        ([{"role": "user"}], ["messages[0].content"]),
        ([{"role": "user", "content": 5}], ["messages[0].content"]),
        ([{"role": "user", "content": "\ud800"}], ["messages[0].content"]),
        ([{"role": "user", "content": [{"type": "image_url"}]}], ["messages[0].content"]),
        ([{"role": "user", "content": [{"type": "text", "text": 5}]}], ["messages[0].content"]),
        ([{"role": "", "content": "x"}], ["messages[0].role"]),
        (
            [{"role": "user", "content": "x"}, {"role": 1}],
            ["messages[1].role", "messages[1].content"],
        ),
    ],
)
def test_a_faulty_message_is_named_by_its_place(messages, fields):
    assert faults_of({"model": "m", "messages": messages}) == fields


def test_content_may_be_parts_of_text_and_the_developer_speaks_as_the_system():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [
        {"role": "developer", "content": parts},
        {"role": "assistant", "content": None},
        {"role": "user", "content": ""},
    ]
    assert parse_task({"model": "m", "messages": messages}).messages == (
        Message("system", "ab"),
        Message("assistant", ""),
        Message("user", ""),
    )


def test_the_prompt_is_never_repeated_in_an_error():
    with pytest.raises(InvalidRequest) as refused:
        parse_task({"prompt": "my secret", "messages": ["my secret"], "stop": [["my secret"]]})
    assert "secret" not in json.dumps(refused.value.as_dict())


def test_an_attempt_survives_the_way_to_the_worker():
    attempt = Attempt("t", 2, 1500)
    values = {**GOOD, **attempt_fields(attempt, 999)}
    assert parse_attempt(values, "new") == attempt
    assert parse_task(values).deadline_ms == 999


def test_a_client_that_comes_directly_gets_a_new_id_and_attempt_0():
    assert parse_attempt(GOOD, "new") == Attempt("new", 0, 0)


def test_a_faulty_attempt_is_named():
    values = {"task_id": "a b", "attempt": -1, "queue_wait_ms": 1.5}
    assert faults_of(values, lambda v: parse_attempt(v, "new")) == list(values)


# -- anything at all -----------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(codec=None), max_size=8)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.just(10**500),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
KNOWN = [name for name in FAULTY if "." not in name] + [
    "messages",
    "stream_options",
    "response_format",
    "n",
    "best_of",
    "tools",
    "logprobs",
    "echo",
    "max_completion_tokens",
    "attempt",
    "queue_wait_ms",
]
MESSAGES = st.lists(st.dictionaries(st.sampled_from(["role", "content"]), ANY_JSON) | ANY_JSON)
BODIES = st.dictionaries(st.sampled_from(KNOWN) | ANY_TEXT, ANY_JSON, max_size=6)
PARSERS = [parse_task, parse_chat, parse_completion, lambda v: parse_attempt(v, "new")]


def refusals(parse, values) -> list[InvalidRequest]:
    try:
        parse(values)
    except InvalidRequest as refused:
        return [refused]
    return []


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(BODIES, st.none() | MESSAGES)
def test_any_body_is_either_read_or_refused_with_named_fields(values, messages):
    if messages is not None:
        values = {**values, "messages": messages}
    for parse in PARSERS:
        for error in refusals(parse, values):
            assert error.faults
            assert json.loads(json.dumps(error.as_dict()))["details"]
