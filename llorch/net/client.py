"""The streaming HTTP client: one connection for one request.

`open_stream` returns when the answer's head is here; the body then goes, without a copy kept, to a
sink (the relay) or is iterated over (engines). Closing the stream closes the connection, which is
how a worker or an engine is told to stop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from llorch.errors import Unreachable, WorkerLost
from llorch.net.address import Address
from llorch.net.connection import Connection, Sink

Headers = list[tuple[bytes, bytes]]
CONNECT_SECONDS = 10.0
ASK_SECONDS = 5.0


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
