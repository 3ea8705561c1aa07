"""The background workers of this machine: who they are, and whether they still live."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One background worker.

    process_started: what `process_start(pid)` said when it was started; opaque, compared only, so
    that a pid the system used again is never taken for the worker. started_at: Unix seconds.
    command: its arguments, which must hold no key.
    """

    id: str
    pid: int
    process_started: str
    host: str
    port: int
    model: str
    backend: str
    device: int | None
    command: tuple[str, ...]
    log_path: str
    started_at: float
    orchestrator: str | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A free port held for a worker about to be started, with the id and log file it will have."""

    id: str
    host: str
    port: int
    log_path: Path


def reserve(backend: str, *, host: str = "127.0.0.1", port: int | None = None) -> Reservation:
    """Hold a port: the one asked for, or the first free one from 8001 up.

    No other `reserve` gets it until `add`, `release` or the end of this process. A dead worker's
    record under the same id gives way, with its log.
    Raises BindFailed (taken, not allowed, none left), StoreFailed and NoSpace.
    """
    raise NotImplementedError


def release(reservation: Reservation) -> None:
    """Give a reserved port back: the worker was not started after all."""
    raise NotImplementedError


def add(record: WorkerRecord) -> None:
    """Keep the record; a reservation of the same id ends. Raises Conflict where a live one has it."""
    raise NotImplementedError


def records() -> tuple[WorkerRecord, ...]:
    """All records by port, dead ones included. Raises StoreFailed (damaged, newer, unreadable)."""
    raise NotImplementedError


def find(worker_id: str) -> WorkerRecord:
    """The record of this id. Raises WorkerNotFound, with near matches in its hint."""
    raise NotImplementedError


def remove(worker_id: str) -> None:
    """Forget a record and keep its log. Forgetting one that is not there is no error."""
    raise NotImplementedError


def is_alive(record: WorkerRecord) -> bool:
    """Whether the very process of the record still runs (a zombie does not)."""
    raise NotImplementedError


def clean_up() -> tuple[WorkerRecord, ...]:
    """Forget the dead, delete their logs, and return their records."""
    raise NotImplementedError


def process_start(pid: int) -> str | None:
    """When this process started, as a word to compare; None where there is no such process."""
    raise NotImplementedError
