"""A task and its life.

                 dispatched              cancel_requested
      QUEUED ───────────────▶ RUNNING ───────────────────▶ CANCELLING
        │  ◀─────────────── │  │                              │
        │      requeued     │  │ ended, failed, cancelled     │ ended, failed, cancelled
        ▼                      ▼                              ▼
      FINISHED (answered), CANCELLED (by its client), FAILED (with an error): no way out

`TRANSITIONS` is the whole truth: a missing entry is a bug and raises. Nothing else sets a state.
A task keeps no prompt: the shell has the request, the core has what decisions need.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from llorch.core.types import Priority


class State(str, Enum):
    """Where a task stands; the text is what clients see."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """True when nothing can happen to the task any more."""
        return self in FINAL


FINAL = frozenset({State.FINISHED, State.CANCELLED, State.FAILED})


class Fact(str, Enum):
    """What can happen to a task."""

    DISPATCHED = "dispatched"
    REQUEUED = "requeued"
    CANCEL_REQUESTED = "cancel_requested"
    ENDED = "ended"
    CANCELLED = "cancelled"
    FAILED = "failed"


TRANSITIONS: dict[tuple[State, Fact], State] = {
    (State.QUEUED, Fact.DISPATCHED): State.RUNNING,
    (State.QUEUED, Fact.ENDED): State.FINISHED,  # its deadline came while it waited
    (State.QUEUED, Fact.CANCELLED): State.CANCELLED,
    (State.QUEUED, Fact.FAILED): State.FAILED,
    (State.RUNNING, Fact.REQUEUED): State.QUEUED,
    (State.RUNNING, Fact.CANCEL_REQUESTED): State.CANCELLING,
    (State.RUNNING, Fact.ENDED): State.FINISHED,
    (State.RUNNING, Fact.CANCELLED): State.CANCELLED,
    (State.RUNNING, Fact.FAILED): State.FAILED,
    (State.CANCELLING, Fact.ENDED): State.FINISHED,  # the answer was complete before the cancel
    (State.CANCELLING, Fact.CANCELLED): State.CANCELLED,
    (State.CANCELLING, Fact.FAILED): State.FAILED,
}


class IllegalTransition(AssertionError):
    """The scheduler tried something that a task's life does not allow: a bug in it."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What the scheduler must know of a request. Times in seconds of the caller's clock.

    deadline: absolute. leave_grace_seconds: how long the task goes on after its client left; None
    means for ever (the client was told 202 and may come back whenever it likes).
    """

    task_id: str
    model: str
    priority: Priority
    deadline: float
    leave_grace_seconds: float | None = None
    worker: str | None = None
    pool: str | None = None
    avoid: tuple[str, ...] = ()
    backend: str | None = None


@dataclass(slots=True)
class Task:
    """A task as the scheduler sees it: what was asked, where it stands, when things happened."""

    spec: TaskSpec
    accepted_at: float
    state: State = State.QUEUED
    attempt: int = 0
    worker_id: str | None = None
    dispatched_at: float | None = None
    ended_at: float | None = None
    orphaned_at: float | None = None
    cancel_requested_at: float | None = None
    announced: int | None = None
    failures: list[str] = field(default_factory=list)

    def move(self, fact: Fact) -> None:
        """Apply a fact. Raises IllegalTransition where the table has no entry."""
        try:
            self.state = TRANSITIONS[self.state, fact]
        except KeyError:
            raise IllegalTransition(
                f"task {self.spec.task_id} is {self.state.value}: it cannot be {fact.value}"
            ) from None

    @property
    def orphan_deadline(self) -> float | None:
        """When the task is cancelled because its client left; None while that is not so."""
        if self.orphaned_at is None or self.spec.leave_grace_seconds is None:
            return None
        return self.orphaned_at + self.spec.leave_grace_seconds

    def cancel_overdue(self, now: float, limit_seconds: float) -> bool:
        """True when a cancel was asked for and not acted on in time."""
        asked = self.cancel_requested_at
        return asked is not None and now - asked >= limit_seconds
