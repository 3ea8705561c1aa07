"""The background workers of this machine: who they are, and whether they still live.

Theory of operation. One document under one lock holds the records and the reserved ports. A record
outlives its worker, so that a death can be shown and its log read, until `clean_up`. Whether a
worker lives is asked of the system each time: its pid must belong to a process that started when
the record says. Ports are handed out under the lock and stay reserved while the process that asked
for one lives and has not yet recorded its worker; so two spawns at once never get the same.
"""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llorch.errors import BindFailed, Conflict, WorkerNotFound
from llorch.store.files import damaged, read_document, storage_errors, update_document
from llorch.store.paths import logs_dir, state_dir
from llorch.store.processes import process_start

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Reservation",
    "WorkerRecord",
    "add",
    "clean_up",
    "find",
    "is_alive",
    "process_start",
    "records",
    "release",
    "remove",
    "reserve",
]

T = TypeVar("T")
FIRST_PORT = 8001
LAST_PORT = 8999
_VERSION = 1
_OTHER_PORT = "choose another --port, or leave it out to get a free one"


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
    return _update(lambda book: _reserve(book, backend, host, port))


def release(reservation: Reservation) -> None:
    """Give a reserved port back: the worker was not started after all."""
    _update(lambda book: book.reserved.pop(str(reservation.port), None))


def add(record: WorkerRecord) -> None:
    """Keep the record; a reservation of the same port ends. Raises Conflict where a live one has
    the id."""
    _update(lambda book: _add(book, record))


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens on a port now."""
    return _why_not_bindable(host, port) is None


def records() -> tuple[WorkerRecord, ...]:
    """All records by port, dead ones included. Raises StoreFailed (damaged, newer, unreadable)."""
    book = _Book.of(read_document(_path(), _VERSION))
    return tuple(sorted(book.workers.values(), key=lambda record: (record.port, record.id)))


def find(worker_id: str) -> WorkerRecord:
    """The record of this id. Raises WorkerNotFound, with near matches in its hint."""
    known = {record.id: record for record in records()}
    if worker_id in known:
        return known[worker_id]
    near = get_close_matches(worker_id, known, 3, 0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "llorch pool worker list"
    raise WorkerNotFound(f"no worker {worker_id!r} on this machine", hint=hint)


def remove(worker_id: str) -> None:
    """Forget a record and keep its log. Forgetting one that is not there is no error."""
    _update(lambda book: book.workers.pop(worker_id, None))


def is_alive(record: WorkerRecord) -> bool:
    """Whether the very process of the record still runs (a zombie does not)."""
    return process_start(record.pid) == record.process_started


def clean_up() -> tuple[WorkerRecord, ...]:
    """Forget the dead, delete their logs, and return their records."""
    return _update(_clean_up)


@dataclass(slots=True)
class _Book:
    """The content of the records file: workers by id, and who holds which port (by number)."""

    workers: dict[str, WorkerRecord]
    reserved: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, body: dict[str, Any]) -> _Book:
        """Raises StoreFailed where the document is not what `into` wrote."""
        try:
            workers = [_record(worker) for worker in body.get("workers", [])]
            reserved = {
                port: {name: holder[name] for name in ("pid", "process_started")}
                for port, holder in body.get("reserved", {}).items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(_path()) from error
        return cls({record.id: record for record in workers}, reserved)

    def into(self, body: dict[str, Any]) -> None:
        """Put everything back into the document."""
        body["workers"] = [asdict(record) for record in self.workers.values()]
        body["reserved"] = self.reserved


def _path() -> Path:
    return state_dir() / "workers.json"


def _update(change: Callable[[_Book], T]) -> T:
    def apply(body: dict[str, Any]) -> T:
        book = _Book.of(body)
        answer = change(book)
        book.into(body)
        return answer

    return update_document(_path(), _VERSION, apply)


def _record(body: dict[str, Any]) -> WorkerRecord:
    known = {f.name for f in fields(WorkerRecord)}
    values = {name: value for name, value in body.items() if name in known}
    if not isinstance(values["pid"], int) or not isinstance(values["port"], int):
        raise TypeError("pid and port are numbers")
    return WorkerRecord(**{**values, "command": tuple(values["command"])})


def _reserve(book: _Book, backend: str, host: str, port: int | None) -> Reservation:
    _forget_dead_holders(book)
    chosen = _first_free(book, host) if port is None else _asked_for(book, host, port)
    worker_id = f"{backend}-{chosen}"
    old = book.workers.get(worker_id)
    if old is not None:
        # Its port could be bound, so it is dead, or lives on another address of this machine.
        if is_alive(old):
            raise BindFailed(f"{old.id} already has port {chosen}", hint="choose another --port")
        _bury(book, old)
    pid = os.getpid()
    book.reserved[str(chosen)] = {"pid": pid, "process_started": process_start(pid)}
    return Reservation(worker_id, host, chosen, _log_place(worker_id))


def _forget_dead_holders(book: _Book) -> None:
    book.reserved = {
        port: holder
        for port, holder in book.reserved.items()
        if process_start(holder["pid"]) == holder["process_started"]
    }


def _first_free(book: _Book, host: str) -> int:
    taken = {record.port for record in book.workers.values() if is_alive(record)}
    for port in range(FIRST_PORT, LAST_PORT + 1):
        if port in taken or str(port) in book.reserved:
            continue
        if _why_not_bindable(host, port) is None:
            return port
    raise BindFailed(
        f"no port from {FIRST_PORT} to {LAST_PORT} is free on {host}",
        hint="name one with --port, or stop workers: llorch pool worker list",
    )


def _asked_for(book: _Book, host: str, port: int) -> int:
    if str(port) in book.reserved:
        raise BindFailed(f"port {port} is about to be taken by another worker", hint=_OTHER_PORT)
    reason = _why_not_bindable(host, port)
    if reason:
        raise BindFailed(f"cannot listen on {host}:{port}: {reason}", hint=_OTHER_PORT)
    return port


def _why_not_bindable(host: str, port: int) -> str | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the worker itself will: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except (OSError, OverflowError) as error:
            return getattr(error, "strerror", None) or str(error)
    return None


def _log_place(worker_id: str) -> Path:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
    return logs_dir() / f"{worker_id}-{stamp}.log"


def _add(book: _Book, record: WorkerRecord) -> None:
    old = book.workers.get(record.id)
    if old is not None and old != record and is_alive(old):
        raise Conflict(f"worker {record.id} is already running (pid {old.pid})")
    book.reserved.pop(str(record.port), None)
    book.workers[record.id] = record


def _clean_up(book: _Book) -> tuple[WorkerRecord, ...]:
    _forget_dead_holders(book)
    dead = tuple(record for record in book.workers.values() if not is_alive(record))
    for record in dead:
        _bury(book, record)
    return dead


def _bury(book: _Book, record: WorkerRecord) -> None:
    del book.workers[record.id]
    log = Path(record.log_path)
    # Only a log of our own folder: a record is a file that somebody may have edited.
    if log.parent == logs_dir():
        with storage_errors(log, "delete"):
            log.unlink(missing_ok=True)
