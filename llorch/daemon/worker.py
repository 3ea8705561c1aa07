"""The worker daemon: one model behind HTTP.

Theory of operation. The port is bound first, so that a taken one is told at once and `/health` can
say `loading` from the first second. Then the model file is fetched and its engine loaded, in
threads and a process of their own. When it is ready the worker registers with its orchestrator,
if it has one. SIGTERM reverses this: it tells the orchestrator that it drains, finishes what runs
within the grace, leaves the fleet, closes the port and ends the engine. An engine that dies takes
the daemon with it, in the same order, with the reason.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from llorch import __version__
from llorch.core.choice import Choice, Wishes
from llorch.core.fleet import WorkerReport, WorkerStatus
from llorch.daemon.membership import Membership
from llorch.daemon.process import (
    OnEvent,
    address_towards,
    allow_many_files,
    end_tasks,
    end_with_stdin,
    in_thread,
    stop_on_signals,
)
from llorch.daemon.runs import Runs
from llorch.daemon.worker_routes import worker_router
from llorch.engine.echo import EchoOptions
from llorch.engine.factory import choose_for, make_engine
from llorch.engine.protocol import Engine
from llorch.errors import EngineFailed, ModelLoading, ShuttingDown
from llorch.net.address import netloc
from llorch.net.listener import HttpServer
from llorch.net.transport import engine_transport
from llorch.self_path import own_command

FetchModel = Callable[[], Path | None]
CLOSE_SECONDS = 2.0  # for the last bytes of answers that are complete


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker is started. port 0: any free one; None: chosen by facts of the machine.

    line_bound: requests that may wait for a slot. exit_with_parent: end when stdin ends.
    """

    name: str
    bind_host: str = "127.0.0.1"
    bind_port: int = 8001
    engine: str = "auto"
    backend: str = "auto"
    device: int | None = None
    slots: int | None = None
    ctx: int | None = None
    threads: int | None = None
    batch: int | None = None
    orchestrator: str | None = None
    advertise: str | None = None
    grace_seconds: float = 30.0
    line_bound: int = 64
    echo: EchoOptions = field(default_factory=EchoOptions)
    exit_with_parent: bool = False

    def wishes(self) -> Wishes:
        """What the user asked of the engine."""
        return Wishes(
            engine=self.engine,
            backend=self.backend,
            device=self.device,
            threads=self.threads,
            batch=self.batch,
            ctx=self.ctx,
            slots=self.slots,
        )


def run_worker(settings: WorkerSettings, fetch_model: FetchModel, on_event: OnEvent) -> int:
    """Serve until a signal; returns the exit code. Raises BindFailed, and whatever keeps the model
    from being fetched or loaded. on_event: told `bound`, `loading`, `ready`, `registered`,
    `unregistered`, `draining`, each with its facts."""

    allow_many_files()

    async def serve() -> int:
        return await WorkerDaemon(settings, fetch_model, on_event).run(stop_on_signals())

    return asyncio.run(serve())


class WorkerDaemon:
    """The state of a worker, and the order of its life."""

    def __init__(
        self, settings: WorkerSettings, fetch_model: FetchModel, on_event: OnEvent
    ) -> None:
        self._settings = settings
        self._fetch_model = fetch_model
        self._on_event = on_event
        # Whoever comes through a tunnel asks for the name that leads there.
        names = [urlsplit(settings.advertise or "").hostname or ""]
        self._server = HttpServer(worker_router(self), names=names)
        self._engine: Engine | None = None
        self._membership: Membership | None = None
        self._keeping: asyncio.Future[None] | None = None
        self.pool = socket.gethostname()
        self.worker_id = ""
        self.model = settings.name
        self.status = WorkerStatus.LOADING
        self.reason = ""
        self.started = int(time.time())
        self.loaded: Runs | None = None

    # -- what the routes see --------------------------------------------------------------------

    def runs(self) -> Runs:
        """The runs, if the worker takes requests. Raises ModelLoading, ShuttingDown or
        EngineFailed."""
        if self.status is WorkerStatus.LOADING:
            raise ModelLoading("the model is still loading", retry_after_ms=1000)
        if self.status is WorkerStatus.DRAINING:
            raise ShuttingDown("the worker is draining", retry_after_ms=1000)
        if self.status is WorkerStatus.FAILED or self.loaded is None:
            raise EngineFailed(f"the engine failed: {self.reason}")
        return self.loaded

    def drain(self) -> None:
        """Take nothing new from now on."""
        if self.status is WorkerStatus.READY:
            self._set_status(WorkerStatus.DRAINING, "draining")
            self._on_event("draining", {})

    # -- life -----------------------------------------------------------------------------------

    async def run(self, asked_to_stop: asyncio.Event) -> int:
        """Bind, load, serve, and leave when asked to."""
        if self._settings.exit_with_parent:
            end_with_stdin(asked_to_stop.set)
        await self._server.bind(self._settings.bind_host, self._settings.bind_port)
        self.worker_id = f"{self.pool}-{self._server.port}"
        self._on_event("bound", {"url": self._server.url})
        try:
            return await self._load_and_serve(asked_to_stop)
        finally:
            await self._server.close(CLOSE_SECONDS)
            if self._engine is not None:
                await self._engine.close()

    async def _load_and_serve(self, asked_to_stop: asyncio.Event) -> int:
        stop = asyncio.ensure_future(asked_to_stop.wait())
        loading = asyncio.ensure_future(self._load())
        died: asyncio.Future[str] | None = None
        try:
            await asyncio.wait([stop, loading], return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                return 0
            died = asyncio.ensure_future(loading.result().wait_dead())
            self._join()
            await asyncio.wait([stop, died], return_when=asyncio.FIRST_COMPLETED)
            reason = died.result() if died.done() else ""
            await self._leave(reason)
        finally:
            await end_tasks(stop, loading, died, self._keeping)
            if self._membership is not None:
                await self._membership.aclose()
        if reason:
            raise EngineFailed(reason)
        return 0

    async def _load(self) -> Engine:
        self._on_event("loading", {"model": self.model})
        path = await in_thread(self._fetch_model)
        choice = await in_thread(lambda: choose_for(path, self._settings.wishes()))
        engine = make_engine(choice, path, engine_transport, own_command(), self._settings.echo)
        self._engine = engine
        facts = await engine.load()
        self.loaded = Runs(engine, facts, self.worker_id, self.model, self._settings.line_bound)
        self._set_status(WorkerStatus.READY, "")
        self._on_event("ready", self._ready_facts(choice))
        return engine

    def _ready_facts(self, choice: Choice) -> dict[str, object]:
        report = self.report()
        return {
            "url": self._server.url,
            "model": self.model,
            "engine": report.engine,
            "backend": report.backend,
            "device": report.device,
            "slots": report.slots,
            "ctx": report.ctx,
            "threads": choice.threads,
            "batch": choice.batch,
            "reasons": list(choice.reasons),
        }

    def _join(self) -> None:
        """Become a member of the fleet, if there is one."""
        if self._settings.orchestrator is None or self.loaded is None:
            return
        self._membership = Membership(self._settings.orchestrator, self.report, self._on_event)
        self.loaded.on_change = self._membership.poke
        self._keeping = asyncio.ensure_future(self._membership.keep())

    async def _leave(self, reason: str) -> None:
        """Drain within the grace, or fail at once, and leave the fleet."""
        if reason:
            self._set_status(WorkerStatus.FAILED, reason)
        else:
            self.drain()
        if self._membership is not None:
            await self._membership.say_now()
        assert self.loaded is not None
        idle = asyncio.ensure_future(self.loaded.wait_idle())
        grace = 0 if self._settings.exit_with_parent else self._settings.grace_seconds
        await asyncio.wait([idle], timeout=grace)
        self.loaded.stop_all(ShuttingDown("the worker is shutting down"))
        await asyncio.wait([idle], timeout=CLOSE_SECONDS)
        idle.cancel()
        await end_tasks(self._keeping)  # a report after the goodbye would bring the worker back
        if self._membership is not None:
            await self._membership.leave()

    def _set_status(self, status: WorkerStatus, reason: str) -> None:
        self.status, self.reason = status, reason
        if self._membership is not None:
            self._membership.poke()

    def report(self) -> WorkerReport:
        """What the orchestrator is told."""
        assert self.loaded is not None
        runs, facts = self.loaded, self.loaded.facts
        return WorkerReport(
            worker_id=self.worker_id,
            url=self._public_url(),
            model=self.model,
            status=self.status,
            backend=facts.backend,
            engine=facts.engine,
            device=facts.device,
            slots=facts.slots,
            slots_elsewhere=runs.slots_elsewhere,
            ctx=facts.ctx,
            tokens_per_second=runs.tokens_per_second,
            memory_bytes=facts.memory_bytes,
            version=__version__,
            started=self.started,
            pool=self.pool,
        )

    def _public_url(self) -> str:
        settings = self._settings
        if settings.advertise is not None:
            return settings.advertise
        host = address_towards(settings.orchestrator or "", self._server.host)
        return f"http://{netloc(host, self._server.port)}"
