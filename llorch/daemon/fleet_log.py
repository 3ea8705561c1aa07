"""What an operator reads of the fleet: a line when a worker comes, changes or goes."""

from __future__ import annotations

from typing import Any

from llorch.core.fleet import Fleet, Worker, WorkerStatus
from llorch.daemon.process import OnEvent

GONE = "gone"


class FleetLog:
    """Compares the fleet with what was told of it last; told of each worker that differs."""

    def __init__(self, fleet: Fleet, on_event: OnEvent) -> None:
        self._fleet = fleet
        self._on_event = on_event
        self._told: dict[str, str] = {}

    def look(self) -> None:
        """Tell what has changed."""
        now = {worker_id: _standing(w) for worker_id, w in self._fleet.workers.items()}
        for worker_id in sorted(now.keys() | self._told.keys()):
            status = now.get(worker_id, GONE)
            if status != self._told.get(worker_id):
                self._on_event("worker", self._facts(worker_id, status))
        self._told = now

    def _facts(self, worker_id: str, status: str) -> dict[str, Any]:
        facts: dict[str, Any] = {"worker": worker_id, "status": status}
        worker = self._fleet.workers.get(worker_id)
        if worker is not None:
            report = worker.report
            facts |= {"url": report.url, "model": report.model, "slots": report.slots}
        return facts


def _standing(worker: Worker) -> str:
    """Its status, in which being busy is no news."""
    status: WorkerStatus = worker.status
    return str((WorkerStatus.READY if status is WorkerStatus.BUSY else status).value)
