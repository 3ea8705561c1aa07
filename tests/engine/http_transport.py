"""A small HTTP client with the shape of `protocol.Transport`: one connection for each request."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import h11

from llorch.errors import Unreachable, WorkerLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class HttpAnswer:
    """An answer whose body is read as it arrives."""

    def __init__(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.status = 0
        self._connection, self._reader, self._writer = connection, reader, writer

    async def next_event(self) -> Any:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            try:
                data = await self._reader.read(65536)
                self._connection.receive_data(data)
            except (OSError, h11.RemoteProtocolError) as error:
                raise WorkerLost("the connection broke") from error
            if not data:
                raise WorkerLost("the connection was closed")
        return event

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self.next_event(), h11.Data):
            yield bytes(event.data)

    async def read(self) -> bytes:
        return b"".join([data async for data in self])

    async def aclose(self) -> None:
        self._writer.transport.abort()


async def http_transport(
    method: str, url: str, *, body: dict[str, Any] | None = None, api_key: str = ""
) -> HttpAnswer:
    parts = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError as error:
        raise Unreachable(f"{url} cannot be reached") from error
    answer = HttpAnswer(h11.Connection(h11.CLIENT), reader, writer)
    try:
        await _send(answer, writer, method, parts.path, parts.netloc, body, api_key)
    except BaseException:
        await answer.aclose()
        raise
    return answer


async def _send(
    answer: HttpAnswer,
    writer: asyncio.StreamWriter,
    method: str,
    path: str,
    host: str,
    body: dict[str, Any] | None,
    api_key: str,
) -> None:
    data = b"" if body is None else json.dumps(body).encode()
    headers = [("Host", host), ("Content-Length", str(len(data)))]
    if api_key:
        headers.append(("Authorization", f"Bearer {api_key}"))
    connection = answer._connection
    for event in (
        h11.Request(method=method, target=path, headers=headers),
        h11.Data(data=data),
        h11.EndOfMessage(),
    ):
        writer.write(connection.send(event) or b"")
    try:
        await writer.drain()
    except OSError as error:
        raise WorkerLost("the connection broke") from error
    answer.status = (await answer.next_event()).status_code
