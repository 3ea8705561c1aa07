"""A minimal HTTP/1.1 server: h11 parses requests and writes heads, body bytes are moved.

Theory of operation. A `ServerConnection` is one client's socket. When h11 says that a request is
complete, a task runs the application, which answers through the request's `Exchange`. The next
request on the connection is read when the answer is complete.

A stream's bytes bypass h11: it would parse nothing in them and its state machine costs as much per
token as the rest of the relay. Only the chunk framing is written here; h11 writes the head and the
last chunk, and so knows when the connection may be used again.

A client that closes its sending side is taken to have left: that is the only way to notice in time
that nobody waits for an answer.

A request that is refused before it has fully arrived is answered, and what still comes of it is
read and dropped for a while: closing at once would reset the connection, and the client would see
that instead of the answer (RFC 9112 section 9.6).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http.client import responses
from typing import Any

import h11

from llorch.errors import BodyTooLarge, LlorchError, Refused, RequestTimeout
from llorch.net.exchange import App, Exchange, HeaderList, Request, StreamOut
from llorch.net.request_head import correlation_id, declared_bytes, new_request, translated
from llorch.net.siblings import Siblings
from llorch.net.time_limit import TimeLimit

log = logging.getLogger("llorch.http")

LINGER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a client may take up. Bytes, seconds and connections."""

    max_body_bytes: int = 8 * 1024 * 1024
    max_header_bytes: int = 64 * 1024
    max_connections: int = 10_000
    request_seconds: float = 30.0
    idle_seconds: float = 75.0
    stalled_seconds: float = 30.0
    buffer_bytes: int = 64 * 1024


class ServerConnection(asyncio.Protocol):
    """One client's socket. See the module's text."""

    def __init__(self, app: App, limits: ServerLimits, siblings: Siblings) -> None:
        self._app = app
        self._limits = limits
        self._siblings = siblings
        self._loop = asyncio.get_running_loop()
        self._h11 = h11.Connection(h11.SERVER, limits.max_header_bytes)
        self._transport: asyncio.Transport | None = None
        self._request_limit = TimeLimit()
        self._stall_limit = TimeLimit()
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._chunked = False
        self._refused = False
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self.stream: StreamOut | None = None

    # -- asyncio calls these --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected; one too many is turned away with words."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=self._limits.buffer_bytes)
        self._siblings.add(self)
        if self._siblings.closing:
            self.abort()
        elif len(self._siblings) > self._limits.max_connections:
            self._refuse(Refused("too many connections", retry_after_ms=1000))
        else:
            self._expect_request(self._limits.request_seconds)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request arrived."""
        if self._refused:
            return
        self._h11.receive_data(data)
        if self._exchange is None:
            self._read_events()
        elif len(self._h11.trailing_data[0]) > self._limits.max_header_bytes:
            self.abort()  # a client that goes on talking while it is answered

    def eof_received(self) -> bool:
        """The client left (see the module's text): it may still read what was written."""
        self._lose_stream()
        self._end_exchange()
        self.close()
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        """The socket is closed: tell whoever still answers."""
        self._request_limit.stop()
        self._stall_limit.stop()
        self._lose_stream()
        self._end_exchange()
        self._siblings.remove(self)

    def pause_writing(self) -> None:
        """The client reads too slowly: cut it off if it goes on like that."""
        if self.stream is not None:
            self.stream.ready = False
        self._limit_stall()

    def resume_writing(self) -> None:
        """The client reads again."""
        if not self._closing():
            self._stall_limit.stop()
        if self.stream is not None:
            self.stream.ready = True
            if self.stream.on_ready is not None:
                self.stream.on_ready()

    # -- requests -------------------------------------------------------------------------------

    def _expect_request(self, seconds: float) -> None:
        self._request_limit.start(seconds, self._request_is_late)

    def _limit_stall(self) -> None:
        if not self._stall_limit.running:
            self._stall_limit.start(self._limits.stalled_seconds, self.abort)

    def _request_is_late(self) -> None:
        if self._head is None and not self._h11.trailing_data[0]:
            self.close()  # an idle connection: nobody waits for words
        else:
            self._refuse(RequestTimeout("the request did not arrive in time"))

    def _read_events(self) -> None:
        try:
            while self._exchange is None and not self._refused and not self._closing():
                event = self._h11.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                self._take(event)
        except h11.RemoteProtocolError as error:
            self._refuse(translated(error))

    def _take(self, event: Any) -> None:
        if isinstance(event, h11.Request):
            self._head, self._body = event, bytearray()
            self._expect_request(self._limits.request_seconds)
            self._check_body_bytes(declared_bytes(event))
            if not self._refused and self._h11.they_are_waiting_for_100_continue:
                self._write(self._h11.send(h11.InformationalResponse(status_code=100, headers=[])))
        elif isinstance(event, h11.Data):
            self._take_body(event.data)
        elif isinstance(event, h11.EndOfMessage):
            self._request_limit.stop()
            self._begin_exchange()

    def _take_body(self, data: bytes) -> None:
        self._body += data
        self._check_body_bytes(len(self._body))

    def _check_body_bytes(self, count: int) -> None:
        limit = self._limits.max_body_bytes
        if count > limit:
            self._refuse(BodyTooLarge(f"the body is larger than {limit} bytes"))

    def _begin_exchange(self) -> None:
        assert self._head is not None
        request = new_request(self._head, bytes(self._body), self)
        self._head, self._body = None, bytearray()
        self._exchange = request.exchange
        self._task = self._loop.create_task(self._run(request))

    async def _run(self, request: Request) -> None:
        """Run the application; whatever it raises becomes an answer, or an end."""
        try:
            await self._app(request)
        except LlorchError as error:
            self._fail(request.exchange, error)
        except Exception:
            log.exception("internal error in %s %r", request.method, request.path)
            self._fail(request.exchange, LlorchError("internal error; the log has the details"))

    def _fail(self, exchange: Exchange, error: LlorchError) -> None:
        if exchange.over.done():
            return  # the answer was complete: the connection may carry the next one by now
        if exchange.began:
            self.abort()
        else:
            exchange.respond_error(error)

    def _refuse(self, error: LlorchError) -> None:
        """Answer what is no acceptable request, and close when the client has seen that."""
        self._request_limit.stop()
        self._refused = True
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.abort()
            return
        self._exchange = Exchange(self, correlation_id(""))
        self._exchange.respond_error(error)

    def _linger(self) -> None:
        """Send no more, and drop what still comes (see the module's text)."""
        if self._transport is None or self._closing() or not self._transport.can_write_eof():
            self.close()
            return
        self._transport.write_eof()
        self._request_limit.start(LINGER_SECONDS, self.abort)

    # -- answers --------------------------------------------------------------------------------

    def send_head(self, status: int, headers: HeaderList) -> None:
        """Write an answer's head."""
        final = self._siblings.closing or self._refused
        last = [(b"connection", b"close")] if final else []
        response = h11.Response(
            status_code=status, headers=[*headers, *last], reason=responses.get(status, "")
        )
        self._write(self._h11.send(response))
        sized = any(name == b"content-length" for name, _ in response.headers)
        self._chunked = not sized and (self._h11.their_http_version or b"1.1") >= b"1.1"

    def send_data(self, data: bytes) -> None:
        """Write the body of an answer of known length."""
        if data:
            self._write(self._h11.send(h11.Data(data=data)))

    def stream_writer(self) -> Callable[[bytes], None]:
        """Writes pieces of a streamed body, framed here (see the module's text)."""
        assert self._transport is not None
        write = self._transport.write
        if not self._chunked:
            return write

        def write_chunk(data: bytes) -> None:
            if data:  # an empty chunk would end the body
                write(b"%x\r\n%b\r\n" % (len(data), data))

        return write_chunk

    def finish(self) -> None:
        """The answer is complete: end the body, then close or read the next request."""
        self._write(self._h11.send(h11.EndOfMessage()))
        self._end_exchange()
        if self._refused:
            self._linger()
            return
        reusable = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if not reusable or self._siblings.closing:
            self.close()
            return
        self._h11.start_next_cycle()
        self._expect_request(self._limits.idle_seconds)
        self._loop.call_soon(self._read_events)

    def _lose_stream(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.lost()

    def _end_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not exchange.over.done():
            exchange.over.set_result(None)

    # -- closing --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close when everything written is sent, which may not take for ever either."""
        if self._transport is not None:
            self._transport.close()
            self._limit_stall()

    def close_if_idle(self) -> None:
        """Close unless a request is being answered."""
        if self._exchange is None:
            self.close()

    def abort(self) -> None:
        """Close at once, whatever is still to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def _closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _write(self, data: bytes | None) -> None:
        if data and not self._closing():
            assert self._transport is not None
            self._transport.write(data)
