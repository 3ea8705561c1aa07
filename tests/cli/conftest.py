"""Real processes of this checkout, each with a home of its own, and a small daemon to talk to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake_daemon import FakeDaemon

LLORCH = [sys.executable, str(Path(__file__).parents[2] / "llorch.py")]


class Cli:
    """Runs llorch commands in a clean environment. Keyword arguments become variables."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLORCH_", "_LLORCH"))}
        self.environment = kept | {"LLORCH_HOME": str(home), "TERM": "xterm"}
        self.environment.pop("NO_COLOR", None)

    def __call__(self, *arguments: str, stdin: str | None = None, **variables: str):
        """The finished command. stdin None: /dev/null."""
        given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            [*LLORCH, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.home,
            env=self.environment | variables,
            check=False,
            **given,
        )

    def start(self, *arguments: str, **options):
        """A running command, with pipes on stdout and stderr."""
        settings: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "cwd": self.home,
            "env": self.environment,
        }
        return subprocess.Popen([*LLORCH, *arguments], **(settings | options))


@pytest.fixture
def cli(tmp_path):
    return Cli(tmp_path)


@pytest.fixture
def daemon():
    with FakeDaemon() as running:
        yield running


@pytest.fixture
def pool(cli):
    """A cli whose background workers are all gone after the test, whatever happened in it."""
    yield cli
    cli("pool", "worker", "stop-all", "--grace", "0")


@pytest.fixture
def running():
    """Start processes with it; none outlives the test."""
    processes: list[subprocess.Popen] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
