"""The engine process lives exactly as long as its worker wants, whatever happens to either."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llorch.engine.llamacpp import LlamaCppEngine
from tests.engine.http_transport import http_transport
from tests.engine.subjects import tiny_choice

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = Path(__file__).with_name("engine_owner.py")
DEADLINE_SECONDS = 30


class Owner:
    """A process that owns an engine."""

    def __init__(self, model: Path, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(OWNER), str(model), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.engine_pid = int(self.line().removeprefix("pid "))

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def order(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.line()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def owner_of(model: Path, command: list[str]) -> Iterator[Owner]:
    owner = Owner(model, command)
    try:
        yield owner
    finally:
        owner.close()


def is_alive(pid: int) -> bool:
    """A zombie that nobody reaps any more is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while is_alive(pid):
        assert time.monotonic() < deadline, f"the engine process {pid} is an orphan"
        time.sleep(0.005)


def test_a_killed_worker_takes_its_engine_along(
    tiny_model: Path, engine_command: list[str]
) -> None:
    with owner_of(tiny_model, engine_command) as owner:
        assert owner.line() == "ready"
        assert owner.order("endless") == "PromptRead"
        assert is_alive(owner.engine_pid)
        owner.process.kill()
        owner.process.wait()
        wait_until_gone(owner.engine_pid)


def test_a_worker_killed_while_the_model_loads_takes_its_engine_along(
    tmp_path: Path, engine_command: list[str]
) -> None:
    # llama.cpp waits for ever in the middle of loading a pipe that nobody writes to.
    model = tmp_path / "endless.gguf"
    os.mkfifo(model)
    with owner_of(model, engine_command) as owner:
        writer = open_when_read(model)
        try:
            assert is_alive(owner.engine_pid)
            owner.process.kill()
            owner.process.wait()
            wait_until_gone(owner.engine_pid)
        finally:
            os.close(writer)


def open_when_read(pipe: Path) -> int:
    """Open a pipe for writing as soon as somebody reads it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        with contextlib.suppress(OSError):  # ENXIO: nobody reads it yet
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        assert time.monotonic() < deadline, "nobody loads the model"
        time.sleep(0.005)


def test_an_engine_that_is_still_loading_can_be_closed(
    tmp_path: Path, engine_command: list[str]
) -> None:
    model = tmp_path / "endless.gguf"
    os.mkfifo(model)

    async def run() -> int:
        engine = LlamaCppEngine(model, tiny_choice(1), http_transport, engine_command)
        loading = asyncio.create_task(engine.load())
        writer = await asyncio.to_thread(open_when_read, model)
        try:
            pid = engine.pid
            assert pid is not None
            loading.cancel()
            await asyncio.wait([loading])
            assert loading.cancelled()
        finally:
            os.close(writer)
        return pid

    assert not is_alive(asyncio.run(run()))


def test_ctrl_c_in_the_workers_terminal_does_not_reach_the_engine(
    tiny_model: Path, engine_command: list[str]
) -> None:
    with owner_of(tiny_model, engine_command) as owner:
        assert owner.line() == "ready"
        os.killpg(owner.process.pid, signal.SIGINT)
        assert owner.line() == "interrupted"
        assert owner.order("answer").startswith("two three")


def test_close_ends_and_reaps_the_process(tiny_model: Path, engine_command: list[str]) -> None:
    async def run() -> int:
        engine = LlamaCppEngine(tiny_model, tiny_choice(1), http_transport, engine_command)
        await engine.load()
        assert engine.pid is not None
        await engine.close()
        await engine.close()
        return engine.pid

    assert not Path(f"/proc/{asyncio.run(run())}").exists()
