"""Background workers: started so that they outlive the terminal, waited for, stopped.

Theory of operation. A worker is this very program again, in a session of its own, with nothing on
stdin and its log file on stdout and stderr, standing in `/` so that no file system stays busy for
its sake. Its record is kept from the moment the process exists, so that a list shows it while it
still loads and a stop finds it. `start` returns when /health says ready; a worker that dies before,
or takes too long, leaves no record behind, only its log.

    reserved port -> process -> record -> ready
                                   └-> died or too slow: record removed, the reason raised
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llorch.errors import BindFailed, EngineFailed, LlorchError, StoreFailed
from llorch.net.address import netloc
from llorch.net.control import Control
from llorch.self_path import own_command
from llorch.store import workers
from llorch.store.worker_logs import last_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from llorch.store.workers import Reservation, WorkerRecord

POLL_SECONDS = 0.1
HEALTH_SECONDS = 2.0
UNDO_SECONDS = 5.0
KILL_SECONDS = 10.0
TRIES = 5
LAST_LINES = 8
# Workers outlive this process, so nobody waits for them; kept, or Python warns of that.
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class SpawnRequest:
    """A worker to start. arguments: for serve-worker, all but the address; they hold no key.

    model: the name it will serve. global_arguments: what stands before the command.
    """

    model: str
    backend: str
    arguments: tuple[str, ...]
    global_arguments: tuple[str, ...] = ()
    port: int | None = None
    device: int | None = None
    orchestrator: str | None = None


class Stopped(str, Enum):
    """How the stop of a worker went."""

    STOPPED = "stopped"
    KILLED = "killed"
    DEAD_BEFORE = "dead before"


def start(request: SpawnRequest, timeout_seconds: float) -> WorkerRecord:
    """Start a worker and return its record when it is ready.

    Raises BindFailed (no free port), EngineFailed with the last lines of its log (it died, or was
    not ready in time), StoreFailed. Whatever is raised, no process and no record is left.
    """
    for _ in range(TRIES):
        reservation = workers.reserve(request.backend, port=request.port)
        try:
            return _start_at(reservation, request, timeout_seconds)
        except EngineFailed:
            # Between looking and binding the port, somebody else's process may have taken it.
            if request.port is not None or workers.is_free(reservation.host, reservation.port):
                raise
    raise BindFailed(f"other programs took {TRIES} ports before a worker could", hint="try again")


def _start_at(
    reservation: Reservation, request: SpawnRequest, timeout_seconds: float
) -> WorkerRecord:
    try:
        process = _launch(request, reservation)
    except BaseException:
        workers.release(reservation)
        raise
    try:
        record = _record_of(request, reservation, process)
        workers.add(record)
        _wait_ready(record, process, timeout_seconds)
    except BaseException:
        _undo(reservation, process)
        raise
    _started.append(process)
    return record


def _launch(request: SpawnRequest, place: Reservation) -> subprocess.Popen[bytes]:
    address = f"{place.host}:{place.port}"
    command = [*_command(request), "--bind", address]
    try:
        descriptor = os.open(place.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise StoreFailed(f"cannot write {place.log_path}: {error.strerror}") from error
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def _command(request: SpawnRequest) -> list[str]:
    return [*own_command(), *request.global_arguments, "serve-worker", *request.arguments]


def _record_of(
    request: SpawnRequest, place: Reservation, process: subprocess.Popen[bytes]
) -> WorkerRecord:
    return workers.WorkerRecord(
        id=place.id,
        pid=process.pid,
        process_started=workers.process_start(process.pid) or "",
        host=place.host,
        port=place.port,
        model=request.model,
        backend=request.backend,
        device=request.device,
        command=tuple(_command(request)),
        log_path=str(place.log_path),
        started_at=time.time(),
        orchestrator=request.orchestrator,
    )


def _wait_ready(
    record: WorkerRecord, process: subprocess.Popen[bytes], timeout_seconds: float
) -> None:
    deadline = time.monotonic() + timeout_seconds
    while health(record).get("status") != "ready":
        if process.poll() is not None:
            raise _failed(record, f"the worker ended with {_ending(process.returncode)}")
        if time.monotonic() > deadline:
            raise _failed(record, f"the worker was not ready after {timeout_seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _failed(record: WorkerRecord, what: str) -> EngineFailed:
    """The error that the worker itself ended with, else the last lines of its log."""
    lines = last_lines(Path(record.log_path), LAST_LINES)
    whole = f"read the whole log: {record.log_path}"
    reason, remedy = _own_error(lines)
    if reason:
        return EngineFailed(f"{what}: {reason}", hint=f"{remedy}; or {whole}" if remedy else whole)
    said = "".join(f"\n  {line}" for line in lines)
    ended = f"{what}; its last words:{said}" if lines else f"{what} and said nothing"
    return EngineFailed(ended, hint=whole)


def _own_error(lines: list[str]) -> tuple[str, str]:
    """What stands after `Error:` and `Try:` where a log ends with them; two times "" else."""
    remedy = lines[-1].removeprefix("Try: ") if lines and lines[-1].startswith("Try: ") else ""
    last = lines[:-1][-1:] if remedy else lines[-1:]
    if not last or not last[0].startswith("Error: "):
        return "", ""
    return last[0].removeprefix("Error: "), remedy


def _undo(reservation: Reservation, process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of a start that failed but the log."""
    process.terminate()  # first, so that it can end what it started itself
    try:
        process.wait(UNDO_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    workers.release(reservation)
    workers.remove(reservation.id)


def health(record: WorkerRecord) -> dict[str, Any]:
    """What the worker says of itself now; {} where it does not answer, or another process does."""
    try:
        with Control(url_of(record), seconds=HEALTH_SECONDS) as control:
            answer = control.get_json("/health", accept=(503,))
    except LlorchError:
        return {}
    return answer if answer.get("pid") == record.pid else {}


def url_of(record: WorkerRecord) -> str:
    """Where the worker of a record listens."""
    return f"http://{netloc(record.host, record.port)}"


def stop(record: WorkerRecord, grace_seconds: float) -> Stopped:
    """End one worker; see `stop_many`. Raises LlorchError where it cannot be ended."""
    ((_, outcome),) = stop_many([record], grace_seconds)
    if isinstance(outcome, LlorchError):
        raise outcome
    return outcome


def stop_many(
    records: Sequence[WorkerRecord], grace_seconds: float
) -> Iterator[tuple[WorkerRecord, Stopped | LlorchError]]:
    """End workers: SIGTERM to all at once, SIGKILL to those that the grace was too short for.

    Each is yielded with how it went, and its record forgotten, when it is gone. The error says why
    one could not be ended (it belongs to another user). A process that took the pid of a dead
    worker is left alone. Whoever stops iterating leaves workers behind that were told to end.
    """
    begun = [(record, _begin_stop(record)) for record in records]
    deadline = time.monotonic() + grace_seconds
    for record, outcome in begun:
        yield record, _finish_stop(record, outcome, deadline)


def _begin_stop(record: WorkerRecord) -> Stopped | LlorchError | None:
    """None: it was told to end."""
    if not workers.is_alive(record):
        return Stopped.DEAD_BEFORE
    try:
        _signal(record, signal.SIGTERM)
    except LlorchError as error:
        return error
    return None


def _finish_stop(
    record: WorkerRecord, outcome: Stopped | LlorchError | None, deadline: float
) -> Stopped | LlorchError:
    try:
        ended = outcome or _wait_or_kill(record, deadline)
    except LlorchError as error:
        return error
    if isinstance(ended, Stopped):
        workers.remove(record.id)
    return ended


def _wait_or_kill(record: WorkerRecord, deadline: float) -> Stopped:
    if _wait_dead(record, deadline):
        return Stopped.STOPPED
    _signal(record, signal.SIGKILL)
    if not _wait_dead(record, time.monotonic() + KILL_SECONDS):
        raise LlorchError(
            f"{record.id} (process {record.pid}) does not die", hint="look for its disk: ps, dmesg"
        )
    return Stopped.KILLED


def _signal(record: WorkerRecord, number: signal.Signals) -> None:
    try:
        os.kill(record.pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise LlorchError(
            f"{record.id} belongs to another user", hint=f"stop process {record.pid} as its user"
        ) from error


def _wait_dead(record: WorkerRecord, deadline: float) -> bool:
    while workers.is_alive(record):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS / 2)
    return True


def find(worker_ids: Sequence[str]) -> list[WorkerRecord]:
    """The records of several ids, all of them looked up before anything is done to one.

    Raises WorkerNotFound.
    """
    return [workers.find(worker_id) for worker_id in dict.fromkeys(worker_ids)]
