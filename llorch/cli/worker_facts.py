"""Background workers as the CLI shows them: their record, and what they say of themselves now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llorch.store.workers import WorkerRecord


def listed_workers() -> list[dict[str, Any]]:
    """All workers of this machine, dead ones too, each with its status now."""
    from concurrent.futures import ThreadPoolExecutor

    from llorch.store import workers

    found = workers.records()
    # All are asked at once: a worker that does not answer takes its two seconds only once.
    with ThreadPoolExecutor(max_workers=max(1, len(found))) as threads:
        return [
            worker_facts(record, status)
            for record, status in zip(found, threads.map(_status, found), strict=True)
        ]


def _status(record: WorkerRecord) -> str:
    """What the worker says of itself, or `dead`, or `silent`: alive, but it does not answer."""
    from llorch.daemon.spawn import health
    from llorch.store import workers

    if not workers.is_alive(record):
        return "dead"
    return str(health(record).get("status", "silent"))


def worker_facts(record: WorkerRecord, status: str) -> dict[str, Any]:
    """The JSON form of a worker."""
    from llorch.daemon.spawn import url_of

    return {
        "id": record.id,
        "status": status,
        "model": record.model,
        "backend": record.backend,
        "device": record.device,
        "pid": record.pid,
        "url": url_of(record),
        "orchestrator": record.orchestrator,
        "started_at": record.started_at,
        "log": record.log_path,
    }
