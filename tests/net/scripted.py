"""A server that answers with the bytes of a script, for tests of what a client makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class Scripted:
    """`requests`: what each client sent. `gone`: set when a client's connection is over."""

    def __init__(self, pieces: Sequence[bytes], then: str) -> None:
        self.requests: list[bytes] = []
        self.gone = asyncio.Event()
        self.url = ""
        self._pieces, self._then = pieces, then

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except ConnectionError:
            pass  # the client left
        finally:
            writer.transport.abort()
            self.gone.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        length = request.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        self.requests.append(request + await reader.readexactly(int(length or b"0")))
        for piece in self._pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if self._then == "wait":
            await reader.read()
        elif self._then == "close":
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def a_script(*pieces: bytes, then: str = "close") -> AsyncIterator[Scripted]:
    """Serve the pieces to every client; then `close`, `reset`, or `wait` for the client to go."""
    scripted = Scripted(pieces, then)
    server = await asyncio.start_server(scripted, "127.0.0.1", 0)
    scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/path?q=1"
    try:
        yield scripted
    finally:
        server.close()
