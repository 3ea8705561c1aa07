"""An asyncio loop that serves a relay's sockets without the rest of asyncio.

Measured (bench/relay.py, 128 streams): of 15 us of CPU that a relayed token costs on a plain
asyncio loop, 6 are system calls and most of the others asyncio's way from a readable socket to a
callback. Here the selector itself calls the handler of a "hot" socket as soon as it sees it
readable. That still happens on the loop's one thread and between two callbacks, so nothing else
changes: a handler may do whatever a callback may. Where there is no epoll (macOS) `add_hot` says
no, and the caller reads in asyncio's own way.
"""

from __future__ import annotations

import asyncio
import math
import select
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Handler = Callable[[bool], None]
Events = list[tuple[int, int]]


if hasattr(select, "epoll"):
    # Edge-triggered: a socket that was read is not looked at again by the next wait.
    HOT_EVENTS = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET

    class HotSelector(selectors.EpollSelector):
        """asyncio's own selector, which knows hot sockets too."""

        def __init__(self) -> None:
            super().__init__()
            self._hot: dict[int, Handler] = {}
            self.touched = False  # the loop has something to do besides waiting
            # typeshed hides the attribute in which a selector keeps the system's own object
            epoll: select.epoll = self._selector  # type: ignore[attr-defined]
            self._poll, self._register, self._unregister = (
                epoll.poll,
                epoll.register,
                epoll.unregister,
            )

        def add_hot(self, fd: int, handler: Handler) -> bool:
            """Call the handler whenever the socket becomes readable; it must not raise. Its
            argument says that the other side has closed: no call will follow, so it must read to
            the end. It must also read again when it got as much as it asked for."""
            self._hot[fd] = handler
            self._register(fd, HOT_EVENTS)
            return True

        def remove_hot(self, fd: int) -> None:
            """Stop that; before the socket is closed."""
            if self._hot.pop(fd, None) is not None:
                self._unregister(fd)

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """As the base class, but hot sockets are served and not returned, and as long as they
            are all that happens, waiting goes on here."""
            if not self._hot:
                return super().select(timeout)
            deadline = None if timeout is None else time.monotonic() + timeout
            self.touched = False
            while True:
                ready = self._serve(self._poll(_rounded_up(timeout), -1))
                if ready or self.touched:
                    return ready
                if deadline is not None:
                    timeout = deadline - time.monotonic()
                    if timeout <= 0:
                        return ready

        def _serve(self, events: Events) -> list[tuple[selectors.SelectorKey, int]]:
            """Call the handlers of hot sockets; returns what is asyncio's."""
            hot = self._hot
            ready: list[tuple[selectors.SelectorKey, int]] = []
            for fd, event in events:
                if fd in hot:
                    hot[fd](event != select.EPOLLIN)
                elif fd in self.get_map():  # a handler may just have closed it
                    ready.append(self._cold(fd, event))
            return ready

        def _cold(self, fd: int, event: int) -> tuple[selectors.SelectorKey, int]:
            key = self.get_key(fd)
            mask = selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0
            mask |= selectors.EVENT_READ if event & ~select.EPOLLOUT else 0
            return key, mask & key.events

else:

    class HotSelector(selectors.DefaultSelector):  # type: ignore[no-redef]
        """The platform's selector: nothing is hot here."""

        touched = False

        def add_hot(self, _fd: int, _handler: Handler) -> bool:
            """Say no."""
            return False

        def remove_hot(self, _fd: int) -> None:
            """There is nothing to stop."""


def _rounded_up(timeout: float | None) -> float:
    """Whole milliseconds, as epoll counts: never wake before the time."""
    if timeout is None:
        return -1
    return 0 if timeout <= 0 else math.ceil(timeout * 1e3) * 1e-3


class HotLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with hot sockets."""

    def __init__(self) -> None:
        self.hot = HotSelector()
        super().__init__(self.hot)

    # typeshed ties the arguments to the callback's own, which an override can only repeat
    def call_soon(self, *args: Any, **options: Any) -> asyncio.Handle:  # type: ignore[override]
        """As the base class; waiting for hot sockets must end."""
        self.hot.touched = True
        return super().call_soon(*args, **options)

    def call_at(self, *args: Any, **options: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        """As the base class; waiting for hot sockets may have to end sooner."""
        self.hot.touched = True
        return super().call_at(*args, **options)


def run_hot(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on a HotLoop."""
    loop = HotLoop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            _cancel_all(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
