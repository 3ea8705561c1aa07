"""A client of the standard library alone: whole answers, and streams read as they arrive."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SECONDS_TO_ANSWER = 60.0
TERMINAL = ("end", "error")


@dataclass
class Reply:
    """A whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        return found


@dataclass(frozen=True)
class Frame:
    """One server-sent event: its fields, and its bytes as they came."""

    event_id: str
    event: str
    data: str
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Stream:
    """An answer that is still coming. `reads`: what each read from the connection gave."""

    def __init__(
        self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
    ) -> None:
        self._connection = connection
        self._answer = answer
        self.reads: list[bytes] = []
        self.over = False

    @property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self._answer.getheaders()}

    @property
    def raw(self) -> bytes:
        return b"".join(self.reads)

    @property
    def frames(self) -> list[Frame]:
        """The complete frames so far; all that came must be UTF-8."""
        return [_frame(block) for block in self.raw.split(b"\n\n")[:-1] if block[:1] != b":"]

    def named(self, *events: str) -> list[Frame]:
        return [frame for frame in self.frames if frame.event in events]

    @property
    def text(self) -> str:
        return "".join(frame.json["t"] for frame in self.named("token"))

    @property
    def last(self) -> Frame:
        """The terminal event: exactly one, and nothing after it."""
        assert self.over
        (only,) = self.named(*TERMINAL)
        assert self.frames[-1] is not None
        assert self.frames[-1].raw == only.raw
        return only

    @property
    def end(self) -> dict[str, Any]:
        assert self.last.event == "end", self.last
        return dict(self.last.json)

    @property
    def error(self) -> dict[str, Any]:
        assert self.last.event == "error", self.last
        return dict(self.last.json)

    def read(self) -> None:
        """Read once: what has come since the last read, at least a byte."""
        data = self._answer.read1(65536)
        if data:
            self.reads.append(data)
        else:
            self.over = True

    def until(self, condition: Callable[[], object]) -> Stream:
        """Read until it holds; a stream that ends before fails the test."""
        while not condition():
            assert not self.over, f"the stream ended: {self.frames[-2:]}"
            self.read()
        return self

    def sees(self, event: str, count: int = 1) -> list[Frame]:
        self.until(lambda: len(self.named(event)) >= count)
        return self.named(event)

    def rest(self) -> Stream:
        """Read to the end."""
        while not self.over:
            self.read()
        self.leave()
        return self

    def leave(self) -> None:
        """Close the connection, whatever is still to come."""
        self._answer.close()
        self._connection.close()


def _frame(block: bytes) -> Frame:
    fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
    event = fields.get("event", "")
    return Frame(fields.get("id", ""), event, fields["data"], block + b"\n\n")


def _send(
    method: str, url: str, body: Any, headers: dict[str, str]
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS_TO_ANSWER)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    named = {"content-type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, parts.path or "/", data, named)
        return connection, connection.getresponse()
    except BaseException:
        connection.close()
        raise


def ask(method: str, url: str, body: Any = None, **headers: str) -> Reply:
    """One request and its whole answer. body: bytes as they are, anything else as JSON."""
    connection, answer = _send(method, url, body, headers)
    try:
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, named, answer.read())
    finally:
        answer.close()
        connection.close()


def open_stream(method: str, url: str, body: Any = None, **headers: str) -> Stream:
    """A stream whose head is here, with status 200."""
    connection, answer = _send(method, url, body, headers)
    stream = Stream(connection, answer)
    assert answer.status == 200, (answer.status, stream.rest().raw)
    return stream
