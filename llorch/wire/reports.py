"""Workers as JSON: the heartbeat a worker sends, the list an orchestrator shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from llorch.core.fleet import Worker, WorkerReport, WorkerStatus
from llorch.wire.fields import Fields

REPORTABLE = ("loading", "ready", "draining", "failed")


def report_fields(report: WorkerReport) -> dict[str, Any]:
    """The body of POST /v2/workers/register."""
    return {
        "worker_id": report.worker_id,
        "url": report.url,
        "model": report.model,
        "status": report.status.value,
        "backend": report.backend,
        "engine": report.engine,
        "device": report.device,
        "slots": report.slots,
        "slots_elsewhere": report.slots_elsewhere,
        "ctx": report.ctx,
        "tokens_per_second": report.tokens_per_second,
        "memory_bytes": report.memory_bytes,
        "version": report.version,
        "started": report.started,
        "pool": report.pool,
    }


def parse_report(values: Mapping[str, Any]) -> WorkerReport:
    """A heartbeat. Raises InvalidRequest that names every faulty field."""
    fields = Fields(values)
    report = WorkerReport(
        worker_id=_required(fields, "worker_id", fields.identifier("worker_id")),
        url=_url(fields),
        model=_required(fields, "model", fields.text("model")),
        status=WorkerStatus(fields.choice("status", "ready", REPORTABLE)),
        backend=fields.text("backend") or "",
        engine=fields.text("engine") or "",
        device=fields.text("device") or "",
        slots=fields.integer("slots", 1, 1, 100_000) or 1,
        slots_elsewhere=fields.integer("slots_elsewhere", 0, 0, 100_000) or 0,
        ctx=fields.integer("ctx", 0, 0, 2**31) or 0,
        tokens_per_second=fields.number("tokens_per_second", None, 0, 1e9),
        memory_bytes=fields.integer("memory_bytes", None, 0, 2**60),
        version=fields.text("version") or "",
        started=fields.integer("started", 0, 0, 2**53) or 0,
        pool=fields.text("pool") or "",
    )
    fields.check()
    return report


def _required(fields: Fields, name: str, value: str | None) -> str:
    if value is None and fields.values.get(name) is None:
        fields.fault(name, "required", f"{name} is required")
    return value or ""


def _url(fields: Fields) -> str:
    url = _required(fields, "url", fields.text("url")).rstrip("/")
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname and parts.port) and parts.username is None
    except ValueError:
        good = False
    good = good and url == f"http://{parts.netloc}"  # no path, no query, no line break
    if url and not good:
        fields.fault("url", "http://HOST:PORT", "url must be http://HOST:PORT")
    return url


def worker_object(worker: Worker, now: float) -> dict[str, Any]:
    """An entry of GET /v2/workers. reported_ms_ago: age of its last heartbeat."""
    shown = report_fields(worker.report)
    shown["status"] = worker.status.value
    shown["slots_free"] = worker.slots_free
    shown["running"] = len(worker.leases)
    shown["reported_ms_ago"] = int(1000 * (now - worker.reported_at))
    return shown
