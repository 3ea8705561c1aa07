"""What the scheduler wants done, in the imperative. The shell does it, in the given order."""

from __future__ import annotations

from dataclasses import dataclass

from llorch.core.types import StopReason
from llorch.errors import LlorchError


@dataclass(frozen=True, slots=True)
class Accept:
    """Tell the client that its task is taken."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the client that its task is not taken, and why."""

    task_id: str
    error: LlorchError


@dataclass(frozen=True, slots=True)
class Announce:
    """Write a `queued` event. queue_position: tasks ahead; predicted_start_ms: from now."""

    task_id: str
    queue_position: int
    predicted_start_ms: int


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Hand the attempt over to a worker. deadline_ms: what is left of the task's time."""

    task_id: str
    attempt: int
    worker_id: str
    url: str
    queue_wait_ms: int
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Ask the worker to stop the attempt; its last frame still comes."""

    task_id: str
    attempt: int
    url: str


@dataclass(frozen=True, slots=True)
class Sever:
    """Close the attempt's connection; nothing more of it may reach the client. reason: why, where
    the task may outlive it."""

    task_id: str
    attempt: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConcludeEnd:
    """Write the `end` event that no worker writes: the task ended without one."""

    task_id: str
    stop_reason: StopReason


@dataclass(frozen=True, slots=True)
class ConcludeError:
    """Write the `error` event that no worker writes."""

    task_id: str
    error: LlorchError


@dataclass(frozen=True, slots=True)
class Settle:
    """The task is final: close its streams and count it."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Forget:
    """The task's retention ended: delete what is kept of it."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing lives any more after a shutdown was asked for: end the process."""


Effect = (
    Accept
    | Refuse
    | Announce
    | Dispatch
    | Abort
    | Sever
    | ConcludeEnd
    | ConcludeError
    | Settle
    | Forget
    | Leave
)
