"""What the orchestrator's shell keeps of a task: the request as it came, and what was answered."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from llorch.core.types import StopReason, TaskRequest
from llorch.errors import LlorchError
from llorch.net.relay import FrameLog
from llorch.wire import sse
from llorch.wire.answers import error_frame, queued_frame, unworked_end_frame
from llorch.wire.openai_answers import unanswered
from llorch.wire.tasks import Attempt, attempt_fields
from llorch.wire.transcripts import tokens_in

EXECUTE = "/execute"


def fingerprint(values: dict[str, Any]) -> bytes:
    """A digest of a request body, the same for bodies that mean the same JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()


@dataclass(slots=True)
class TaskRecord:
    """A task of the shell. path: where on the worker its body goes, which says its dialect too.

    opened: done when a worker began to answer (its id), or with the error that came instead; only
    the OpenAI dialect, which sends its head then, waits for it.
    """

    task_id: str
    request: TaskRequest
    path: str
    values: dict[str, Any]
    correlation_id: str
    created: float
    digest: bytes
    idempotency_key: str | None = None
    log: FrameLog = field(default_factory=FrameLog)
    whole: bytearray = field(default_factory=bytearray)
    refusal: LlorchError | None = None
    queue_position: int = 0
    predicted_start_ms: int = 0
    queue_wait_ms: int = 0
    opened: asyncio.Future[str] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    _queued_frames: int = 0
    _abandoned: bool = False

    @property
    def is_task(self) -> bool:
        """True for the task dialect, False for OpenAI's."""
        return self.path == EXECUTE

    @property
    def streams(self) -> bool:
        """True when the worker answers with frames."""
        return self.is_task or self.request.stream

    def body(self, attempt: Attempt, deadline_ms: int) -> bytes:
        """What is sent to the worker: the client's body with what the orchestrator adds."""
        values = self.values | attempt_fields(attempt, deadline_ms)
        values.pop("job_id", None)
        return sse.encode(values)

    def sink(self) -> Callable[[bytes], None]:
        """What takes the worker's bytes."""
        return self.log.received if self.streams else self.whole.extend

    def open(self, worker_id: str) -> None:
        """A worker began to answer."""
        if not self.opened.done():
            self.opened.set_result(worker_id)

    def announce(self, position: int, predicted_start_ms: int) -> None:
        """The task's place in the queue is known or has changed."""
        self.queue_position, self.predicted_start_ms = position, predicted_start_ms
        if self.is_task:
            self._queued_frames += 1
            self.log.append(queued_frame(position, predicted_start_ms, self._queued_frames))

    def conclude_end(self, reason: StopReason) -> None:
        """Write the end that no worker wrote."""
        if self.is_task:
            tokens = tokens_in(self.log.data)
            self.log.append(unworked_end_frame(reason, tokens, self.queue_wait_ms))
        else:
            self.conclude_error(unanswered(reason))

    def conclude_error(self, error: LlorchError) -> None:
        """Write the error that no worker wrote."""
        if self.is_task:
            self.log.append(error_frame(error))
        elif not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # its client may have left: then nobody asks for it
        else:
            self.refusal = error
            self.log.append(sse.data_frame({"error": error.as_dict()}, "error"))

    def settle(self) -> None:
        """The task is final: its streams end, and its prompt is not needed any more."""
        self.log.close()
        self.values = {}
        self.request = replace(self.request, prompt=None, messages=())
        self.settled.set()
        self._release()

    def abandon(self) -> None:
        """The one client that could read the answer is gone: an OpenAI answer is not resumed."""
        self._abandoned = True
        self._release()

    def _release(self) -> None:
        if self._abandoned and self.settled.is_set():
            self.log.data.clear()
            self.whole.clear()
