"""The worker's hold on its engine process: start, readiness, log, end and the reason of a death.

Theory of operation. One `EngineProcess` is one child. Three things are read from it at the same
time: its one ready line, its log (the last lines are kept, to explain a death), and its end. The
child gets a session of its own, so that Ctrl-C in the worker's terminal does not reach it; the
worker decides when the engine ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from llorch.errors import EngineFailed, EngineUnavailable, LlorchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from llorch.engine.process import LoadOrder

LOG_LINES_KEPT = 50
SECONDS_TO_TERMINATE = 1.0
LONGEST_LOG_LINE_BYTES = 64 * 1024

# llama.cpp begins a line with its age and its level: "0.00.034.833 E llama_model_load: ...".
_LOG_PREFIX = re.compile(r"^[\d.]+ (?P<level>[A-Z]) ")

_WHY_KILLED = {
    signal.SIGKILL: "out of memory?",
    signal.SIGILL: "this CPU lacks an instruction that the engine was compiled for",
    signal.SIGSEGV: "a fault in the engine's native code",
    signal.SIGABRT: "the engine gave up",
    signal.SIGBUS: "the model file changed or its disk failed?",
}


class EngineProcess:
    """A child process that serves one model on a loopback port."""

    def __init__(self, command: Sequence[str], *, verbose: bool = False) -> None:
        """Command: how to start llorch itself; `engine-process` is added to it."""
        self.url = self.api_key = self.version = ""
        self._command = (*command, "engine-process")
        self._verbose = verbose
        self._log: deque[str] = deque(maxlen=LOG_LINES_KEPT)
        self._child: asyncio.subprocess.Process | None = None
        self._log_reader: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def pid(self) -> int | None:
        """The process id, None before the start."""
        return None if self._child is None else self._child.pid

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._child is not None and self._child.returncode is None

    async def start(self, order: LoadOrder) -> None:
        """Start the child and wait until its model is loaded, however long that takes.

        Raises EngineUnavailable or EngineFailed; no process is left then.
        """
        try:
            await self._spawn()
            await self._read_ready(await self._first_line(order))
        except BaseException:
            await self.close()
            raise

    async def _spawn(self) -> None:
        pipe = asyncio.subprocess.PIPE
        try:
            self._child = await asyncio.create_subprocess_exec(
                *self._command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )
        except OSError as error:
            raise EngineFailed(
                f"the engine process could not be started: {error.strerror or error}"
            ) from error
        self._log_reader = asyncio.create_task(self._keep_log(self._child))

    async def _first_line(self, order: LoadOrder) -> bytes:
        child = self._started()
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(ConnectionError):  # it died already: the empty line below says so
            child.stdin.write(order.as_line())
            await child.stdin.drain()
        return await child.stdout.readline()

    def _started(self) -> asyncio.subprocess.Process:
        if self._child is None:
            raise EngineFailed("the engine process is not running")
        return self._child

    async def _keep_log(self, child: asyncio.subprocess.Process) -> None:
        """Read the log until the child ends; a line of any length must not stop the reading."""
        assert child.stderr is not None
        rest = b""
        while read := await child.stderr.read(LONGEST_LOG_LINE_BYTES):
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                self._log_line(line)
            rest = rest[-LONGEST_LOG_LINE_BYTES:]
        self._log_line(rest)

    def _log_line(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if not text:
            return
        self._log.append(text)
        if self._verbose:
            sys.stderr.write(f"engine: {text}\n")

    async def _read_ready(self, line: bytes) -> None:
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError:
            raise EngineFailed(f"the engine ended while loading: {await self.died()}") from None
        if "error" in said:
            await self.died()  # its log is complete now
            raise _refusal(said["error"], _first_fault(self._log))
        self.url, self.api_key, self.version = said["url"], said["api_key"], said["version"]

    async def died(self) -> str:
        """Wait for the end of the child and return its reason. Never returns after `close()`."""
        child = self._started()
        await child.wait()
        if self._log_reader is not None:
            await asyncio.wait([self._log_reader])
        if self._closing:
            await asyncio.Event().wait()
        return death_reason(child.returncode or 0, tuple(self._log))

    async def close(self) -> None:
        """End the child: ask, and after a second insist. Returns when it is gone and reaped."""
        self._closing = True
        child = self._child
        if child is None:
            return
        # Shielded: a caller that is cancelled meanwhile must not leave a process behind.
        await asyncio.shield(self._end(child))

    async def _end(self, child: asyncio.subprocess.Process) -> None:
        if child.stdin is not None:
            child.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), SECONDS_TO_TERMINATE)
        except asyncio.TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        if self._log_reader is not None:
            await asyncio.wait([self._log_reader])


def _refusal(error: dict[str, Any], fault: str) -> LlorchError:
    """The child's own error as an exception, with the first fault in the log as its reason."""
    kind = EngineUnavailable if error["code"] == EngineUnavailable.code else EngineFailed
    message = f"{error['message']}: {fault}" if fault else error["message"]
    return kind(message, hint=error.get("hint", ""))


def _first_fault(log: Iterable[str]) -> str:
    """The first line of level error: later ones only say that the earlier one happened."""
    for line in log:
        prefix = _LOG_PREFIX.match(line)
        if prefix and prefix["level"] == "E":
            return line[prefix.end() :].strip()
    return ""


def death_reason(returncode: int, log: Sequence[str]) -> str:
    """Say in one sentence how a process ended: its signal or exit code, and its last words.

    returncode: as `subprocess` counts, so a signal is negative.
    """
    last = f"; it last said: {_LOG_PREFIX.sub('', log[-1])}" if log else ""
    if returncode >= 0:
        return f"the engine process exited with code {returncode}{last}"
    try:
        killer = signal.Signals(-returncode)
    except ValueError:
        return f"the engine process was killed by signal {-returncode}{last}"
    why = f" ({_WHY_KILLED[killer]})" if killer in _WHY_KILLED else ""
    return f"the engine process was killed by {killer.name}{why}{last}"
