"""What both daemons need of their process: signals, files, threads that do not hold it up, its
address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
OnEvent = Callable[[str, dict[str, Any]], None]
INTERRUPTED = 130
STDIN = 0
WANTED_FILES = 24_000  # two for each of the 10,000 connections that a server takes, and some more


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; the second signal ends the process at once."""
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            os._exit(INTERRUPTED)
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return asked


def allow_many_files() -> None:
    """Raise this process's own limit of open files as far as the system lets it. The usual one of
    1,024 holds some 500 relayed streams; who comes after that would wait without a word."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with contextlib.suppress(ValueError, OSError):  # then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def end_tasks(*tasks: asyncio.Future[Any] | None) -> None:
    """Cancel what still runs of these and wait for its end. An exception of theirs that nobody
    asked for by now came too late to matter."""
    known = [task for task in tasks if task is not None]
    for task in known:
        task.cancel()
    await asyncio.gather(*known, return_exceptions=True)


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread of its own that does not keep the process from ending, as the
    loop's own threads would."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def target() -> None:
        try:
            result, error = work(), None
        except BaseException as raised:  # handed over to whoever waits
            result, error = None, raised
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=target, daemon=True).start()
    return await done


def end_with_stdin(then: Callable[[], None]) -> None:
    """Call `then` on the loop when standard input ends: the parent that holds it is gone."""
    loop = asyncio.get_running_loop()

    def target() -> None:
        with contextlib.suppress(OSError):  # it was never open: nobody holds it either
            while os.read(STDIN, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(then)

    threading.Thread(target=target, daemon=True).start()


def address_towards(url: str, host: str) -> str:
    """The address under which `url`'s host can reach this machine, given the one that a server here
    is bound to: that one, unless it stands for all addresses. A route lookup; nothing is sent."""
    if host not in ("0.0.0.0", "::"):
        return host
    parts = urlsplit(url)
    family = socket.AF_INET6 if host == "::" else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((parts.hostname or "127.0.0.1", parts.port or 80))
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1" if family == socket.AF_INET else "::1"
