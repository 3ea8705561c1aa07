"""The orchestrator's own dialect: /v2/tasks."""

from __future__ import annotations

import uuid
from typing import Any

from llorch.core import events as on
from llorch.daemon.preflight import refuse_overlong
from llorch.daemon.record import EXECUTE, TaskRecord
from llorch.daemon.shell import Shell
from llorch.errors import OffsetLost, TaskNotFound
from llorch.net.exchange import Request
from llorch.net.router import Router
from llorch.wire import sse
from llorch.wire.fields import decode_object
from llorch.wire.tasks import parse_task
from llorch.wire.transcripts import end_of, text_of


class TaskRoutes:
    """One method per address."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def add_to(self, router: Router) -> None:
        """Serve these addresses."""
        router.add("POST", "/v2/tasks", self.submit)
        router.add("GET", "/v2/tasks/{task_id}", self.show)
        router.add("DELETE", "/v2/tasks/{task_id}", self.cancel)
        router.add("GET", "/v2/tasks/{task_id}/events", self.events)
        router.add("POST", "/v2/tasks/{task_id}/cancel", self.cancel)

    async def submit(self, request: Request) -> None:
        """POST /v2/tasks: 202 with the address of the events, or the events at once."""
        values = decode_object(request.body)
        task = parse_task(values)
        await refuse_overlong(task, self._shell.scheduler.fleet)
        record = self._shell.submit(
            task,
            EXECUTE,
            values,
            task_id=task.task_id or str(uuid.uuid4()),
            correlation_id=request.correlation_id,
            idempotency_key=request.headers.get("idempotency-key"),
        )
        if task.stream:
            self._send_events(request, record, 0)
        else:
            location = f"/v2/tasks/{record.task_id}"
            request.exchange.respond_json(
                self._accepted(record), 202, [(b"location", location.encode())]
            )

    def _accepted(self, record: TaskRecord) -> dict[str, Any]:
        return {
            "task_id": record.task_id,
            "status": self._state(record),
            "queue_position": record.queue_position,
            "predicted_start_ms": record.predicted_start_ms,
            "events_url": f"/v2/tasks/{record.task_id}/events",
        }

    def _state(self, record: TaskRecord) -> str:
        task = self._shell.scheduler.book.find(record.task_id)
        assert task is not None
        return task.state.value

    async def show(self, request: Request) -> None:
        """GET /v2/tasks/{id}: state, timings, and the text so far."""
        record = self._shell.find(request.parts["task_id"])
        task = self._shell.scheduler.book.find(record.task_id)
        assert task is not None
        body: dict[str, Any] = {
            "task_id": record.task_id,
            "status": task.state.value,
            "model": task.spec.model,
            "priority": task.spec.priority.value,
            "created": record.created,
            "age_ms": int(1000 * (self._shell.now - task.accepted_at)),
            "attempt": task.attempt,
            "worker": task.worker_id,
            "failures": list(task.failures),
        }
        if task.dispatched_at is None or task.worker_id is None:
            body |= {
                "queue_position": record.queue_position,
                "predicted_start_ms": record.predicted_start_ms,
            }
        else:
            body["queue_ms"] = record.queue_wait_ms
        if record.is_task:
            body["text"] = text_of(record.log.data)
            body |= end_of(record.log.data) or {}
        request.exchange.respond_json(body)

    async def events(self, request: Request) -> None:
        """GET /v2/tasks/{id}/events: all frames, or those after Last-Event-ID (or ?after=)."""
        record = self._shell.find(request.parts["task_id"])
        if not record.is_task:
            raise TaskNotFound("the events of an OpenAI request go to its client alone")
        last_id = request.headers.get("last-event-id") or request.query.get("after", "")
        offset = 0
        if last_id:
            found = sse.offset_after(record.log.data, last_id)
            if found is None:
                raise OffsetLost(
                    f"no event of this task has the id {last_id!r}",
                    hint="read from the start, without Last-Event-ID",
                )
            offset = found
        if record.log.closed and offset and offset == len(record.log.data):
            request.exchange.respond(204, b"")  # an EventSource stops asking
            return
        self._send_events(request, record, offset)

    def _send_events(self, request: Request, record: TaskRecord, offset: int) -> None:
        self._shell.tell(on.ClientReturned(record.task_id))
        headers = [(b"x-llorch-task", record.task_id.encode())]
        self._shell.stream(record, request.exchange, offset, headers)

    async def cancel(self, request: Request) -> None:
        """POST /v2/tasks/{id}/cancel and DELETE: 202, or 200 for a task that is final."""
        record = self._shell.find(request.parts["task_id"])
        final = record.settled.is_set()
        self._shell.tell(on.CancelRequested(record.task_id))
        body = {"task_id": record.task_id, "status": self._state(record)}
        request.exchange.respond_json(body, 200 if final else 202)
