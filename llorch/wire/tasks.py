"""The task dialect's requests: the body of POST /v2/tasks and of POST /execute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llorch.core.types import Message, Priority, Sampling, TaskRequest
from llorch.wire.fields import Fields

MAX_TOKENS = 1_000_000
SPECIAL_TOKENS = 16  # more than any tokenizer adds around a plain prompt
DEFAULT_DEADLINE_MS = 300_000
MAX_DEADLINE_MS = 1_800_000
MAX_STOPS = 16
SEEDS = 2**32 - 1  # llama.cpp takes 2**32-1 itself to mean "choose one"
ROLES = ("system", "user", "assistant", "tool", "developer")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an orchestrator adds to a task when it hands it to a worker. queue_wait_ms: how long
    the task waited at the orchestrator. number 0: the client came to the worker directly."""

    task_id: str
    number: int = 0
    queue_wait_ms: int = 0


def parse_task(values: Mapping[str, Any]) -> TaskRequest:
    """A validated request. Raises InvalidRequest that names every faulty field."""
    fields = Fields(values)
    prompt, messages = read_input(fields)
    placement = fields.inner("placement")
    request = TaskRequest(
        **read_shared(fields, temperature=0.7),
        prompt=prompt,
        messages=messages,
        max_tokens=fields.integer("max_tokens", 256, 1, MAX_TOKENS),
        worker=placement.text("worker"),
        pool=placement.text("pool"),
        avoid=placement.texts("avoid", 64, 256),
        backend=placement.text("backend"),
    )
    fields.check()
    return request


def read_shared(fields: Fields, temperature: float) -> dict[str, Any]:
    """The fields of a TaskRequest that all dialects have, under the same names. temperature: what
    the dialect takes where none is said."""
    return {
        "model": read_model(fields),
        "sampling": read_sampling(fields, temperature),
        "stop": fields.texts("stop", MAX_STOPS, 256),
        "priority": Priority(fields.choice("priority", "interactive", [p.value for p in Priority])),
        "session_id": fields.text("session_id"),
        "deadline_ms": fields.integer("deadline_ms", DEFAULT_DEADLINE_MS, 1, MAX_DEADLINE_MS) or 1,
        "task_id": read_task_id(fields),
        "stream": fields.flag("stream", False),
    }


def parse_attempt(values: Mapping[str, Any], new_id: str) -> Attempt:
    """The attempt of a POST /execute body; a direct client's task gets `new_id`."""
    fields = Fields(values)
    attempt = Attempt(
        task_id=read_task_id(fields) or new_id,
        number=fields.integer("attempt", 0, 0, 1000) or 0,
        queue_wait_ms=fields.integer("queue_wait_ms", 0, 0, 2**53) or 0,
    )
    fields.check()
    return attempt


def attempt_fields(attempt: Attempt, deadline_ms: int) -> dict[str, Any]:
    """What an orchestrator adds to a body that it passes on."""
    return {
        "task_id": attempt.task_id,
        "attempt": attempt.number,
        "queue_wait_ms": attempt.queue_wait_ms,
        "deadline_ms": deadline_ms,
    }


def read_model(fields: Fields) -> str:
    """The model's name, which every request needs."""
    model = fields.text("model")
    if model is None and fields.values.get("model") is None:
        fields.fault("model", "required", "model is required")
    return model or ""


def read_task_id(fields: Fields) -> str | None:
    """The id that the client chose, under either of its names."""
    name = "task_id" if fields.values.get("task_id") is not None else "job_id"
    return fields.identifier(name, longest=128)


def read_input(fields: Fields) -> tuple[str | None, tuple[Message, ...]]:
    """The prompt or the messages, exactly one of them."""
    has_prompt = fields.values.get("prompt") is not None
    has_messages = fields.values.get("messages") is not None
    if has_prompt == has_messages:
        rule = "exactly one of prompt and messages"
        fields.fault("prompt", rule, f"send {rule}")
        return None, ()
    if has_prompt:
        return fields.long_text("prompt"), ()
    return None, read_messages(fields)


def read_messages(fields: Fields) -> tuple[Message, ...]:
    """The turns of a chat; content as a string or as a list of text parts."""
    turns = fields.values.get("messages")
    if not isinstance(turns, list) or not turns:
        fields.fault("messages", "a non-empty list", "messages must be a non-empty list")
        return ()
    return tuple(_message(fields, place, turn) for place, turn in enumerate(turns))


def _message(fields: Fields, place: int, turn: Any) -> Message:
    where = f"messages[{place}]"
    if not isinstance(turn, dict):
        fields.fault(where, "an object", f"{where} must be an object with role and content")
        return Message("user", "")
    inner = Fields(turn, f"{where}.")
    inner.faults = fields.faults
    role = inner.choice("role", "", ROLES)
    if not role and turn.get("role") is None:
        inner.fault("role", "required", f"{where}.role is required")
    return Message("system" if role == "developer" else role, _content(inner, turn))


def _content(inner: Fields, turn: Mapping[str, Any]) -> str:
    content = turn.get("content")
    if isinstance(content, list):
        texts = [
            p.get("text") if isinstance(p, dict) and p.get("type") == "text" else None
            for p in content
        ]
        if all(isinstance(t, str) for t in texts):
            content = "".join(t for t in texts if t is not None)
        else:
            rule = "a string or a list of text parts"
            inner.fault("content", rule, f"{inner.prefix}content must be {rule}")
            return ""
    if content is None:
        if turn.get("role") != "assistant":
            inner.fault("content", "required", f"{inner.prefix}content is required")
        return ""
    holder = Fields({"content": content}, inner.prefix)
    holder.faults = inner.faults
    return "" if content == "" else holder.long_text("content") or ""


def read_sampling(fields: Fields, temperature: float) -> Sampling:
    """The sampling parameters, under the names that the dialects share."""
    penalty = "repetition_penalty"
    if fields.values.get(penalty) is None and fields.values.get("repeat_penalty") is not None:
        penalty = "repeat_penalty"
    seed = fields.integer("seed", None, -(2**63), 2**64 - 1)
    chosen = fields.number("temperature", temperature, 0, 2)
    return Sampling(
        temperature=temperature if chosen is None else chosen,
        top_p=fields.number("top_p", None, 0, 1, open_low=True),
        top_k=fields.integer("top_k", None, 0, 1_000_000),
        min_p=fields.number("min_p", None, 0, 1),
        repetition_penalty=fields.number(penalty, None, 0, 10, open_low=True),
        frequency_penalty=fields.number("frequency_penalty", None, -2, 2),
        presence_penalty=fields.number("presence_penalty", None, -2, 2),
        seed=None if seed is None or seed == -1 else seed % SEEDS,
    )
