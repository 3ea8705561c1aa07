"""How a worker writes an answer: one renderer per dialect, each frame rendered exactly once.

A renderer is told what happened and returns the bytes to send. The ids of frames say position and
tokens: `t{index}:{id},{id}…` for text (index of its first token), so that whoever keeps the
frames can go on from the ids they carry; they are unique within one stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from json.encoder import encode_basestring as quoted
from typing import Any, Protocol

from llorch.core.types import Finished, PromptRead, StopReason, TextMade
from llorch.errors import LlorchError
from llorch.wire import sse


@dataclass(frozen=True, slots=True)
class Start:
    """What is known when a generation starts."""

    task_id: str
    worker: str
    model: str
    attempt: int
    seed: int
    queue_wait_ms: int
    created: int


class Renderer(Protocol):
    """Writes one answer."""

    def queued(self, position: int, predicted_start_ms: int) -> bytes:
        """The task waits for a slot."""

    def started(self, start: Start) -> bytes:
        """The engine begins."""

    def progress(self, event: PromptRead) -> bytes:
        """A long prompt is being read."""

    def text(self, event: TextMade) -> bytes:
        """New text."""

    def finished(self, event: Finished) -> bytes:
        """The answer is complete; nothing follows."""

    def refuse_unbegun(self, reason: StopReason) -> None:
        """Raise what the dialect says of an answer that ended while it waited, where `finished`
        has no words for that."""

    def failed(self, error: LlorchError) -> bytes:
        """The answer broke off after it had begun; nothing follows."""


class TaskRenderer:
    """The task dialect: queued, started, progress, token, end, error. attempt: goes into the ids
    of frames, since the frames of several attempts may follow each other in one stream."""

    def __init__(self, attempt: int = 0) -> None:
        self._attempt = attempt
        self._queue_wait_ms = 0
        self._notes = 0

    def queued(self, position: int, predicted_start_ms: int) -> bytes:
        """A `queued` event; their ids count up."""
        return queued_frame(position, predicted_start_ms, self._note())

    def started(self, start: Start) -> bytes:
        """The `started` event."""
        self._queue_wait_ms = start.queue_wait_ms
        data = {
            "task_id": start.task_id,
            "worker": start.worker,
            "model": start.model,
            "attempt": start.attempt,
            "seed": start.seed,
            "queue_wait_ms": start.queue_wait_ms,
        }
        return sse.frame("started", data, f"s{start.attempt}")

    def progress(self, event: PromptRead) -> bytes:
        """A `progress` event."""
        data = {"prompt_done": event.done, "prompt_total": event.total}
        return sse.frame("progress", data, f"p{self._note()}")

    def _note(self) -> str:
        self._notes += 1
        return f"{self._attempt}.{self._notes}"

    def text(self, event: TextMade) -> bytes:
        """A `token` event, written as `sse.frame` would: this is paid for every token."""
        data = f'{{"t":{quoted(event.text)},"i":{event.index}}}'
        try:
            return f"id: {text_id(event)}\nevent: token\ndata: {data}\n\n".encode()
        except UnicodeEncodeError:  # a lone surrogate, which JSON can only escape
            return sse.frame("token", {"t": event.text, "i": event.index}, text_id(event))

    def finished(self, event: Finished) -> bytes:
        """The `end` event."""
        return end_frame(event, self._queue_wait_ms)

    def refuse_unbegun(self, _reason: StopReason) -> None:
        """`end` says it all."""

    def failed(self, error: LlorchError) -> bytes:
        """The `error` event."""
        return error_frame(error)


def text_id(event: TextMade) -> str:
    """Position and token ids of a frame with text."""
    return f"t{event.index}:{','.join(map(str, event.ids))}"


def queued_frame(position: int, predicted_start_ms: int, serial: int | str) -> bytes:
    """A `queued` event: tasks ahead, and milliseconds until the predicted start."""
    data = {"queue_position": position, "predicted_start_ms": predicted_start_ms}
    return sse.frame("queued", data, f"q{serial}")


def end_frame(event: Finished, queue_ms: int) -> bytes:
    """The `end` event of the task dialect."""
    return sse.frame("end", end_data(event, queue_ms), "end")


def end_data(event: Finished, queue_ms: int) -> dict[str, Any]:
    """The statistics of an answer. Durations in milliseconds."""
    seconds = event.decode_ms / 1000
    data: dict[str, Any] = {
        "tokens_out": event.tokens_out,
        "prompt_tokens": event.prompt_tokens,
        "cached_tokens": event.cached_tokens,
        "queue_ms": queue_ms,
        "prefill_ms": round(event.prefill_ms, 1),
        "decode_ms": round(event.decode_ms, 1),
        "tokens_per_second": round(event.tokens_out / seconds, 1) if seconds > 0 else 0.0,
        "stop_reason": event.stop_reason.value,
    }
    if event.stop_sequence is not None:
        data["stop_sequence"] = event.stop_sequence
    return data


def unworked_end_frame(reason: StopReason, tokens_out: int, queue_ms: int) -> bytes:
    """The `end` event of a task that no worker finished: only what was relayed is known of it."""
    return end_frame(Finished(reason, tokens_out, 0, 0, 0.0, 0.0), queue_ms)


def error_frame(error: LlorchError) -> bytes:
    """The `error` event of the task dialect."""
    return sse.frame("error", error.as_dict(), "error")
