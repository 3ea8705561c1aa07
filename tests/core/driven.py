"""A scheduler driven by a script: one clock, short names for facts, every effect kept."""

from __future__ import annotations

from typing import TypeVar

from llorch.core import effects as do
from llorch.core import events as on
from llorch.core.effects import Effect
from llorch.core.fleet import WorkerReport, WorkerStatus
from llorch.core.limits import Limits
from llorch.core.scheduler import Scheduler
from llorch.core.task import Fact, State, TaskSpec
from llorch.core.types import Priority
from llorch.errors import LlorchError, WorkerBusy

E = TypeVar("E")
MODEL = "m"
BATCH = Priority.BATCH


def report(worker_id: str = "w1", *, model: str = MODEL, slots: int = 1, **more) -> WorkerReport:
    url = more.pop("url", f"http://{worker_id}:1")
    status = more.pop("status", WorkerStatus.READY)
    return WorkerReport(worker_id, url, model, status, slots=slots, **more)


def spec(task_id: str, now: float = 0.0, *, model: str = MODEL, seconds: float = 300.0, **more):
    """A task whose deadline is `seconds` after `now`."""
    priority = more.pop("priority", Priority.INTERACTIVE)
    return TaskSpec(task_id, model, priority, deadline=now + seconds, **more)


class Driven:
    """The scheduler under test, its clock, and everything that it ever wanted done."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.scheduler = Scheduler(limits or Limits())
        self.now = 1000.0
        self.done: list[Effect] = []

    def tell(self, *facts: on.Event) -> list[Effect]:
        """Tell facts one by one; returns the effects of the last one."""
        effects: list[Effect] = []
        for fact in facts:
            effects = self.scheduler.handle(fact, self.now)
            self.done += effects
        return effects

    # -- facts ----------------------------------------------------------------------------------

    def worker(self, worker_id: str = "w1", **more) -> list[Effect]:
        return self.tell(on.WorkerReported(report(worker_id, **more)))

    def submit(self, *task_ids: str, **more) -> list[Effect]:
        return self.tell(*[on.TaskSubmitted(spec(t, self.now, **more)) for t in task_ids])

    def cancel(self, task_id: str) -> list[Effect]:
        return self.tell(on.CancelRequested(task_id))

    def ended(self, task_id: str, attempt: int = 1, outcome: Fact = Fact.ENDED) -> list[Effect]:
        return self.tell(on.AttemptEnded(task_id, attempt, outcome))

    def refused(self, task_id: str, attempt: int = 1, error: LlorchError | None = None):
        return self.tell(on.AttemptRefused(task_id, attempt, error or WorkerBusy("busy")))

    def lost(self, task_id: str, attempt: int = 1, *, delivered: bool = False) -> list[Effect]:
        return self.tell(on.AttemptLost(task_id, attempt, "it broke", delivered))

    def tick(self, after_seconds: float = 0.0) -> list[Effect]:
        self.now += after_seconds
        return self.tell(on.Ticked())

    # -- what can be seen -----------------------------------------------------------------------

    def state(self, task_id: str) -> State:
        task = self.scheduler.book.find(task_id)
        assert task is not None
        return task.state

    def line(self, model: str = MODEL) -> list[str]:
        return [task.spec.task_id for task in self.scheduler.queue.line(model)]

    def leases(self, worker_id: str = "w1") -> dict[str, int]:
        return dict(self.scheduler.fleet.workers[worker_id].leases)


def only(effects: list[Effect], kind: type[E]) -> list[E]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def kinds(effects: list[Effect]) -> list[str]:
    """The names of the effects, in order."""
    return [type(effect).__name__ for effect in effects]


def dispatched(effects: list[Effect]) -> list[tuple[str, int, str]]:
    """What was handed over: task, attempt, worker."""
    return [(d.task_id, d.attempt, d.worker_id) for d in only(effects, do.Dispatch)]


def refusal_of(effects: list[Effect]) -> LlorchError:
    """The error of the one refusal among the effects."""
    (refusal,) = only(effects, do.Refuse)
    return refusal.error


def error_of(effects: list[Effect]) -> LlorchError:
    """The error of the one conclusion among the effects."""
    (conclusion,) = only(effects, do.ConcludeError)
    return conclusion.error
