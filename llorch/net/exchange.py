"""What an application sees of a request and of its answer. `server.py` has the sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from llorch.errors import LlorchError
from llorch.wire import sse

HeaderList = Iterable[tuple[bytes, bytes]]
JSON = (b"content-type", b"application/json")
NO_CONTENT = 204  # may carry no length either (RFC 9110 section 8.6)


class Outlet(Protocol):
    """The writing side of a connection, as an exchange uses it."""

    stream: StreamOut | None

    def send_head(self, status: int, headers: HeaderList) -> None:
        """Write an answer's head."""

    def send_data(self, data: bytes) -> None:
        """Write the body of an answer of known length."""

    def stream_writer(self) -> Callable[[bytes], None]:
        """What writes a piece of a streamed body, once its head is sent."""

    def finish(self) -> None:
        """The answer is complete."""


@dataclass(slots=True)
class Request:
    """A complete request. Header names are lower case; `parts` are filled in by the router."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    correlation_id: str
    exchange: Exchange
    parts: dict[str, str] = field(default_factory=dict)


App = Callable[[Request], Awaitable[None]]


class Exchange:
    """The answer to one request. `over` is done when it is complete or when the client has left;
    `began` says whether anything of it was sent."""

    def __init__(self, outlet: Outlet, correlation_id: str, *, bodiless: bool = False) -> None:
        """bodiless: the request was HEAD, whose answer is a head alone."""
        self._outlet = outlet
        self._bodiless = bodiless
        self._correlation = (b"x-correlation-id", correlation_id.encode())
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began = False

    def respond(self, status: int, body: bytes, headers: HeaderList = ()) -> None:
        """Send a whole answer."""
        if self.over.done():
            return
        self.began = True
        length = [(b"content-length", str(len(body)).encode())] if status != NO_CONTENT else []
        self._outlet.send_head(status, [*headers, *length, self._correlation])
        if not self._bodiless:
            self._outlet.send_data(body)
        self._outlet.finish()

    def respond_json(self, value: Any, status: int = 200, headers: HeaderList = ()) -> None:
        """Send a JSON answer."""
        self.respond(status, sse.encode(value), [JSON, *headers])

    def respond_error(self, error: LlorchError) -> None:
        """Send an error in the API's shape, with the headers that say when to try again."""
        headers: list[tuple[bytes, bytes]] = []
        if error.retry_after_ms is not None:
            seconds = max(1, -(-error.retry_after_ms // 1000))
            headers.append((b"retry-after", str(seconds).encode()))
            headers.append((b"x-backoff-ms", str(error.retry_after_ms).encode()))
        if error.status == 409:  # the OpenAI clients would send the same conflict again
            headers.append((b"x-should-retry", b"false"))
        self.respond_json({"error": error.as_dict()}, error.status, headers)

    def stream(self, status: int, headers: HeaderList) -> StreamOut:
        """Send the head of an answer whose length is not known, and return its body."""
        self.began = True
        out = StreamOut(self._outlet)
        if not self.over.done():
            self._outlet.send_head(status, [*headers, self._correlation])
            if self._bodiless:
                self._outlet.finish()
            else:
                self._outlet.stream = out
                out.write = self._outlet.stream_writer()
        return out


class StreamOut:
    """The body of a streamed answer.

    `write` sends a piece and never blocks; after the end, or when the client has left, it drops it.
    It is an attribute because every call in between is paid for each token. `ready` is False while
    the client reads too slowly: a writer with more to say keeps it and waits for `on_ready`. A
    client that stays too slow is cut off by the server.
    """

    __slots__ = ("_outlet", "on_ready", "ready", "write")

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self.write: Callable[[bytes], None] = _drop
        self.ready = True
        self.on_ready: Callable[[], None] | None = None

    def end(self) -> None:
        """The body is complete."""
        if self._outlet.stream is self:
            self._outlet.stream = None
            self.write = _drop
            self._outlet.finish()

    def lost(self) -> None:
        """The client has left."""
        self.write = _drop


def _drop(_data: bytes) -> None:
    """Where the pieces go that nobody will read."""
