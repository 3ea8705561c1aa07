"""The orchestrator's mind: one door, `handle(event, now) -> effects`.

Theory of operation. The scheduler owns three things: the tasks, the queue of those that wait, and
the fleet with its leases. Events are facts that the shell saw; every call first takes the event in,
then gives every free slot the task that is next for it, and returns what must be done, in order.
It is called from one thread only and never blocks, so there is no lock and no clock in here.

A running attempt ends in exactly one of these ways:
    1. its last frame was relayed          AttemptEnded    -> final
    2. the worker refused it               AttemptRefused  -> queued again, or final with the error
    3. the connection broke                AttemptLost     -> queued again if the client has seen
                                                              nothing yet, else final with an error
    4. it overran a limit (cancel, deadline, worker silent): the scheduler severs the connection;
       what the shell then reports arrives for a task that is final, or as 3.
Reports carry the attempt's number; one that is not the current attempt's is late and ignored.

Invariants (tests/core/test_scheduler_histories.py): every accepted task ends exactly once; no
dispatch beyond a worker's free slots; attempts are bounded; a final state has no exit; the queue
and the leases together are exactly the live tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llorch.core import effects as do
from llorch.core import events as on
from llorch.core.admission import refusal
from llorch.core.book import TaskBook
from llorch.core.effects import Effect
from llorch.core.fleet import Fleet, Worker, WorkerStatus
from llorch.core.forecast import Forecast
from llorch.core.limits import Limits
from llorch.core.placement import Policy, candidates, least_loaded, pin_is_closed
from llorch.core.places import Places
from llorch.core.queue import TaskQueue
from llorch.core.task import Fact, State, Task
from llorch.core.types import StopReason
from llorch.errors import LlorchError, PoolUnavailable, ShuttingDown, WorkerLost


class Scheduler:
    """All decisions of an orchestrator. `handle` is the only way in."""

    def __init__(self, limits: Limits, policy: Policy = least_loaded) -> None:
        self.limits = limits
        self.policy = policy
        self.queue = TaskQueue(limits.queue_capacity, limits.promote_after_seconds)
        self.fleet = Fleet(limits.lease_seconds)
        self.forecast = Forecast()
        self.places = Places(self.queue, self.fleet, self.forecast)
        self.book = TaskBook(limits.retention_seconds, limits.max_retained)
        self.leaving = False
        self._left = False
        self._handlers: dict[type, Callable[[Any, float], list[Effect]]] = {
            on.TaskSubmitted: self._on_submitted,
            on.CancelRequested: self._on_cancel,
            on.ClientLeft: self._on_client_left,
            on.ClientReturned: self._on_client_returned,
            on.AttemptEnded: self._on_attempt_ended,
            on.AttemptRefused: self._on_attempt_refused,
            on.AttemptLost: self._on_attempt_lost,
            on.WorkerReported: self._on_worker_reported,
            on.WorkerLeft: self._on_worker_left,
            on.DrainRequested: self._on_drain,
            on.ShutdownRequested: self._on_shutdown,
            on.GraceEnded: self._on_grace_ended,
            on.Ticked: self._on_tick,
        }

    def handle(self, event: on.Event, now: float) -> list[Effect]:
        """Take in a fact and return what must be done. `now`: seconds, never falling."""
        effects = self._handlers[type(event)](event, now)
        effects += self._fill_slots(now)
        if self.leaving and not self.book.live and not self._left:
            self._left = True
            effects.append(do.Leave())
        return effects

    # -- clients --------------------------------------------------------------------------------

    def _on_submitted(self, event: on.TaskSubmitted, now: float) -> list[Effect]:
        spec = event.spec
        error = refusal(spec, self.fleet, self.queue, self.forecast, leaving=self.leaving)
        if error is not None:
            return [do.Refuse(spec.task_id, error)]
        task = Task(spec, accepted_at=now)
        self.book.open(task)
        self.queue.add(task, now)
        return [do.Accept(spec.task_id), self.places.announce(task)]

    def _on_cancel(self, event: on.CancelRequested, now: float) -> list[Effect]:
        task = self.book.live.get(event.task_id)
        return [] if task is None else self._cancel(task, now)

    def _cancel(self, task: Task, now: float) -> list[Effect]:
        if task.state is State.QUEUED:
            return self._end(task, StopReason.CANCELLED, now)
        if task.state is not State.RUNNING:
            return []  # a second cancel is harmless
        task.move(Fact.CANCEL_REQUESTED)
        task.cancel_requested_at = now
        return [self._stop_attempt(task)]

    def _stop_attempt(self, task: Task) -> Effect:
        """Ask the worker, if it is still there to be asked."""
        worker = self.fleet.workers.get(task.worker_id or "")
        if worker is None:
            return do.Sever(task.spec.task_id, task.attempt)
        return do.Abort(task.spec.task_id, task.attempt, worker.report.url)

    def _on_client_left(self, event: on.ClientLeft, now: float) -> list[Effect]:
        task = self.book.live.get(event.task_id)
        if task is None or task.spec.leave_grace_seconds is None:
            return []
        task.orphaned_at = now
        return self._cancel_if_orphaned(task, now)

    def _on_client_returned(self, event: on.ClientReturned, _now: float) -> list[Effect]:
        task = self.book.live.get(event.task_id)
        if task is not None:
            task.orphaned_at = None
        return []

    def _cancel_if_orphaned(self, task: Task, now: float) -> list[Effect]:
        limit = task.orphan_deadline
        return self._cancel(task, now) if limit is not None and now >= limit else []

    # -- attempts -------------------------------------------------------------------------------

    def _current(self, task_id: str, attempt: int) -> Task | None:
        task = self.book.live.get(task_id)
        if task is None or task.attempt != attempt or task.state is State.QUEUED:
            return None  # a late report
        return task

    def _on_attempt_ended(self, event: on.AttemptEnded, now: float) -> list[Effect]:
        task = self._current(event.task_id, event.attempt)
        if task is None:
            return []
        if event.outcome is Fact.ENDED and task.dispatched_at is not None:
            self.forecast.observe(task.spec.model, now - task.dispatched_at)
        return self._settle(task, event.outcome, now)

    def _on_attempt_refused(self, event: on.AttemptRefused, now: float) -> list[Effect]:
        task = self._current(event.task_id, event.attempt)
        if task is None:
            return []
        if event.error.retriable:
            self._doubt(task, WorkerStatus.BUSY)
        return self._try_again(task, event.error, event.error.retriable, now)

    def _on_attempt_lost(self, event: on.AttemptLost, now: float) -> list[Effect]:
        task = self._current(event.task_id, event.attempt)
        if task is None:
            return []
        self._doubt(task, WorkerStatus.FAILED)
        error = WorkerLost(f"worker {task.worker_id} was lost: {event.reason}")
        return self._try_again(task, error, not event.delivered, now)

    def _try_again(self, task: Task, error: LlorchError, may: bool, now: float) -> list[Effect]:
        """Queue the task again where that can help, else end it with the error."""
        task.failures.append(f"attempt {task.attempt} on {task.worker_id}: {error.message}")
        if task.state is State.CANCELLING:
            return self._end(task, StopReason.CANCELLED, now)
        if not may or task.attempt >= self.limits.max_attempts:
            return self._fail(task, error, now)
        self.fleet.release(task.worker_id, task.spec.task_id)
        task.move(Fact.REQUEUED)
        task.worker_id = None
        self.queue.add(task, now)
        return [self.places.announce(task)]

    def _doubt(self, task: Task, status: WorkerStatus) -> None:
        """What the worker last reported is not true any more. A connection that broke after a
        cancel says nothing: it was probably us; nor does one to a worker that has since left."""
        worker = self.fleet.workers.get(task.worker_id or "")
        leased = worker is not None and task.spec.task_id in worker.leases
        if worker is not None and leased and task.state is State.RUNNING:
            worker.doubt = status

    # -- workers --------------------------------------------------------------------------------

    def _on_worker_reported(self, event: on.WorkerReported, now: float) -> list[Effect]:
        self.fleet.report(event.report, now)
        return []

    def _on_worker_left(self, event: on.WorkerLeft, _now: float) -> list[Effect]:
        worker = self.fleet.remove(event.worker_id)
        return [] if worker is None else self._sever_all(worker, "it left the fleet")

    def _sever_all(self, worker: Worker, reason: str) -> list[Effect]:
        """The shell reports each severed attempt as lost, and says what its client has seen."""
        return [do.Sever(task_id, attempt, reason) for task_id, attempt in worker.leases.items()]

    def _on_drain(self, event: on.DrainRequested, _now: float) -> list[Effect]:
        worker = self.fleet.workers.get(event.worker_id)
        if worker is not None:
            worker.draining = True
        return []

    # -- shutdown -------------------------------------------------------------------------------

    def _on_shutdown(self, _event: on.ShutdownRequested, now: float) -> list[Effect]:
        self.leaving = True
        waiting = [t for t in self.book.live.values() if t.state is State.QUEUED]
        return self._fail_all(waiting, now)

    def _on_grace_ended(self, _event: on.GraceEnded, now: float) -> list[Effect]:
        live = list(self.book.live.values())
        running = [task for task in live if task.state is not State.QUEUED]
        severed: list[Effect] = [do.Sever(t.spec.task_id, t.attempt) for t in running]
        return severed + self._fail_all(live, now)

    def _fail_all(self, tasks: list[Task], now: float) -> list[Effect]:
        error = ShuttingDown("the orchestrator is shutting down", retry_after_ms=5000)
        return [effect for task in tasks for effect in self._fail(task, error, now)]

    # -- time -----------------------------------------------------------------------------------

    def _on_tick(self, _event: on.Ticked, now: float) -> list[Effect]:
        self.queue.promote(now)
        effects: list[Effect] = []
        for worker in self.fleet.expire(now):
            effects += self._sever_all(worker, f"no report for {self.fleet.lease_seconds:g} s")
        for task in list(self.book.live.values()):
            effects += self._check_limits(task, now)
        effects += self.places.moves()
        effects += [do.Forget(task_id) for task_id in self.book.forget_old(now)]
        return effects

    def _check_limits(self, task: Task, now: float) -> list[Effect]:
        """1. unmeetable pin  2. deadline while waiting  3. deadline while running, with slack for
        the worker's own end  4. a cancel the worker did not act on  5. a client that left."""
        limits = self.limits
        if task.state is State.QUEUED:
            if pin_is_closed(task.spec, self.fleet):
                error = PoolUnavailable("no worker that the task is pinned to takes more")
                return self._fail(task, error, now)
            if now >= task.spec.deadline:
                return self._end(task, StopReason.DEADLINE, now)
        elif now >= task.spec.deadline + limits.deadline_slack_seconds:
            return self._cut(task, StopReason.DEADLINE, now)
        elif task.cancel_overdue(now, limits.cancel_seconds):
            return self._cut(task, StopReason.CANCELLED, now)
        return self._cancel_if_orphaned(task, now)

    # -- placement and dispatch ------------------------------------------------------------------

    def _fill_slots(self, now: float) -> list[Effect]:
        """Give each free slot the first task in line that may have it."""
        effects: list[Effect] = []
        for model in self.queue.models():
            workers = self.fleet.serving(model)
            for task in list(self.queue.line(model)):
                if not any(w.open for w in workers):
                    break
                fit = candidates(task.spec, workers)
                if fit:
                    effects.append(self._dispatch(task, self.policy(fit), now))
        return effects

    def _dispatch(self, task: Task, worker: Worker, now: float) -> Effect:
        task_id = task.spec.task_id
        self.queue.remove(task_id)
        task.attempt += 1
        task.move(Fact.DISPATCHED)
        task.worker_id, task.dispatched_at, task.announced = worker.worker_id, now, None
        self.fleet.grant(worker.worker_id, task_id, task.attempt)
        return do.Dispatch(
            task_id=task_id,
            attempt=task.attempt,
            worker_id=worker.worker_id,
            url=worker.report.url,
            queue_wait_ms=int(1000 * (now - task.accepted_at)),
            deadline_ms=max(1, int(1000 * (task.spec.deadline - now))),
        )

    # -- ends -----------------------------------------------------------------------------------

    def _end(self, task: Task, reason: StopReason, now: float) -> list[Effect]:
        fact = Fact.CANCELLED if reason is StopReason.CANCELLED else Fact.ENDED
        return [do.ConcludeEnd(task.spec.task_id, reason), *self._settle(task, fact, now)]

    def _cut(self, task: Task, reason: StopReason, now: float) -> list[Effect]:
        sever = do.Sever(task.spec.task_id, task.attempt)
        return [sever, *self._end(task, reason, now)]

    def _fail(self, task: Task, error: LlorchError, now: float) -> list[Effect]:
        conclude = do.ConcludeError(task.spec.task_id, error)
        return [conclude, *self._settle(task, Fact.FAILED, now)]

    def _settle(self, task: Task, fact: Fact, now: float) -> list[Effect]:
        """The one place where a task becomes final."""
        task_id = task.spec.task_id
        if task_id in self.queue:
            self.queue.remove(task_id)
        self.queue.forget(task_id)
        self.fleet.release(task.worker_id, task_id)
        task.move(fact)
        self.book.end(task, now)
        return [do.Settle(task_id)]
