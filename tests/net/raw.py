"""Both ends of a connection: our server on a free port, and a client made of raw bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h11

from llorch.net.exchange import App
from llorch.net.listener import HttpServer
from llorch.net.server import ServerLimits


@asynccontextmanager
async def a_server(app: App, **limits: Any) -> AsyncIterator[HttpServer]:
    """A server on a free port, closed in the end."""
    server = HttpServer(app, ServerLimits(**limits))
    await server.bind("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.close(0.5)


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Raw:
    """A client's socket. What it sends is up to the test; h11 reads the answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._left = b""

    @classmethod
    async def to(cls, server: HttpServer) -> Raw:
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def get(self, target: str = "/", *headers: str, version: str = "1.1") -> Reply:
        lines = [f"GET {target} HTTP/{version}", "Host: x", *headers, "", ""]
        await self.send("\r\n".join(lines).encode())
        return await self.reply()

    async def reply(self, method: str = "GET") -> Reply:
        """The next answer on this connection."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(self._left) if self._left else None
        head, body = None, b""
        while not isinstance(event := parser.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                data = await self.reader.read(65536)
                parser.receive_data(data)
                continue
            assert not isinstance(event, h11.ConnectionClosed), "closed before the answer"
            if isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
        self._left = parser.trailing_data[0]
        assert head is not None
        headers = {k.decode(): v.decode() for k, v in head.headers}
        return Reply(head.status_code, headers, body)

    async def closed(self) -> bytes:
        """What still comes until the server closes the connection."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def leave(self) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)
