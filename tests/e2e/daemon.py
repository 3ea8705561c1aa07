"""A daemon of the built file: what it says, how it is asked, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from typing import Any

from tests.e2e.client import Reply, Stream, ask, open_stream
from tests.e2e.wait import LIMIT_SECONDS

MODEL = "smollm2-135m"


class Daemon:
    """A process started with --json: two threads read what it says, so that it never blocks."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.errors = ""
        self._heard = threading.Condition()
        self._over = False
        self._readers = [
            threading.Thread(target=target, daemon=True)
            for target in (self._read_events, self._read_errors)
        ]
        for reader in self._readers:
            reader.start()

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self.events.append(json.loads(line))
                self._heard.notify_all()
        with self._heard:
            self._over = True
            self._heard.notify_all()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read().decode()

    def said(self, event: str) -> list[dict[str, Any]]:
        return [facts for facts in self.events if facts["event"] == event]

    def says(self, event: str) -> dict[str, Any]:
        """Wait for an event; a daemon that ends without it fails the test."""
        with self._heard:
            self._heard.wait_for(lambda: self._over or self.said(event), LIMIT_SECONDS)
        if not self.said(event):
            self.kill()
            raise AssertionError(f"no {event}: {self.events} {self.errors}")
        return self.said(event)[0]

    @property
    def url(self) -> str:
        return str(next(facts["url"] for facts in self.events if "url" in facts))

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    # -- asking ---------------------------------------------------------------------------------

    def get(self, path: str) -> Reply:
        return ask("GET", self.url + path)

    def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        return ask("POST", self.url + path, body, **headers)

    def stream(self, path: str, body: Any = None, **headers: str) -> Stream:
        return open_stream("GET" if body is None else "POST", self.url + path, body, **headers)

    def health(self) -> dict[str, Any]:
        return dict(self.get("/health").json)

    # -- ending ---------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit code; `errors` is complete then."""
        code = self.process.wait(LIMIT_SECONDS)
        for reader in self._readers:
            reader.join(LIMIT_SECONDS)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ended()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def engine_pid(self) -> int:
        """The process of a worker's engine: its only child."""
        (child,) = children_of(self.process.pid)
        return child


def children_of(pid: int) -> list[int]:
    """Process ids of the children of all threads of a process."""
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children") as children:
            found += map(int, children.read().split())
    return found


def is_free(port: int) -> bool:
    """Whether a server could bind the port now, as servers do."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def a_task(prompt: Any = "The capital of France is", **fields: Any) -> dict[str, Any]:
    """A task whose answer is known beforehand: greedy."""
    return {"model": MODEL, "prompt": prompt, "max_tokens": 16, "temperature": 0} | fields
