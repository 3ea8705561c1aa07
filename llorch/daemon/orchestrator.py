"""The orchestrator daemon: the scheduler behind HTTP.

Theory of operation. One loop, one thread: routes turn requests into facts for the `Shell`, which
owns the scheduler and carries out its effects; a tick lets time pass. SIGTERM stops admission at
once, lets what runs be answered within the grace, then closes what is left with an error.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from llorch.core import events as on
from llorch.core.limits import Limits
from llorch.daemon.adoption import adopt
from llorch.daemon.fleet_log import FleetLog
from llorch.daemon.fleet_routes import FleetRoutes
from llorch.daemon.openai_routes import OpenAIRoutes
from llorch.daemon.process import OnEvent, allow_many_files, end_tasks, stop_on_signals
from llorch.daemon.shell import Shell
from llorch.daemon.task_routes import TaskRoutes
from llorch.net.hot_loop import run_hot
from llorch.net.listener import HttpServer
from llorch.net.router import Router

TICK_SECONDS = 0.5
PING_SECONDS = 15.0  # proxies cut streams that are silent for a minute, some for half of one
CLOSE_SECONDS = 2.0  # for the last bytes of answers that are complete


@dataclass(frozen=True, slots=True)
class OrchestratorSettings:
    """How an orchestrator is started. workers: URLs of workers that do not register themselves."""

    bind_host: str = "127.0.0.1"
    bind_port: int = 8080
    workers: tuple[str, ...] = ()
    queue_capacity: int = 100
    grace_seconds: float = 30.0


def run_orchestrator(settings: OrchestratorSettings, on_event: OnEvent) -> int:
    """Serve until a signal; returns the exit code. Raises BindFailed. on_event: told `ready`,
    `adopted`, `unreachable`, `worker` (it came, changed or went), `failed` (a task) and `draining`,
    each with its facts."""

    allow_many_files()

    async def serve() -> int:
        limits = Limits(queue_capacity=settings.queue_capacity)
        return await orchestrate(settings, limits, on_event, stop_on_signals())

    return run_hot(serve())


async def orchestrate(
    settings: OrchestratorSettings,
    limits: Limits,
    on_event: OnEvent,
    asked_to_stop: asyncio.Event,
) -> int:
    """Bind, serve, and leave when asked to."""
    shell = Shell(limits, on_event)
    fleet_log = FleetLog(shell.scheduler.fleet, on_event)
    server = HttpServer(orchestrator_router(shell))
    await server.bind(settings.bind_host, settings.bind_port)
    on_event("ready", {"url": server.url})
    background = [
        asyncio.ensure_future(_tick(shell, fleet_log)),
        asyncio.ensure_future(_ping(shell)),
    ]
    background += [
        asyncio.ensure_future(adopt(url, shell.take_report, on_event)) for url in settings.workers
    ]
    stop = asyncio.ensure_future(asked_to_stop.wait())
    try:
        await asyncio.wait([*background, stop], return_when=asyncio.FIRST_COMPLETED)
        on_event("draining", {})
        await _leave(shell, settings.grace_seconds)
    finally:
        await server.close(CLOSE_SECONDS)
        ended = [task for task in background if task.done()]
        await end_tasks(stop, *background, *shell.side_tasks)
    for task in ended:
        task.result()  # a background task ends only by a bug: let it be seen
    return 0


def orchestrator_router(shell: Shell) -> Router:
    """The routes of an orchestrator."""
    router = Router()
    TaskRoutes(shell).add_to(router)
    OpenAIRoutes(shell, int(time.time())).add_to(router)
    FleetRoutes(shell).add_to(router)
    return router


async def _tick(shell: Shell, fleet_log: FleetLog) -> None:
    while True:
        await asyncio.sleep(TICK_SECONDS)
        shell.tell(on.Ticked())
        fleet_log.look()


async def _ping(shell: Shell) -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        shell.ping()


async def _leave(shell: Shell, grace_seconds: float) -> None:
    """Admit nothing more, wait for what runs, end what is left."""
    shell.tell(on.ShutdownRequested())
    left = asyncio.ensure_future(shell.left.wait())
    await asyncio.wait([left], timeout=grace_seconds)
    if not left.done():
        shell.tell(on.GraceEnded())
    left.cancel()
