"""The live workers as the orchestrator sees them, and the leases they hold.

A worker reports every `heartbeat_seconds`; a report that is `lease_seconds` old is worth nothing:
the worker is lost and so is whatever it ran. A lease is one attempt of one task on one slot. The
slots that count are those the worker has, less the leases given, less what others use directly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class WorkerStatus(str, Enum):
    """What a worker can do now; `busy` is derived from leases and never reported."""

    LOADING = "loading"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What a worker says of itself in a heartbeat. slots_elsewhere: slots in use by clients that
    did not come through this orchestrator; ctx: tokens per slot;
    started: when its process began, in seconds since 1970; pool: the name of its machine."""

    worker_id: str
    url: str
    model: str
    status: WorkerStatus
    backend: str = ""
    engine: str = ""
    device: str = ""
    slots: int = 1
    slots_elsewhere: int = 0
    ctx: int = 0
    tokens_per_second: float | None = None
    memory_bytes: int | None = None
    version: str = ""
    started: int = 0
    pool: str = ""


@dataclass(slots=True)
class Worker:
    """A reported worker and its leases (task id to attempt number).

    doubt: what an attempt has shown since the last report, which is worth more than the report:
    busy where it was refused, failed where the connection broke. The next report clears it.
    """

    report: WorkerReport
    reported_at: float
    leases: dict[str, int] = field(default_factory=dict)
    draining: bool = False
    lost: bool = False
    doubt: WorkerStatus | None = None

    @property
    def worker_id(self) -> str:
        """The worker's own name for itself."""
        return self.report.worker_id

    @property
    def slots_free(self) -> int:
        """How many more attempts it may be given now, whatever its status."""
        return max(0, self.report.slots - self.report.slots_elsewhere - len(self.leases))

    @property
    def status(self) -> WorkerStatus:
        """The reported status; failed when reports stopped, draining where the orchestrator asked
        for it, busy when every slot is taken."""
        if self.lost:
            return WorkerStatus.FAILED
        if self.doubt is not None:
            return self.doubt
        if self.draining and self.report.status is WorkerStatus.READY:
            return WorkerStatus.DRAINING
        if self.report.status is WorkerStatus.READY and not self.slots_free:
            return WorkerStatus.BUSY
        return self.report.status

    @property
    def open(self) -> bool:
        """True when an attempt may be dispatched to it now."""
        return self.status is WorkerStatus.READY and self.slots_free > 0

    @property
    def closed(self) -> bool:
        """True when it will be given nothing more, as far as is known. A doubt may pass."""
        ending = (WorkerStatus.DRAINING, WorkerStatus.FAILED)
        return self.lost or self.draining or self.report.status in ending

    @property
    def hopeful(self) -> bool:
        """True when it serves its model now or will, so that waiting for it makes sense."""
        return self.status in (WorkerStatus.READY, WorkerStatus.BUSY, WorkerStatus.LOADING)


class Fleet:
    """All workers that reported within `lease_seconds`, and the lost ones for a while longer, so
    that nobody wonders where a worker went."""

    def __init__(self, lease_seconds: float, lost_kept_seconds: float = 300.0) -> None:
        self.lease_seconds = lease_seconds
        self.lost_kept_seconds = lost_kept_seconds
        self.workers: dict[str, Worker] = {}

    def report(self, report: WorkerReport, now: float) -> Worker:
        """Take in a heartbeat: it renews the worker's leases and clears any doubt."""
        worker = self.workers.get(report.worker_id)
        if worker is None:
            worker = self.workers[report.worker_id] = Worker(report, now)
        if worker.report.started != report.started:
            worker.draining = False  # another process: nobody asked it to drain
        worker.report, worker.reported_at = report, now
        worker.lost, worker.doubt = False, None
        return worker

    def rival(self, report: WorkerReport) -> Worker | None:
        """The live worker that has the report's id already, where it is another process at another
        address: two machines of one host name would take turns as one worker."""
        worker = self.workers.get(report.worker_id)
        if worker is None or worker.lost:
            return None
        same = worker.report.url == report.url or worker.report.started == report.started
        return None if same else worker

    def expire(self, now: float) -> list[Worker]:
        """Mark workers whose last report is too old as lost, and return the newly lost ones."""
        lost = [
            w
            for w in self.workers.values()
            if not w.lost and now - w.reported_at > self.lease_seconds
        ]
        for worker in lost:
            worker.lost = True
        self._drop_long_lost(now)
        return lost

    def _drop_long_lost(self, now: float) -> None:
        limit = self.lease_seconds + self.lost_kept_seconds
        gone = [w.worker_id for w in self.workers.values() if now - w.reported_at > limit]
        for worker_id in gone:
            del self.workers[worker_id]

    def remove(self, worker_id: str) -> Worker | None:
        """Forget a worker; its leases are the caller's to deal with."""
        return self.workers.pop(worker_id, None)

    def serving(self, model: str) -> list[Worker]:
        """Workers that have a model, in any state."""
        return [w for w in self.workers.values() if w.report.model == model]

    def grant(self, worker_id: str, task_id: str, attempt: int) -> None:
        """Lease a slot to an attempt."""
        worker = self.workers[worker_id]
        assert worker.slots_free > 0, f"no free slot on {worker_id}"
        worker.leases[task_id] = attempt

    def release(self, worker_id: str | None, task_id: str) -> None:
        """End a lease; a worker that is gone has none."""
        worker = self.workers.get(worker_id or "")
        if worker is not None:
            worker.leases.pop(task_id, None)
