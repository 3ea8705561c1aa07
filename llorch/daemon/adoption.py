"""Workers that do not register by themselves: their health is asked for, like a heartbeat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from llorch.core.fleet import WorkerReport, WorkerStatus
from llorch.daemon.membership import HEARTBEAT_SECONDS
from llorch.daemon.process import OnEvent
from llorch.errors import InvalidRequest, LlorchError
from llorch.net.client import ask
from llorch.net.control_errors import error_of
from llorch.wire.reports import REPORTABLE, parse_report

EAGER_SECONDS = 1.0
NOT_READY = 503  # with the same facts as 200
SHARED_FIELDS = (
    *("worker_id", "pool", "model", "backend", "engine", "device", "slots", "slots_elsewhere"),
    *("ctx", "tokens_per_second", "version", "started"),
)


Take = Callable[[WorkerReport], None]


async def adopt(url: str, take: Take, on_event: OnEvent) -> None:
    """Report the worker at `url` until cancelled; says once when it stops answering."""
    reachable: bool | None = None
    while True:
        found = await _look(url)
        if isinstance(found, WorkerReport):
            take(found)
        if isinstance(found, WorkerReport) != reachable:
            reachable = isinstance(found, WorkerReport)
            facts = {"worker": url} if reachable else {"worker": url, "reason": found}
            on_event("adopted" if reachable else "unreachable", facts)
        await asyncio.sleep(_until_next(found))


def _until_next(found: WorkerReport | str) -> float:
    """Seconds: one that is not ready is looked at often, so that nobody waits for it in vain."""
    ready = isinstance(found, WorkerReport) and found.status is WorkerStatus.READY
    return HEARTBEAT_SECONDS if ready else EAGER_SECONDS


async def _look(url: str) -> WorkerReport | str:
    """Ask once; returns what the worker is, or what is wrong."""
    try:
        status, health = await ask("GET", f"{url}/health")
        values = json.loads(health)
        if status not in (200, NOT_READY):
            return error_of(status, values).message
        return parse_report(_as_report(url, values))
    except (InvalidRequest, ValueError, AttributeError):
        return "it is no llorch worker: its /health is not understood"
    except LlorchError as error:
        return error.message


def _as_report(url: str, health: dict[str, Any]) -> dict[str, Any]:
    """A worker's health in the shape of its reports."""
    status = health.get("status")
    report = {name: health.get(name) for name in SHARED_FIELDS}
    report["memory_bytes"] = health.get("memory")
    return report | {"url": url, "status": status if status in REPORTABLE else "failed"}
