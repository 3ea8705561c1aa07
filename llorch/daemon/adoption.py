"""Workers that do not register by themselves: their health is asked for, like a heartbeat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from llorch.core.events import Event, WorkerReported
from llorch.daemon.membership import HEARTBEAT_SECONDS
from llorch.daemon.process import OnEvent
from llorch.errors import LlorchError
from llorch.net.client import ask
from llorch.wire.reports import REPORTABLE, parse_report

SHARED_FIELDS = (
    *("worker_id", "pool", "model", "backend", "engine", "device", "slots", "slots_elsewhere"),
    *("ctx", "tokens_per_second", "version", "started"),
)


async def adopt(url: str, tell: Callable[[Event], None], on_event: OnEvent) -> None:
    """Report the worker at `url` until cancelled; says once when it stops answering."""
    reachable: bool | None = None
    while True:
        problem = await _report(url, tell)
        if (problem is None) != reachable:
            reachable = problem is None
            facts = {"worker": url} if problem is None else {"worker": url, "reason": problem}
            on_event("adopted" if reachable else "unreachable", facts)
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _report(url: str, tell: Callable[[Event], None]) -> str | None:
    """Ask once; returns what is wrong, or None."""
    try:
        _, health = await ask("GET", f"{url}/health")
        values = json.loads(health)
        report = parse_report(_as_report(url, values))
    except LlorchError as error:
        return error.message
    except (ValueError, AttributeError):
        return "it is no llorch worker: its /health is not understood"
    tell(WorkerReported(report))
    return None


def _as_report(url: str, health: dict[str, Any]) -> dict[str, Any]:
    """A worker's health in the shape of its reports."""
    status = health.get("status")
    report = {name: health.get(name) for name in SHARED_FIELDS}
    report["memory_bytes"] = health.get("memory")
    return report | {"url": url, "status": status if status in REPORTABLE else "failed"}
