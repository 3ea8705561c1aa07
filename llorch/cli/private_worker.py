"""A worker for one answer: started, used and stopped by `infer` where nothing runs yet.

The worker is this very program, bound to a free loopback port, and tells its events as JSON lines.
It holds the reading end of a pipe from us and ends when that closes: so it ends with us in every
case, `kill -9` included. It has a session of its own, so that Ctrl-C reaches us alone and the task
can be cancelled in good order.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from llorch.cli.infer_target import Target
from llorch.errors import EngineFailed
from llorch.net.control_errors import error_of
from llorch.self_path import own_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STOP_SECONDS = 5.0
_LAST_LINES = 5


@contextmanager
def private_worker(arguments: Sequence[str]) -> Iterator[PrivateWorker]:
    """A started worker; ended when the block is left.

    arguments: `serve-worker` and its options.
    """
    with tempfile.TemporaryFile() as log:
        worker = PrivateWorker(arguments, log)
        try:
            yield worker
        finally:
            worker.stop()


class PrivateWorker:
    """The process, from its start to its end."""

    def __init__(self, arguments: Sequence[str], log: IO[bytes]) -> None:
        fixed = ["--bind", "127.0.0.1:0", "--exit-with-parent", "--json"]
        self._log = log
        self._process = subprocess.Popen(
            [*own_command(), *arguments, *fixed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env=_environment(),
        )

    def wait_ready(self) -> Target:
        """Where it answers, once its model is loaded. Raises what it died of."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = _decoded(line)
            if event.get("event") == "ready":
                return Target.at("worker", str(event["url"]))
            if event.get("event") == "error":
                raise error_of(500, event)
        raise EngineFailed(f"the worker ended before it was ready{self._last_words()}")

    def stop(self) -> None:
        """End it, by force if it takes too long."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").splitlines()[-_LAST_LINES:]
        return "".join(f"\n  {line}" for line in lines)


def _decoded(line: bytes) -> dict[str, Any]:
    """An event line; anything else that a library may print there is passed over."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _environment() -> dict[str, str]:
    """Ours, but for variables that would name another model or place than we ask for."""
    unwanted = {"LLORCH_ORCHESTRATOR", "LLORCH_MODEL"}
    return {name: value for name, value in os.environ.items() if name not in unwanted}
