"""The orchestrator's control plane: workers, models, health and metrics."""

from __future__ import annotations

from typing import Any

from llorch import __version__
from llorch.core import events as on
from llorch.core.fleet import WorkerStatus
from llorch.daemon.membership import HEARTBEAT_SECONDS
from llorch.daemon.shell import Shell
from llorch.errors import WorkerNotFound
from llorch.net.exchange import Request
from llorch.net.metrics import CONTENT_TYPE
from llorch.net.router import Router
from llorch.wire.fields import decode_object
from llorch.wire.reports import parse_report, worker_object


class FleetRoutes:
    """One method per address."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def add_to(self, router: Router) -> None:
        """Serve these addresses."""
        router.add("GET", "/health", self.health)
        router.add("GET", "/metrics", self.metrics)
        router.add("GET", "/v2/models", self.models)
        router.add("GET", "/v2/workers", self.workers)
        router.add("POST", "/v2/workers/register", self.register)
        router.add("POST", "/v2/workers/{worker_id}/drain", self.drain)
        router.add("DELETE", "/v2/workers/{worker_id}", self.remove)

    async def register(self, request: Request) -> None:
        """POST /v2/workers/register: a worker's first and every later report."""
        report = parse_report(decode_object(request.body))
        self._shell.take_report(report)
        request.exchange.respond_json(
            {
                "worker_id": report.worker_id,
                "heartbeat_seconds": HEARTBEAT_SECONDS,
                "lease_seconds": self._shell.scheduler.limits.lease_seconds,
            }
        )

    async def workers(self, request: Request) -> None:
        """GET /v2/workers."""
        workers = self._shell.scheduler.fleet.workers
        shown = [worker_object(workers[i], self._shell.now) for i in sorted(workers)]
        request.exchange.respond_json({"workers": shown})

    async def drain(self, request: Request) -> None:
        """POST /v2/workers/{id}/drain: give it nothing new."""
        worker_id = self._known(request)
        self._shell.tell(on.DrainRequested(worker_id))
        request.exchange.respond_json({"worker_id": worker_id, "status": "draining"}, 202)

    async def remove(self, request: Request) -> None:
        """DELETE /v2/workers/{id}: its goodbye. One that lives is back with its next report."""
        worker_id = self._known(request)
        self._shell.tell(on.WorkerLeft(worker_id))
        request.exchange.respond_json({"worker_id": worker_id, "status": "removed"})

    def _known(self, request: Request) -> str:
        worker_id = request.parts["worker_id"]
        if worker_id not in self._shell.scheduler.fleet.workers:
            raise WorkerNotFound(f"there is no worker {worker_id!r}")
        return worker_id

    async def models(self, request: Request) -> None:
        """GET /v2/models: each model, with the workers and slots behind it."""
        fleet = self._shell.scheduler.fleet
        names = sorted({w.report.model for w in fleet.workers.values()})
        request.exchange.respond_json({"models": [self._model(name) for name in names]})

    def _model(self, name: str) -> dict[str, Any]:
        workers = self._shell.scheduler.fleet.serving(name)
        hopeful = [w for w in workers if w.hopeful]
        return {
            "id": name,
            "status": "ready" if hopeful else "unavailable",
            "workers": [w.worker_id for w in workers],
            "slots": sum(w.report.slots for w in hopeful),
            "slots_free": sum(w.slots_free for w in hopeful if w.open),
            "ctx": max((w.report.ctx for w in hopeful), default=0),
            "queue_depth": len(self._shell.scheduler.queue.line(name)),
        }

    async def health(self, request: Request) -> None:
        """GET /health: 200 while tasks are admitted, 503 while shutting down."""
        scheduler = self._shell.scheduler
        workers = list(scheduler.fleet.workers.values())
        ready = (WorkerStatus.READY, WorkerStatus.BUSY)
        body = {
            "status": "shutting_down" if scheduler.leaving else "ok",
            "workers": len(workers),
            "workers_ready": sum(w.status in ready for w in workers),
            "queue_depth": len(scheduler.queue),
            "running": sum(len(w.leases) for w in workers),
            "version": __version__,
        }
        request.exchange.respond_json(body, 503 if scheduler.leaving else 200)

    async def metrics(self, request: Request) -> None:
        """GET /metrics: Prometheus text."""
        request.exchange.respond(200, self._shell.metrics.text(), [CONTENT_TYPE])
