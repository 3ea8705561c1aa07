"""A limit to how long something may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class TimeLimit:
    """Calls somebody when the time is over, unless it is stopped before or started anew."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """True from a start to a stop; a limit that was reached goes on being so."""
        return self._timer is not None

    def start(self, seconds: float, otherwise: Callable[[], None]) -> None:
        """Begin to count, from now."""
        self.stop()
        self._timer = self._loop.call_later(seconds, otherwise)

    def stop(self) -> None:
        """It was in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
