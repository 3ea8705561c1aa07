"""One request and its answer on a socket: the protocol under `client`.

h11 writes the request and reads the answer's head; a decoder takes the transfer coding off the
body, whose bytes go to a sink in the socket's own callback, so a token costs no task switch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from typing import Protocol

import h11

from llorch.errors import WorkerLost
from llorch.net.address import Address
from llorch.net.body import BadBody, Decoder, decoder
from llorch.net.hot_loop import HotLoop, HotSelector

log = logging.getLogger("llorch.http")

READ_BYTES = 65536
HOT_READ_BYTES = 16384  # made anew for each read, so no larger than a burst of tokens needs


class Sink(Protocol):
    """Takes an answer's body. `ended` is called once, and nothing after it."""

    def received(self, data: bytes) -> None:
        """Some body bytes."""

    def ended(self, complete: bool) -> None:
        """No more will come; complete is False when the connection broke before the end."""


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
        self._leave_hot()
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
        if self.transport.get_write_buffer_size():
            return  # asyncio still waits on this socket, for the rest of the request
        self.transport.pause_reading()
        fd = self.transport.get_extra_info("socket").fileno()
        if loop.hot.add_hot(fd, self._hot_reader(fd)):
            self._hot = (loop.hot, fd)
        else:
            self.transport.resume_reading()

    def _hot_reader(self, fd: int) -> Callable[[bool], None]:
        """The handler of the readable socket. Its names are local and its calls few: it runs for
        every token. `_read_body` is the same for sockets that asyncio reads."""
        assert self._decoder is not None
        read, decoder, feed, take = os.read, self._decoder, self._decoder.feed, self._take

        def readable(closed: bool) -> None:
            try:
                while self._hot is not None:
                    data = read(fd, HOT_READ_BYTES)
                    if body := feed(data):
                        take(body)
                    if not data or decoder.done:
                        self._hot_end()
                    elif not closed and len(data) < HOT_READ_BYTES:
                        return
            except BlockingIOError:
                return
            except Exception as error:
                self._hot_broken(error)

        return readable

    def _hot_end(self) -> None:
        assert self._decoder is not None
        self._end(self._decoder.done or self._decoder.close())
        self.close()

    def _hot_broken(self, error: Exception) -> None:
        """Nothing may be raised into the loop's waiting: it would end the daemon."""
        try:
            if not isinstance(error, (OSError, BadBody)):
                raise error
            self._fail(str(error))
        except Exception:
            log.exception("internal error while relaying")
            with contextlib.suppress(Exception):  # it failed once and was logged
                self._fail("internal error; the log has the details")

    def close(self) -> None:
        """Close at once; a body that was still arriving counts as broken off."""
        self._closed_here = True
        self._leave_hot()
        if self.transport is not None:
            self.transport.abort()

    def _leave_hot(self) -> None:
        """Before the socket is closed: its number will be another's."""
        if self._hot is not None:
            selector, fd = self._hot
            self._hot = None
            selector.remove_hot(fd)
