"""Opens a server's port and closes it in good order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterable

from llorch.errors import BindFailed
from llorch.net.address import is_loopback_host, netloc
from llorch.net.browsers import refuse_web_pages
from llorch.net.exchange import App, Request
from llorch.net.server import ServerConnection, ServerLimits
from llorch.net.siblings import Siblings

BACKLOG = 1024


class HttpServer:
    """A listening port and its connections. names: by which others know it, besides this machine's
    own; on loopback no other is answered (see `browsers`)."""

    def __init__(
        self, app: App, limits: ServerLimits | None = None, names: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._names = {name.lower() for name in (socket.gethostname(), *names)}
        self._is_local = True
        self._limits = limits or ServerLimits()
        self._siblings = Siblings()
        self._server: asyncio.Server | None = None
        self.host = ""
        self.port = 0

    @property
    def url(self) -> str:
        """How this machine reaches the server."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{netloc(host, self.port)}"

    async def bind(self, host: str, port: int) -> None:
        """Listen. Port 0 takes any free one. Raises BindFailed, which says what to try."""
        loop = asyncio.get_running_loop()
        self._names.add(host.lower())
        try:
            self._server = await loop.create_server(
                lambda: ServerConnection(self._answer, self._limits, self._siblings),
                host,
                port,
                backlog=BACKLOG,
            )
        except OSError as error:
            raise _translated(error, host, port) from None
        address = self._server.sockets[0].getsockname()
        self.host, self.port = address[0], address[1]
        self._is_local = is_loopback_host(self.host)

    async def _answer(self, request: Request) -> None:
        if self._is_local:
            refuse_web_pages(request.headers, self._names)
        await self._app(request)

    async def close(self, grace_seconds: float) -> None:
        """Stop listening at once, let answers under way be finished for a while, cut the rest."""
        if self._server is None:
            return
        self._server.close()
        self._siblings.closing = True
        for connection in self._siblings:
            connection.close_if_idle()
        if self._siblings:
            empty = asyncio.Event()
            self._siblings.on_empty = empty.set
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(empty.wait(), grace_seconds)
        for connection in self._siblings:
            connection.abort()


def _translated(error: OSError, host: str, port: int) -> BindFailed:
    where = netloc(host, port)
    if error.errno == errno.EADDRINUSE:
        return BindFailed(f"{where} is in use", hint="choose another port with --bind HOST:PORT")
    if error.errno == errno.EACCES:
        return BindFailed(f"{where} needs more rights", hint="choose a port above 1023")
    # From Python 3.13 on, asyncio passes over an address that is not ours and then has no errno.
    foreign = error.errno in (errno.EADDRNOTAVAIL, None) or isinstance(error, socket.gaierror)
    if foreign:
        return BindFailed(f"{host} is no address of this machine", hint="try 127.0.0.1")
    return BindFailed(f"cannot listen on {where}: {error.strerror or error}")
