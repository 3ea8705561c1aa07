"""A world around the scheduler for random histories: a shell that does what it is told, sooner or
later, and a book of its own in which the invariants are checked after every fact.

The shell keeps what a real one has: attempts that run, attempts that it was told to sever, and
tasks that were answered. It never looks into the scheduler to find out what is true; the checks do,
to compare.
"""

from __future__ import annotations

from collections import Counter

from llorch.core import effects as do
from llorch.core import events as on
from llorch.core.effects import Effect
from llorch.core.fleet import WorkerStatus
from llorch.core.limits import Limits
from llorch.core.scheduler import Scheduler
from llorch.core.task import Fact, State

LIMITS = Limits(queue_capacity=4, retention_seconds=120.0, max_retained=5)


class World:
    """The scheduler, its shell, and the checks."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(LIMITS)
        self.now = 0.0
        self.accepted: set[str] = set()
        self.forgotten: set[str] = set()
        self.dispatches: Counter[str] = Counter()
        self.severed: set[tuple[str, int]] = set()
        self.attempts: dict[tuple[str, int], str] = {}  # those whose end was not reported yet
        self.conclusions: Counter[str] = Counter()
        self.settled: Counter[str] = Counter()
        self.left = 0
        self.final_states: dict[str, State] = {}

    def tell(self, fact: on.Event) -> None:
        """Let the scheduler take in a fact, do what it wants, and check everything."""
        self._notice(fact)
        effects = self.scheduler.handle(fact, self.now)
        for effect in effects:
            self._do(effect)
        self._check_slots({e.worker_id for e in effects if isinstance(e, do.Dispatch)})
        self.check()

    def _notice(self, fact: on.Event) -> None:
        """A worker's own last frame concludes a task, if the attempt is the current one."""
        if isinstance(fact, (on.AttemptEnded, on.AttemptRefused, on.AttemptLost)):
            self.attempts.pop((fact.task_id, fact.attempt), None)
        if isinstance(fact, on.AttemptEnded):
            current = self.dispatches[fact.task_id] == fact.attempt
            if current and fact.task_id in self.running():
                self.conclusions[fact.task_id] += 1

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, do.Refuse):
            assert effect.task_id not in self.accepted
        elif isinstance(effect, do.Accept):
            assert effect.task_id not in self.accepted
            self.accepted.add(effect.task_id)
        elif isinstance(effect, do.Leave):
            self.left += 1
        else:
            assert effect.task_id in self.accepted - self.forgotten, f"who is that: {effect}"
            self._do_for_task(effect)

    def _do_for_task(self, effect: Effect) -> None:
        if isinstance(effect, do.Forget):
            assert self.settled[effect.task_id] == 1
            self.forgotten.add(effect.task_id)
            return
        assert not isinstance(effect, (do.Accept, do.Refuse, do.Leave))
        assert not self.settled[effect.task_id], f"nothing comes after the end: {effect}"
        if isinstance(effect, do.Dispatch):
            self._dispatch(effect)
        elif isinstance(effect, do.Sever):
            self.severed.add((effect.task_id, effect.attempt))
        elif isinstance(effect, (do.ConcludeEnd, do.ConcludeError)):
            self.conclusions[effect.task_id] += 1
        elif isinstance(effect, do.Settle):
            assert self.conclusions[effect.task_id] == 1, "answered exactly once, before it settles"
            self.settled[effect.task_id] += 1

    def _dispatch(self, effect: do.Dispatch) -> None:
        self.dispatches[effect.task_id] += 1
        assert effect.attempt == self.dispatches[effect.task_id], "attempts are numbered 1, 2, 3"
        assert effect.attempt <= LIMITS.max_attempts
        assert effect.deadline_ms >= 1
        assert effect.queue_wait_ms >= 0
        self.attempts[effect.task_id, effect.attempt] = effect.worker_id

    def running(self) -> set[str]:
        """Tasks that are neither waiting nor final."""
        live = self.scheduler.book.live.values()
        return {t.spec.task_id for t in live if t.state is not State.QUEUED}

    def live(self) -> set[str]:
        """Tasks that were accepted and not answered yet."""
        return {t for t in self.accepted if not self.settled[t]}

    # -- invariants -----------------------------------------------------------------------------

    def check(self) -> None:
        """All invariants that hold between two facts."""
        assert set(self.scheduler.book.live) == self.live()
        assert all(count == 1 for count in self.settled.values() if count)
        assert self.left == (self.scheduler.leaving and not self.live())
        self._check_places()
        self._check_final_states()

    def _check_slots(self, given: set[str]) -> None:
        """No dispatch beyond the slots that a worker has for us, and only to a ready one."""
        for worker_id in given:
            worker = self.scheduler.fleet.workers[worker_id]
            offered = worker.report.slots - worker.report.slots_elsewhere
            assert len(worker.leases) <= offered
            assert worker.report.status is WorkerStatus.READY
            assert not worker.closed
            assert worker.doubt is None

    def _check_places(self) -> None:
        """Every live task is in the queue, or in one lease, or severed with its worker gone."""
        waiting = {
            task.spec.task_id for m in self.scheduler.queue.models() for task in self._line(m)
        }
        leases = Counter(t for w in self.scheduler.fleet.workers.values() for t in w.leases)
        assert all(count == 1 for count in leases.values())
        assert len(waiting) == len(self.scheduler.queue)
        assert waiting.isdisjoint(leases)
        assert waiting | set(leases) <= self.live()
        for task_id in self.live() - waiting - set(leases):
            assert (task_id, self.dispatches[task_id]) in self.severed
        for worker in self.scheduler.fleet.workers.values():
            for task_id, attempt in worker.leases.items():
                task = self.scheduler.book.live[task_id]
                assert (task.worker_id, task.attempt) == (worker.worker_id, attempt)

    def _line(self, model: str):
        return self.scheduler.queue.line(model)

    def _check_final_states(self) -> None:
        ended = self.scheduler.book.ended
        for task_id, task in ended.items():
            assert task.state.final
            assert self.final_states.setdefault(task_id, task.state) is task.state
        assert set(ended) == {t for t in self.accepted if self.settled[t]} - self.forgotten

    # -- the end of a history -------------------------------------------------------------------

    def let_time_pass(self) -> None:
        """Nobody does anything any more: by deadlines alone everything must become final."""
        for _ in range(3):
            self.now += 700.0
            self.tell(on.Ticked())
        assert self.live() == set()
        assert self.scheduler.fleet.workers == {}
        assert len(self.scheduler.queue) == 0
        assert self.settled.keys() <= self.accepted

    def report_everything_severed(self) -> None:
        """A shell that does its work reports each severed attempt as lost."""
        for task_id, attempt in sorted(self.severed & set(self.attempts)):
            self.tell(on.AttemptLost(task_id, attempt, "severed", delivered=False))


OUTCOMES = (Fact.ENDED, Fact.CANCELLED, Fact.FAILED)
