"""The streaming HTTP client: h11 for the two heads, body bytes as they arrive.

One connection carries one request. `open_stream` returns when the answer's head is here; the body
then goes, without a copy kept, to a sink (the relay: called from the socket's own callback, so a
token costs no task switch) or is iterated over (engines). Closing the stream closes the connection,
which is how a worker or an engine is told to stop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

import h11

from llorch.errors import Unreachable, WorkerLost
from llorch.net.body import BadBody, Decoder, decoder
from llorch.net.hot_loop import HotLoop, HotSelector

Headers = list[tuple[bytes, bytes]]
READ_BYTES = 65536
HOT_READ_BYTES = 16384  # made anew for each read, so no larger than a burst of tokens needs
CONNECT_SECONDS = 10.0
ASK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect and what to ask for there."""

    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str) -> Address:
        """The address in an http:// URL."""
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError as error:
            raise Unreachable(f"{url!r} is no URL: {error}") from None
        if parts.scheme != "http" or not parts.hostname:
            raise Unreachable(f"cannot connect to {url!r}", hint="use http://HOST:PORT")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port, target)

    @property
    def netloc(self) -> str:
        """HOST:PORT for the Host header and for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Sink(Protocol):
    """Takes an answer's body. `ended` is called once, and nothing after it."""

    def received(self, data: bytes) -> None:
        """Some body bytes."""

    def ended(self, complete: bool) -> None:
        """No more will come; complete is False when the connection broke before the end."""


class _Queue:
    """Keeps body bytes until somebody iterates over them."""

    def __init__(self) -> None:
        self.items: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.complete = False

    def received(self, data: bytes) -> None:
        self.items.put_nowait(data)

    def ended(self, complete: bool) -> None:
        self.complete = complete
        self.items.put_nowait(None)


class Connection(asyncio.BufferedProtocol):
    """One request and its answer. Buffered: one buffer of its own instead of a new one per read."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._h11 = h11.Connection(h11.CLIENT)
        self._decoder: Decoder | None = None
        self._sink: Sink | None = None
        self._early: list[bytes] = []
        self._take: Callable[[bytes], None] = self._early.append
        self._over: bool | None = None  # how the body ended, before there was a sink
        self._closed_here = False
        self._hot: tuple[HotSelector, int] | None = None
        self.transport: asyncio.Transport | None = None
        self.head: asyncio.Future[h11.Response] = asyncio.get_running_loop().create_future()

    # -- asyncio calls these --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        data = bytes(self._buffer[:nbytes])
        if self._decoder is None:
            self._read_head(data)
        else:
            self._read_body(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side is gone, or we closed."""
        if not self.head.done():
            self.head.set_exception(WorkerLost("the connection broke before the answer began"))
        whole = exc is None and not self._closed_here
        self._end(whole and self._decoder is not None and self._decoder.close())

    # -- reading --------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        try:
            self._h11.receive_data(data)
            event = self._h11.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._h11.next_event()
            if not isinstance(event, h11.Response):
                return
            self._decoder = decoder(self._method, event.status_code, event.headers)
        except (h11.RemoteProtocolError, ValueError) as error:
            self._fail(f"the answer is no HTTP: {error}")
            return
        rest = self._h11.trailing_data[0]
        if not self.head.done():
            self.head.set_result(event)
        self._read_body(bytes(rest))

    def _read_body(self, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        try:
            body = decoder.feed(data)
        except BadBody as error:
            self._fail(str(error))
            return
        if body:
            self._take(body)
        if decoder.done:
            self._end(True)
            self.close()

    def _fail(self, reason: str) -> None:
        if not self.head.done():
            self.head.set_exception(WorkerLost(reason))
        self._end(False)
        self.close()

    def _end(self, complete: bool) -> None:
        if self._over is not None:
            return
        self._over = complete
        sink, self._sink = self._sink, None  # it may hold us: leave no cycle behind
        if sink is not None:
            sink.ended(complete)

    # -- the caller's side ----------------------------------------------------------------------

    def send(self, address: Address, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Send the whole request."""
        assert self.transport is not None
        request = h11.Request(
            method=self._method,
            target=address.target,
            headers=[("host", address.netloc), ("connection", "close"), *headers]
            + ([("content-length", str(len(body)))] if body or self._method == "POST" else []),
        )
        out = self._h11.send(request) or b""
        out += self._h11.send(h11.Data(data=body)) or b"" if body else b""
        self.transport.write(out + (self._h11.send(h11.EndOfMessage()) or b""))

    def attach(self, sink: Sink) -> None:
        """Give the body, what came already first, to a sink."""
        early, self._early = self._early, []
        for data in early:
            sink.received(data)
        if self._over is not None:
            sink.ended(self._over)
        else:
            self._sink, self._take = sink, sink.received

    def read_hot(self) -> None:
        """Read the rest of the body past asyncio, where the loop can (see `hot_loop`)."""
        loop = asyncio.get_running_loop()
        if self._over is not None or self.transport is None or not isinstance(loop, HotLoop):
            return
        self.transport.pause_reading()
        fd = self.transport.get_extra_info("socket").fileno()
        if loop.hot.add_hot(fd, self._hot_reader(fd)):
            self._hot = (loop.hot, fd)
        else:
            self.transport.resume_reading()

    def _hot_reader(self, fd: int) -> Callable[[bool], None]:
        """The handler of the readable socket. Its names are local: it runs for every token."""
        read, read_body = os.read, self._read_body

        def readable(closed: bool) -> None:
            more = True
            while more and self._hot is not None:
                try:
                    data = read(fd, HOT_READ_BYTES)
                except BlockingIOError:
                    return
                except OSError as error:
                    self._hot_end(error)
                    return
                if not data:
                    self._hot_end(None)
                    return
                read_body(data)
                more = closed or len(data) == HOT_READ_BYTES

        return readable

    def _hot_end(self, error: OSError | None) -> None:
        self.connection_lost(error)
        self.close()

    def close(self) -> None:
        """Close at once; a body that was still arriving counts as broken off."""
        self._closed_here = True
        if self._hot is not None:
            selector, fd = self._hot
            self._hot = None
            selector.remove_hot(fd)
        if self.transport is not None:
            self.transport.abort()


@dataclass(slots=True)
class Answer:
    """An answer whose body is still arriving."""

    status: int
    headers: Headers
    connection: Connection
    _queue: _Queue | None = None

    def header(self, name: bytes) -> bytes:
        """A header's value, empty where it is absent. `name` is lower case."""
        return dict(self.headers).get(name, b"")

    def attach(self, sink: Sink) -> None:
        """Give the body to a sink."""
        self.connection.attach(sink)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Body bytes as they arrive. Raises WorkerLost when the connection breaks too early."""
        if self._queue is None:
            self._queue = _Queue()
            self.connection.attach(self._queue)
        while (data := await self._queue.items.get()) is not None:
            yield data
        if not self._queue.complete:
            raise WorkerLost("the connection broke in the middle of the answer")

    async def read(self) -> bytes:
        """The whole rest of the body."""
        return b"".join([data async for data in self])

    async def aclose(self) -> None:
        """Close the connection at once."""
        self.connection.close()


async def open_stream(
    method: str,
    url: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    connect_seconds: float = CONNECT_SECONDS,
) -> Answer:
    """Send a request and return when the answer's head has arrived.

    Raises Unreachable when no connection comes about, WorkerLost when it breaks before the head.
    """
    address = Address.of(url)
    connection = await _connect(address, method, connect_seconds)
    try:
        connection.send(address, headers, body)
        response = await connection.head
    except BaseException:
        connection.close()
        raise
    return Answer(response.status_code, list(response.headers), connection)


async def ask(
    method: str, url: str, *, body: bytes = b"", seconds: float = ASK_SECONDS
) -> tuple[int, bytes]:
    """A small request, whole: the answer's status and body.

    Raises Unreachable when it has not come in `seconds`, else what `open_stream` raises.
    """
    try:
        return await asyncio.wait_for(_ask(method, url, body), seconds)
    except (TimeoutError, asyncio.TimeoutError):
        raise Unreachable(f"{url} did not answer within {seconds:g} s") from None


async def _ask(method: str, url: str, body: bytes) -> tuple[int, bytes]:
    answer = await open_stream(method, url, body=body)
    try:
        return answer.status, await answer.read()
    finally:
        await answer.aclose()


async def _connect(address: Address, method: str, seconds: float) -> Connection:
    loop = asyncio.get_running_loop()
    connecting = loop.create_connection(lambda: Connection(method), address.host, address.port)
    try:
        _, connection = await asyncio.wait_for(connecting, seconds)
    except (TimeoutError, asyncio.TimeoutError):
        raise Unreachable(f"{address.netloc} did not answer within {seconds:g} s") from None
    except OSError as error:
        raise Unreachable(f"cannot connect to {address.netloc}: {_reason(error)}") from None
    return connection


def _reason(error: OSError) -> str:
    """The system's words. asyncio has its own for a refused connection, and none where a name has
    several addresses of which each was refused."""
    if isinstance(error, socket.gaierror):
        return error.strerror or "its name is not known"
    return os.strerror(error.errno) if error.errno else "nothing answers there"
