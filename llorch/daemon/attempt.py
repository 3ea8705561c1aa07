"""One attempt of a task on a worker: send the request, move the answer's bytes, say how it ended.

The bytes go from the worker's socket into the task's log and from there to whoever reads it, in one
callback and unparsed. Only when the stream is over is its last frame looked at, to tell a complete
answer from one that broke off.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

from llorch.core.effects import Dispatch
from llorch.core.events import AttemptEnded, AttemptLost, AttemptRefused, Event
from llorch.core.task import Fact
from llorch.daemon.record import TaskRecord
from llorch.errors import LlorchError, Unreachable, WorkerLost
from llorch.net.client import Answer, ask, open_stream
from llorch.net.control_errors import error_of
from llorch.wire import sse
from llorch.wire.tasks import Attempt
from llorch.wire.transcripts import outcome_of

log = logging.getLogger("llorch.orchestrator")


class AttemptRun:
    """Runs an attempt in a task of its own and tells the scheduler one fact about its end."""

    def __init__(self, record: TaskRecord, order: Dispatch, tell: Callable[[Event], None]) -> None:
        self._record = record
        self._order = order
        self._tell = tell
        self._answer: Answer | None = None
        self._severed = ""  # why the connection was closed here
        self._log_start = len(record.log.data)
        self.received = record.sink()
        self.task = asyncio.ensure_future(self._open())
        self.task.add_done_callback(self._opened)

    async def _open(self) -> None:
        order, record = self._order, self._record
        attempt = Attempt(order.task_id, order.attempt, order.queue_wait_ms)
        headers = [
            ("content-type", "application/json"),
            ("x-correlation-id", record.correlation_id),
        ]
        try:
            answer = await open_stream(
                "POST",
                order.url + record.path,
                headers=headers,
                body=record.body(attempt, order.deadline_ms),
            )
            self._answer = answer
            if self._severed:  # too late for the cancellation to be seen
                await answer.aclose()
            if answer.status != 200:
                await self._refused(answer)
                return
        except (Unreachable, WorkerLost) as error:
            self._lost(error.message)
            return
        record.open(order.worker_id)
        answer.attach(self)
        answer.connection.read_hot()

    def _opened(self, task: asyncio.Task[None]) -> None:
        """Opening is over: what ended it before it could say so is told here."""
        if task.cancelled():
            self._lost("the attempt was cancelled")
        elif task.exception() is not None:
            log.error("internal error in an attempt", exc_info=task.exception())
            self._lost("internal error")

    async def _refused(self, answer: Answer) -> None:
        body = await answer.read()
        try:
            error = error_of(answer.status, json.loads(body))
        except ValueError:
            error = WorkerLost(f"the worker answered {answer.status} without saying why")
        self._tell(AttemptRefused(self._order.task_id, self._order.attempt, error))

    def ended(self, complete: bool) -> None:
        """The worker's stream is over."""
        outcome = self._outcome(complete)
        if outcome is None:
            self._record.log.drop_tail()
            self._lost("the connection broke in the middle of the answer")
        else:
            self._tell(AttemptEnded(self._order.task_id, self._order.attempt, outcome))

    def _outcome(self, complete: bool) -> Fact | None:
        record = self._record
        if not record.streams:
            return Fact.ENDED if complete else None
        return outcome_of(record.log.data[self._log_start :])

    def _lost(self, reason: str) -> None:
        delivered = self._record.streams and sse.has_text(self._record.log.data, self._log_start)
        self._record.whole.clear()
        order = self._order
        why = self._severed or reason
        self._tell(AttemptLost(order.task_id, order.attempt, why, delivered))

    def sever(self, reason: str) -> None:
        """Close the connection to the worker."""
        self._severed = reason or "the orchestrator closed the connection"
        if self._answer is not None:
            self._answer.connection.close()
        else:
            self.task.cancel()


async def ask_to_cancel(url: str, task_id: str) -> bool:
    """Ask a worker to stop a task; False when it cannot be asked or does not know the task."""
    body = json.dumps({"task_id": task_id}).encode()
    try:
        status, _ = await ask("POST", f"{url}/cancel", body=body)
    except LlorchError:
        return False
    return status == 202
