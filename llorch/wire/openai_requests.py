"""The OpenAI dialect's requests: /v1/chat/completions and /v1/completions.

Unknown fields are ignored, as its clients expect. Fields whose meaning would be silently lost
(n > 1, tools, a JSON response format, log probabilities) are refused by name instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llorch.core.types import TaskRequest
from llorch.wire.fields import Fields
from llorch.wire.tasks import MAX_TOKENS, read_messages, read_shared

DEFAULT_COMPLETION_TOKENS = 16  # what the OpenAI API does for /v1/completions


@dataclass(frozen=True, slots=True)
class OpenAIRequest:
    """A request with what only this dialect has: whether a stream ends with a usage chunk, and
    whether a completion repeats its prompt."""

    task: TaskRequest
    chat: bool
    include_usage: bool
    echo: bool = False


def parse_chat(values: Mapping[str, Any]) -> OpenAIRequest:
    """POST /v1/chat/completions. Raises InvalidRequest that names every faulty field."""
    fields = Fields(values)
    messages = read_messages(fields)
    longer = "max_completion_tokens"
    name = longer if values.get(longer) is not None else "max_tokens"
    task = _task(fields, messages=messages, max_tokens=fields.integer(name, None, 1, MAX_TOKENS))
    return _checked(fields, task, chat=True)


def parse_completion(values: Mapping[str, Any]) -> OpenAIRequest:
    """POST /v1/completions. Raises InvalidRequest that names every faulty field."""
    fields = Fields(values)
    default = DEFAULT_COMPLETION_TOKENS
    task = _task(
        fields,
        prompt=_prompt(fields),
        max_tokens=fields.integer("max_tokens", default, 1, MAX_TOKENS),
    )
    return _checked(fields, task, chat=False)


def _task(fields: Fields, **parts: Any) -> TaskRequest:
    return TaskRequest(**read_shared(fields, temperature=1.0), **parts)


def _prompt(fields: Fields) -> str | None:
    """One prompt, as a string or as a list of one string."""
    value = fields.values.get("prompt")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str) or not value:
        rule = "a non-empty string"
        fields.fault("prompt", rule, f"prompt must be {rule}")
        return None
    holder = Fields({"prompt": value})
    holder.faults = fields.faults
    return holder.long_text("prompt")


def _checked(fields: Fields, task: TaskRequest, *, chat: bool) -> OpenAIRequest:
    _refuse_unserved(fields)
    options = fields.inner("stream_options")
    request = OpenAIRequest(
        task=task,
        chat=chat,
        include_usage=options.flag("include_usage", False),
        echo=not chat and fields.flag("echo", False),
    )
    fields.check()
    return request


def _refuse_unserved(fields: Fields) -> None:
    """What would change the answer and is not served must not be dropped in silence."""
    fields.integer("n", 1, 1, 1)
    fields.integer("best_of", 1, 1, 1)
    for name in ("tools", "functions", "logit_bias", "suffix", "grammar", "json_schema"):
        if fields.values.get(name):
            fields.fault(name, "not served", f"{name} is not served by this version")
    if fields.values.get("logprobs") not in (None, False, 0):
        fields.fault("logprobs", "not served", "logprobs is not served by this version")
    kind = fields.inner("response_format").text("type") or "text"
    if kind != "text":
        fields.fault("response_format.type", "text", f"response_format {kind!r} is not served")
