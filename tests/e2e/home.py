"""A user's machine, as far as llorch can see it: a home folder, variables, the built file.

Everything that a `Home` starts, and everything that those processes start, carries the home's
folder in its environment. So what is still running is found by looking through /proc, whatever
session, process group or parent a process has by then.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tests.e2e.daemon import Daemon
from tests.e2e.wait import eventually

DEFAULT_MODEL = "smollm2-135m"
SECONDS_TO_RUN = 100


class Home:
    """Runs the built file for a user whose folders are all below `folder`.

    cache: where the file unpacks itself. model: the file of the default model, there from the
    start; None leaves the machine without it.
    """

    def __init__(self, folder: Path, pyz: Path, cache: Path, model: Path | None = None) -> None:
        self.folder = folder
        self.command = [sys.executable, str(pyz)]
        self.environment = _clean_environment() | {
            "HOME": str(folder),
            "LLORCH_HOME": str(folder / "llorch"),
            "LLORCH_CACHE": str(cache),
        }
        if model is not None:
            self.give(model)

    def give(self, model: Path) -> None:
        """Put the default model where its download would have put it."""
        place = self.models / DEFAULT_MODEL / "SmolLM2-135M-Instruct.Q4_1.gguf"
        place.parent.mkdir(parents=True)
        place.symlink_to(model)

    @property
    def models(self) -> Path:
        return self.folder / "llorch" / "data" / "models"

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """The finished command, with its output as text (which must be UTF-8)."""
        given: dict[str, Any] = {"input": stdin} if stdin else {"stdin": subprocess.DEVNULL}
        done = subprocess.run(
            [*self.command, *arguments],
            capture_output=True,
            timeout=SECONDS_TO_RUN,
            cwd=self.folder,
            env=self.environment | dict(variables or {}),
            check=False,
            **given,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def ok(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """The standard output of a command that succeeds."""
        done = self.run(*arguments, stdin=stdin, variables=variables)
        assert done.returncode == 0, (arguments, done.stderr)
        return done.stdout

    def start(
        self,
        *arguments: str,
        stderr: IO[bytes] | int = subprocess.PIPE,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """A running command in a process group of its own, with pipes on stdout and stderr."""
        return subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=self.folder,
            env=self.environment | dict(variables or {}),
            start_new_session=True,
        )

    @contextmanager
    def daemon(self, *arguments: str, until: str = "ready", port: int = 0) -> Iterator[Daemon]:
        """A daemon (on a free port unless one is named) that has said `until`; killed at the end
        if it still runs."""
        process = self.start(*arguments, "--bind", f"127.0.0.1:{port}", "--json")
        daemon = Daemon(process)
        try:
            daemon.says(until)
            yield daemon
        finally:
            daemon.kill()

    def processes(self) -> dict[int, str]:
        """The command lines of all processes that belong to this home."""
        return _processes_with(f"LLORCH_HOME={self.environment['LLORCH_HOME']}".encode())

    def is_still(self) -> None:
        """Wait until no process of this home is left."""
        eventually(lambda: not self.processes(), self.processes)

    def end_all(self) -> dict[int, str]:
        """Kill what is left and return what it was."""
        left = self.processes()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return left


def _clean_environment() -> dict[str, str]:
    """Ours without what steers llorch, and with pip's settings: they say how to reach an index."""
    unwanted = ("LLORCH_", "XDG_", "HF_", "PYTHON")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    settings = Path.home() / ".config" / "pip" / "pip.conf"
    if settings.is_file():
        kept.setdefault("PIP_CONFIG_FILE", str(settings))
    return kept | {"LC_ALL": "C.UTF-8", "TERM": "dumb"}


def _processes_with(setting: bytes) -> dict[int, str]:
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if setting in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
                found[int(folder.name)] = words.replace("\0", " ").strip()
        except OSError:  # it has just ended, or belongs to somebody else
            continue
    return found


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C: the signal goes to the whole process group, as a terminal sends it."""
    os.killpg(process.pid, signal.SIGINT)


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """Exit code and what is still to be read."""
    out, errors = process.communicate(timeout=SECONDS_TO_RUN)
    return process.returncode, out.decode(), (errors or b"").decode()


def one_json_line_each(text: str) -> Sequence[Any]:
    """The events that `infer --json` printed."""
    return [json.loads(line) for line in text.splitlines()]
