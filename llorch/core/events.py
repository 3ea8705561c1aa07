"""Facts that go into the scheduler, in the past tense. All ids are made by the shell."""

from __future__ import annotations

from dataclasses import dataclass

from llorch.core.fleet import WorkerReport
from llorch.core.task import Fact, TaskSpec
from llorch.errors import LlorchError


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """A client sent a valid request."""

    spec: TaskSpec


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A client, or the operator, wants the task to stop."""

    task_id: str


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """The last reader of a task's stream closed its connection."""

    task_id: str


@dataclass(frozen=True, slots=True)
class ClientReturned:
    """Somebody reads the task's stream again."""

    task_id: str


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The worker's last frame was relayed; outcome is ENDED, CANCELLED or FAILED."""

    task_id: str
    attempt: int
    outcome: Fact


@dataclass(frozen=True, slots=True)
class AttemptRefused:
    """The worker answered with an error before it began."""

    task_id: str
    attempt: int
    error: LlorchError


@dataclass(frozen=True, slots=True)
class AttemptLost:
    """The connection to the worker broke, or was never made, before the last frame.

    delivered: True when the client may already have seen some of the answer.
    """

    task_id: str
    attempt: int
    reason: str
    delivered: bool


@dataclass(frozen=True, slots=True)
class WorkerReported:
    """A worker registered or sent its heartbeat."""

    report: WorkerReport


@dataclass(frozen=True, slots=True)
class WorkerLeft:
    """A worker said goodbye, or the operator removed it."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """The worker shall get nothing new and finish what it runs."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """The orchestrator shall admit nothing more."""


@dataclass(frozen=True, slots=True)
class GraceEnded:
    """The time for what still runs at shutdown is over."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed."""


Event = (
    TaskSubmitted
    | CancelRequested
    | ClientLeft
    | ClientReturned
    | AttemptEnded
    | AttemptRefused
    | AttemptLost
    | WorkerReported
    | WorkerLeft
    | DrainRequested
    | ShutdownRequested
    | GraceEnded
    | Ticked
)
