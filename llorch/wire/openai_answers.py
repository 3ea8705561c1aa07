"""The OpenAI dialect's answers, streamed and whole. See `answers.py` for what a renderer is.

A stream ends with `data: [DONE]`; one that breaks off ends with `data: {"error": …}` and without
it. In chunks `usage` is sent once, in a chunk of its own with no choices, when it was asked for.
"""

from __future__ import annotations

from typing import Any

from llorch.core.types import Finished, PromptRead, StopReason, TextMade
from llorch.errors import Cancelled, DeadlineExceeded, LlorchError
from llorch.wire import sse
from llorch.wire.answers import Start, text_id
from llorch.wire.openai_requests import OpenAIRequest

FINISH_REASONS = {
    StopReason.EOS: "stop",
    StopReason.STOP: "stop",
    StopReason.LENGTH: "length",
    StopReason.CANCELLED: "stop",
    StopReason.DEADLINE: "length",
}


def unanswered(reason: StopReason) -> LlorchError:
    """The error for a task that ended without an answer, which other dialects call an end."""
    if reason is StopReason.DEADLINE:
        return DeadlineExceeded("the deadline passed before the answer was ready")
    return Cancelled("the task was cancelled")


def usage(event: Finished) -> dict[str, Any]:
    """Token counts in the dialect's words."""
    return {
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.tokens_out,
        "total_tokens": event.prompt_tokens + event.tokens_out,
        "prompt_tokens_details": {"cached_tokens": event.cached_tokens},
    }


class _OpenAIRenderer:
    """What streams and whole answers share: the head of every object."""

    def __init__(self, request: OpenAIRequest, prompt_text: str = "") -> None:
        self.request = request
        self._echo = prompt_text if request.echo else ""
        self._head: dict[str, Any] = {}

    def _begin(self, start: Start, kind: str) -> None:
        prefix = "chatcmpl" if self.request.chat else "cmpl"
        self._head = {
            "id": f"{prefix}-{start.task_id}",
            "object": kind,
            "created": start.created,
            "model": start.model,
            "system_fingerprint": f"llorch-{start.worker}",
        }

    def queued(self, _position: int, _predicted_start_ms: int) -> bytes:
        """Nothing: the dialect has no word for it."""
        return b""

    def progress(self, _event: PromptRead) -> bytes:
        """Nothing: the dialect has no word for it."""
        return b""

    def refuse_unbegun(self, reason: StopReason) -> None:
        """An empty answer would say that the model had nothing to say."""
        raise unanswered(reason)


class OpenAIStreamRenderer(_OpenAIRenderer):
    """`chat.completion.chunk` and `text_completion` streams."""

    def started(self, start: Start) -> bytes:
        """The first chunk: the role in a chat, the echoed prompt in a completion."""
        self._begin(start, "chat.completion.chunk" if self.request.chat else "text_completion")
        if self.request.chat:
            delta = {"role": "assistant", "content": ""}
            return self._chunk({"delta": delta}, None, f"s{start.attempt}")
        if self._echo:
            return self._chunk({"text": self._echo}, None, "echo")  # text: not to be sent twice
        return b""

    def text(self, event: TextMade) -> bytes:
        """A chunk with new text."""
        part = {"delta": {"content": event.text}} if self.request.chat else {"text": event.text}
        return self._chunk(part, None, text_id(event))

    def finished(self, event: Finished) -> bytes:
        """The chunk with the finish reason, the usage if asked for, and the end mark."""
        part: dict[str, Any] = {"delta": {}} if self.request.chat else {"text": ""}
        last = self._chunk(part, FINISH_REASONS[event.stop_reason], "finish")
        if self.request.include_usage:
            last += sse.data_frame(self._head | {"choices": [], "usage": usage(event)}, "usage")
        return last + sse.DONE

    def failed(self, error: LlorchError) -> bytes:
        """The error as the last frame, without the end mark."""
        return sse.data_frame({"error": error.as_dict()}, "error")

    def _chunk(self, part: dict[str, Any], finish: str | None, event_id: str) -> bytes:
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": finish}
        return sse.data_frame(self._head | {"choices": [choice]}, event_id)


class OpenAIWholeRenderer(_OpenAIRenderer):
    """One JSON object, rendered when the answer is complete."""

    def __init__(self, request: OpenAIRequest, prompt_text: str = "") -> None:
        super().__init__(request, prompt_text)
        self._texts: list[str] = []

    def started(self, start: Start) -> bytes:
        """Nothing yet."""
        self._begin(start, "chat.completion" if self.request.chat else "text_completion")
        return b""

    def text(self, event: TextMade) -> bytes:
        """Nothing yet: the text is kept."""
        self._texts.append(event.text)
        return b""

    def finished(self, event: Finished) -> bytes:
        """The whole answer."""
        text = self._echo + "".join(self._texts)
        message = {"role": "assistant", "content": text}
        part = {"message": message} if self.request.chat else {"text": text}
        reason = FINISH_REASONS[event.stop_reason]
        choice = {"index": 0, **part, "logprobs": None, "finish_reason": reason}
        return sse.encode(self._head | {"choices": [choice], "usage": usage(event)})

    def failed(self, error: LlorchError) -> bytes:
        """The error body: nothing of the answer was sent before it."""
        return sse.encode({"error": error.as_dict()})


def model_object(name: str, created: int, **extra: Any) -> dict[str, Any]:
    """An entry of GET /v1/models."""
    return {"id": name, "object": "model", "created": created, "owned_by": "llorch", **extra}


def model_list(models: list[dict[str, Any]]) -> dict[str, Any]:
    """The body of GET /v1/models."""
    return {"object": "list", "data": models}
