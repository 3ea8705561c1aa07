"""A worker's membership in a fleet: it registers, reports, and says goodbye.

An orchestrator that cannot be reached is tried again for ever: the worker serves its own clients
meanwhile. Registering and reporting are one call, so an orchestrator that was restarted knows the
worker again with its next report.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from llorch.core.fleet import WorkerReport
from llorch.errors import LlorchError
from llorch.net.control import AsyncControl
from llorch.wire.reports import report_fields

HEARTBEAT_SECONDS = 5.0
SOONEST_SECONDS = 0.1  # whatever an orchestrator asks for
GOODBYE_SECONDS = 2.0

OnEvent = Callable[[str, dict[str, Any]], None]


class Membership:
    """The reports of one worker to one orchestrator."""

    def __init__(self, url: str, report: Callable[[], WorkerReport], on_event: OnEvent) -> None:
        self._control = AsyncControl(url, seconds=HEARTBEAT_SECONDS)
        self._url = url
        self._report = report
        self._on_event = on_event
        self._due = asyncio.Event()
        self._registered: bool | None = None  # None: never tried

    def poke(self) -> None:
        """Something changed that the orchestrator should know now."""
        self._due.set()

    async def keep(self) -> None:
        """Report until cancelled."""
        while True:
            self._due.clear()
            seconds = await self._say()
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self._due.wait(), seconds)

    async def _say(self) -> float:
        """Send a report; returns the seconds until the next one is due."""
        try:
            answer = await self._control.post_json(
                "/v2/workers/register", report_fields(self._report())
            )
        except LlorchError as error:
            self._note(False, error.message)
            return HEARTBEAT_SECONDS
        self._note(True, "")
        seconds = answer.get("heartbeat_seconds")
        if isinstance(seconds, (int, float)) and seconds >= SOONEST_SECONDS:
            return float(seconds)
        return HEARTBEAT_SECONDS

    def _note(self, registered: bool, reason: str) -> None:
        """Tell of a change once, not of every heartbeat."""
        if registered == self._registered:
            return
        self._registered = registered
        if registered:
            self._on_event("registered", {"orchestrator": self._url})
        else:
            self._on_event("unregistered", {"orchestrator": self._url, "reason": reason})

    async def say_now(self) -> None:
        """Send a report at once, and wait until it has arrived or failed."""
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self._say(), GOODBYE_SECONDS)

    async def leave(self) -> None:
        """Say goodbye; an orchestrator that does not hear it learns by the missing reports."""
        if self._registered:
            goodbye = self._control.delete(f"/v2/workers/{self._report().worker_id}")
            with contextlib.suppress(LlorchError, TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(goodbye, GOODBYE_SECONDS)

    async def aclose(self) -> None:
        """Close the connection to the orchestrator."""
        await self._control.aclose()
