"""The orchestrator's shell: facts go into the scheduler, its wishes become I/O.

Theory of operation. `tell` is called on the loop's one thread with a fact; the effects that come
back are carried out in their order, before the next fact is taken. Whatever an effect starts (an
attempt on a worker, a cancel) reports its end as a new fact. Records hold what the scheduler does
not need to know: bodies, logs, connections.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from llorch.core import effects as do
from llorch.core import events as on
from llorch.core.fleet import WorkerReport
from llorch.core.limits import Limits
from llorch.core.scheduler import Scheduler
from llorch.core.task import TaskSpec
from llorch.core.types import TaskRequest
from llorch.daemon.attempt import AttemptRun, ask_to_cancel
from llorch.daemon.process import OnEvent
from llorch.daemon.record import EXECUTE, TaskRecord, fingerprint
from llorch.errors import Conflict, IdempotencyConflict, TaskNotFound
from llorch.net.exchange import Exchange
from llorch.net.metrics import OrchestratorMetrics
from llorch.net.relay import Reader
from llorch.wire import sse

log = logging.getLogger("llorch.orchestrator")

STREAM_LEAVE_GRACE_SECONDS = 10.0


class Shell:
    """Owns the scheduler and everything around it. `left` is set when a shutdown is complete."""

    def __init__(self, limits: Limits, on_event: OnEvent) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_event = on_event
        self.scheduler = Scheduler(limits)
        self.metrics = OrchestratorMetrics(self.scheduler)
        self.records: dict[str, TaskRecord] = {}
        self.left = asyncio.Event()
        self._by_key: dict[str, str] = {}
        self._attempts: dict[tuple[str, int], AttemptRun] = {}
        self._facts: deque[on.Event] = deque()
        self._busy = False
        self.side_tasks: set[asyncio.Task[None]] = set()
        self._doers: dict[type, Callable[[Any], None]] = {
            do.Accept: lambda _: None,
            do.Refuse: self._refuse,
            do.Announce: self._announce,
            do.Dispatch: self._dispatch,
            do.Abort: self._abort,
            do.Sever: self._sever,
            do.ConcludeEnd: lambda e: self.records[e.task_id].conclude_end(e.stop_reason),
            do.ConcludeError: self._conclude_error,
            do.Settle: self._settle,
            do.Forget: self._forget,
            do.Leave: lambda _: self.left.set(),
        }

    @property
    def now(self) -> float:
        """The clock of all facts, in seconds."""
        return self._loop.time()

    def tell(self, fact: on.Event) -> None:
        """Take in a fact and do what follows from it. A fact that comes while effects are carried
        out waits until they are."""
        self._facts.append(fact)
        if self._busy:
            return
        self._busy = True
        try:
            while self._facts:
                for effect in self.scheduler.handle(self._facts.popleft(), self.now):
                    self._doers[type(effect)](effect)
        finally:
            self._busy = False

    def take_report(self, report: WorkerReport) -> None:
        """Take in a heartbeat. Raises Conflict where its id is that of another live worker."""
        rival = self.scheduler.fleet.rival(report)
        if rival is not None:
            raise Conflict(
                f"{report.worker_id} is the worker at {rival.report.url} already: "
                "two machines of one host name need different ports"
            )
        self.tell(on.WorkerReported(report))

    # -- what routes ask ------------------------------------------------------------------------

    def submit(
        self,
        request: TaskRequest,
        path: str,
        values: dict[str, Any],
        *,
        task_id: str,
        correlation_id: str,
        idempotency_key: str | None,
    ) -> TaskRecord:
        """Accept a task, or return the one that this key or id already stands for.

        Raises IdempotencyConflict, and whatever the scheduler refuses the task with.
        """
        digest = fingerprint(values)
        known = self._known(task_id, idempotency_key)
        if known is not None:
            if known.digest != digest:
                raise IdempotencyConflict(
                    "this key was used for another request", hint="use a new key for a new task"
                )
            return known
        record = TaskRecord(
            task_id=task_id,
            request=request,
            path=path,
            values=values,
            correlation_id=correlation_id,
            created=time.time(),
            digest=digest,
            idempotency_key=idempotency_key,
        )
        self._accept(record)
        return record

    def _known(self, task_id: str, key: str | None) -> TaskRecord | None:
        if key is not None and key in self._by_key:
            return self.records[self._by_key[key]]
        return self.records.get(task_id)

    def _accept(self, record: TaskRecord) -> None:
        self.records[record.task_id] = record
        if record.idempotency_key is not None:
            self._by_key[record.idempotency_key] = record.task_id
        self.tell(on.TaskSubmitted(self._spec(record)))
        if record.refusal is not None:
            raise record.refusal

    def _spec(self, record: TaskRecord) -> TaskSpec:
        request = record.request
        grace: float | None = 0.0
        if record.path == EXECUTE:
            grace = STREAM_LEAVE_GRACE_SECONDS if request.stream else None
        return TaskSpec(
            task_id=record.task_id,
            model=request.model,
            priority=request.priority,
            deadline=self.now + request.deadline_ms / 1000,
            leave_grace_seconds=grace,
            worker=request.worker,
            pool=request.pool,
            avoid=request.avoid,
            backend=request.backend,
        )

    def find(self, task_id: str) -> TaskRecord:
        """A live or retained task. Raises TaskNotFound."""
        record = self.records.get(task_id)
        if record is None:
            raise TaskNotFound(f"there is no task {task_id!r}")
        return record

    def stream(
        self,
        record: TaskRecord,
        exchange: Exchange,
        offset: int,
        headers: list[tuple[bytes, bytes]],
    ) -> Reader:
        """Send a record's frames from an offset on, until they end or the client leaves."""
        out = exchange.stream(200, [*sse.HEADERS, *headers])
        reader = record.log.read(out, offset, out.end)

        def gone(_: object) -> None:
            record.log.leave(reader)
            if not record.log.readers:
                self.tell(on.ClientLeft(record.task_id))

        exchange.over.add_done_callback(gone)
        return reader

    def ping(self) -> None:
        """Let silent streams be heard of."""
        for record in self.records.values():
            record.log.ping()

    # -- effects --------------------------------------------------------------------------------

    def _refuse(self, effect: do.Refuse) -> None:
        self.metrics.ended("refused")
        record = self._drop(effect.task_id)
        record.refusal = effect.error

    def _announce(self, effect: do.Announce) -> None:
        record = self.records[effect.task_id]
        record.announce(effect.queue_position, effect.predicted_start_ms)

    def _dispatch(self, effect: do.Dispatch) -> None:
        record = self.records[effect.task_id]
        record.queue_wait_ms = effect.queue_wait_ms
        self.metrics.dispatched(effect.queue_wait_ms / 1000)
        run = AttemptRun(record, effect, self.tell)
        self._attempts[effect.task_id, effect.attempt] = run

    def _abort(self, effect: do.Abort) -> None:
        """A task gets its `end` from the worker; an OpenAI client has left and needs none."""
        if self.records[effect.task_id].path == EXECUTE:
            self._in_background(self._ask_to_cancel(effect))
        else:
            self._sever(do.Sever(effect.task_id, effect.attempt))

    async def _ask_to_cancel(self, effect: do.Abort) -> None:
        if not await ask_to_cancel(effect.url, effect.task_id):
            self._sever(do.Sever(effect.task_id, effect.attempt))

    def _sever(self, effect: do.Sever) -> None:
        run = self._attempts.get((effect.task_id, effect.attempt))
        if run is not None:
            run.sever(effect.reason)

    def _conclude_error(self, effect: do.ConcludeError) -> None:
        facts = {"task": effect.task_id, "code": effect.error.code, "reason": effect.error.message}
        self._on_event("failed", facts)
        self.records[effect.task_id].conclude_error(effect.error)

    def _settle(self, effect: do.Settle) -> None:
        record = self.records[effect.task_id]
        task = self.scheduler.book.find(effect.task_id)
        assert task is not None
        self.metrics.ended(task.state.value)
        for attempt in range(1, task.attempt + 1):
            self._attempts.pop((effect.task_id, attempt), None)
        record.settle()

    def _forget(self, effect: do.Forget) -> None:
        self._drop(effect.task_id)

    def _drop(self, task_id: str) -> TaskRecord:
        record = self.records.pop(task_id)
        if record.idempotency_key is not None:
            self._by_key.pop(record.idempotency_key, None)
        return record

    def _in_background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.side_tasks.add(task)
        task.add_done_callback(self.side_tasks.discard)
