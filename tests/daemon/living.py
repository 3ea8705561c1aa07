"""Daemons for tests: the real classes on the test's own loop, or real processes.

A context manager gives a daemon that serves, on a free port, and ends it. What clients do is here
too: `call` for whole answers, `follow` for streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llorch.core.limits import Limits
from llorch.core.slots import SlotLine
from llorch.daemon.orchestrator import OrchestratorSettings, orchestrate
from llorch.daemon.worker import WorkerDaemon, WorkerSettings
from llorch.engine.echo import EchoEngine, EchoOptions
from llorch.net.client import Answer, open_stream
from llorch.wire import sse
from tests.net.looped import until
from tests.net.raw import Reply

ROOT = Path(__file__).resolve().parents[2]
TERMINAL = ("end", "error")


@dataclass
class Living:
    """A daemon that lives. `stop` ends it in good order, as SIGTERM would."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    asked_to_stop: asyncio.Event = field(default_factory=asyncio.Event)
    life: Any = None  # the future of its exit code
    daemon: Any = None  # a worker that lives in this process

    def on_event(self, name: str, facts: dict[str, Any]) -> None:
        self.events.append((name, facts))

    def said(self, name: str) -> list[dict[str, Any]]:
        return [facts for event, facts in self.events if event == name]

    async def says(self, *names: str) -> dict[str, Any]:
        """Wait for an event, or for the daemon's death."""

        def heard() -> bool:
            return any(map(self.said, names)) or (self.life is not None and self.life.done())

        await until(heard, f"no {names}", describe=lambda: self.events)
        assert any(map(self.said, names)), self.events
        return next(facts for name in names for facts in self.said(name))

    @property
    def url(self) -> str:
        return str((self.said("bound") or self.said("ready"))[0]["url"])

    @property
    def worker_id(self) -> str:
        return str(self.daemon.worker_id)

    @property
    def line(self) -> SlotLine:
        """Who runs and who waits on a worker."""
        assert isinstance(self.daemon.loaded.line, SlotLine)
        return self.daemon.loaded.line

    @property
    def engine(self) -> EchoEngine:
        assert isinstance(self.daemon._engine, EchoEngine)
        return self.daemon._engine

    def vanish(self) -> None:
        """End every connection of a worker and answer nobody any more, as a crash would."""
        self.daemon._server._server.close()
        for connection in self.daemon._server._siblings:
            connection.abort()
        if self.daemon._keeping is not None:
            self.daemon._keeping.cancel()

    async def stop(self) -> int:
        self.asked_to_stop.set()
        return int(await self.life)


@asynccontextmanager
async def a_worker(
    *,
    echo: EchoOptions | None = None,
    ready: bool = True,
    name: str = "echo",
    slots: int = 2,
    **settings: Any,
) -> AsyncIterator[Living]:
    """A worker with the echo engine; ready: wait until its model is loaded, and it has registered
    where it has an orchestrator."""
    chosen = WorkerSettings(
        name=name,
        bind_port=settings.pop("bind_port", 0),
        engine="echo",
        slots=slots,
        ctx=settings.pop("ctx", 4096),
        grace_seconds=settings.pop("grace_seconds", 0.2),
        echo=echo or EchoOptions(),
        **settings,
    )
    living = Living()
    living.daemon = WorkerDaemon(chosen, lambda: None, living.on_event)
    living.life = asyncio.ensure_future(living.daemon.run(living.asked_to_stop))
    try:
        await living.says("bound")
        if ready:
            await living.says("ready")
            if chosen.orchestrator is not None:
                await living.says("registered")
        yield living
    finally:
        living.asked_to_stop.set()
        await asyncio.gather(living.life, return_exceptions=True)


@asynccontextmanager
async def an_orchestrator(
    limits: Limits | None = None, *, grace_seconds: float = 0.2, **settings: Any
) -> AsyncIterator[Living]:
    """An orchestrator without workers, unless some are named."""
    chosen = OrchestratorSettings(
        bind_port=settings.pop("bind_port", 0), grace_seconds=grace_seconds, **settings
    )
    living = Living()
    serving = orchestrate(chosen, limits or Limits(), living.on_event, living.asked_to_stop)
    living.life = asyncio.ensure_future(serving)
    try:
        await living.says("ready")
        yield living
    finally:
        living.asked_to_stop.set()
        await asyncio.gather(living.life, return_exceptions=True)


# -- processes --------------------------------------------------------------------------------


@dataclass
class Process(Living):
    """A daemon as a process of its own."""

    process: asyncio.subprocess.Process | None = None
    errors: str = ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """Its exit code."""
        return int(await asyncio.wait_for(asyncio.shield(self.life), 20))

    async def watch(self) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        errors = asyncio.ensure_future(self.process.stderr.read())
        async for line in self.process.stdout:
            facts = json.loads(line)
            self.events.append((facts.pop("event"), facts))
        self.errors = (await errors).decode()
        return await self.process.wait()


@asynccontextmanager
async def a_process(
    *arguments: str, home: Path, stdin: int | None = None
) -> AsyncIterator[Process]:
    """`llorch.py ARGUMENTS --json` on a free port, ready; killed in the end if it still runs."""
    command = [
        sys.executable,
        str(ROOT / "llorch.py"),
        *arguments,
        "--bind",
        "127.0.0.1:0",
        "--json",
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLORCH_")}
    living = Process()
    living.process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment | {"HOME": str(home), "XDG_STATE_HOME": str(home)},
        cwd=home,
    )
    living.life = asyncio.ensure_future(living.watch())
    try:
        await living.says("ready")
        yield living
    finally:
        with contextlib.suppress(ProcessLookupError):
            living.process.kill()
        await living.life


# -- clients ----------------------------------------------------------------------------------


async def call(
    method: str,
    url: str,
    body: Any = None,
    headers: Sequence[tuple[str, str]] = (),
    raw: bytes | None = None,
) -> Reply:
    """A whole answer. raw: a body that is no JSON of ours."""
    answer = await opened(method, url, body, headers, raw)
    named = {k.decode(): v.decode() for k, v in answer.headers}
    try:
        return Reply(answer.status, named, await answer.read())
    finally:
        await answer.aclose()


async def opened(
    method: str,
    url: str,
    body: Any = None,
    headers: Sequence[tuple[str, str]] = (),
    raw: bytes | None = None,
) -> Answer:
    """An answer whose head is here."""
    data = raw if raw is not None else b"" if body is None else sse.encode(body)
    kind = [("content-type", "application/json")]
    return await open_stream(method, url, headers=[*kind, *headers], body=data)


class Follower:
    """Reads a stream of frames."""

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.headers = {k.decode(): v.decode() for k, v in answer.headers}
        self.raw = b""
        self._answer = answer
        self._pieces = answer.__aiter__()

    @property
    def frames(self) -> list[sse.Frame]:
        return list(sse.parse(self.raw))

    @property
    def names(self) -> list[str]:
        return [frame.event for frame in self.frames]

    def data(self, event: str) -> list[Any]:
        return [frame.json() for frame in self.frames if frame.event == event]

    @property
    def text(self) -> str:
        return "".join(data["t"] for data in self.data("token"))

    async def sees(self, event: str, count: int = 1) -> list[Any]:
        """Read until so many events of a name are here."""
        while len(self.data(event)) < count:
            await self._more()
        return self.data(event)

    async def sees_bytes(self, wanted: bytes) -> None:
        while wanted not in self.raw:
            await self._more()

    async def _more(self) -> None:
        try:
            self.raw += await asyncio.wait_for(self._pieces.__anext__(), 20)
        except StopAsyncIteration:
            raise AssertionError(f"the stream ended with {self.names[-3:]}") from None

    async def rest(self) -> Follower:
        """Read to the end: exactly one terminal event, the last."""
        await asyncio.wait_for(self.raw_rest(), 30)
        assert [n for n in self.names if n in TERMINAL] == self.names[-1:], self.names[-5:]
        ids = [frame.event_id for frame in self.frames]
        assert len(set(ids)) == len(ids), "an id occurs twice"
        return self

    async def raw_rest(self) -> bytes:
        async for data in self._pieces:
            self.raw += data
        return self.raw

    def pause(self) -> None:
        """Read nothing, so that the other side cannot send."""
        assert self._answer.connection.transport is not None
        self._answer.connection.transport.pause_reading()

    def resume(self) -> None:
        assert self._answer.connection.transport is not None
        self._answer.connection.transport.resume_reading()

    async def leave(self) -> None:
        await self._answer.aclose()


async def follow(
    url: str, body: Any = None, headers: Sequence[tuple[str, str]] = (), method: str = ""
) -> Follower:
    """A stream that has begun."""
    answer = await opened(method or ("GET" if body is None else "POST"), url, body, headers)
    if answer.status != 200:
        raise AssertionError((answer.status, await answer.read()))
    assert answer.header(b"content-type") == b"text/event-stream; charset=utf-8"
    return Follower(answer)


def a_task(**fields: Any) -> dict[str, Any]:
    """A request in the task dialect; greedy, so that its answer is known."""
    return {"model": "echo", "prompt": "one two three", "max_tokens": 8, "temperature": 0} | fields
