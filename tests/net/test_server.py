"""The server, byte by byte, through real sockets on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from contextlib import asynccontextmanager

import pytest

from llorch.errors import NotFound
from llorch.net.exchange import Exchange, Request, StreamOut
from llorch.net.listener import HttpServer
from llorch.wire import sse
from tests.net.looped import run, until
from tests.net.raw import Raw, a_server


async def mirror(request: Request) -> None:
    """Answers with what it was asked."""
    request.exchange.respond_json(
        {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "body": request.body.decode(),
            "correlation_id": request.correlation_id,
        }
    )


class Held:
    """An application that answers when the test says so."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> None:
        self.requests.append(request)

    async def next(self, count: int = 1) -> Exchange:
        await until(lambda: len(self.requests) >= count, "no request")
        return self.requests[count - 1].exchange

    async def stream(self, count: int = 1) -> StreamOut:
        return (await self.next(count)).stream(200, sse.HEADERS)


@asynccontextmanager
async def connected(app, **limits):
    async with a_server(app, **limits) as server:
        client = await Raw.to(server)
        try:
            yield client, server
        finally:
            await client.leave()


def post(body: bytes, *headers: bytes) -> bytes:
    head = [b"POST / HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


# -- requests ---------------------------------------------------------------------------------


def test_a_connection_carries_many_requests():
    async def main() -> None:
        async with connected(mirror) as (client, _):
            for number in range(3):
                reply = await client.get(f"/a%20b?n={number}&empty=")
                assert reply.status == 200
                assert reply.json()["path"] == "/a b"
                assert reply.json()["query"] == {"n": str(number), "empty": ""}

    run(main())


def test_pipelined_requests_are_answered_in_their_order():
    async def main() -> None:
        async with connected(mirror) as (client, _):
            await client.send(post(b"one") + post(b"two") + post(b"three"))
            bodies = [(await client.reply()).json()["body"] for _ in range(3)]
            assert bodies == ["one", "two", "three"]

    run(main())


def test_a_request_may_arrive_byte_by_byte():
    async def main() -> None:
        async with connected(mirror) as (client, _):
            for byte in post(b"slow"):
                await client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.reply()).json()["body"] == "slow"

    run(main())


def test_a_head_request_is_answered_by_the_head_alone():
    async def main() -> None:
        async with connected(mirror) as (client, _):
            await client.send(b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n")
            reply = await client.reply("HEAD")
            assert int(reply.headers["content-length"]) > 0
            assert reply.body == b""
            assert (await client.get("/next")).json()["path"] == "/next"

    run(main())


def test_a_head_request_for_a_stream_ends_at_once():
    async def app(request: Request) -> None:
        out = request.exchange.stream(200, sse.HEADERS)
        out.write(b"data: 1\n\n")
        out.end()

    async def main() -> None:
        async with connected(app) as (client, _):
            for _ in range(2):
                await client.send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await client.reply("HEAD")).body == b""

    run(main())


def test_http_1_0_gets_a_body_until_the_connection_closes():
    async def app(request: Request) -> None:
        out = request.exchange.stream(200, sse.HEADERS)
        out.write(b"data: 1\n\n")
        out.write(b"data: 2\n\n")
        out.end()

    async def main() -> None:
        async with connected(app) as (client, _):
            await client.send(b"GET / HTTP/1.0\r\n\r\n")
            head, _, body = (await client.closed()).partition(b"\r\n\r\n")
            assert b"chunked" not in head.lower()
            assert b"connection: close" in head.lower()
            assert body == b"data: 1\n\ndata: 2\n\n"

    run(main())


def test_http_1_1_gets_chunks_and_keeps_the_connection():
    async def app(request: Request) -> None:
        out = request.exchange.stream(200, sse.HEADERS)
        out.write(b"data: 1\n\n")
        out.write(b"")
        out.write(b"data: 2\n\n")
        out.end()
        out.write(b"data: too late\n\n")

    async def main() -> None:
        async with connected(app) as (client, _):
            for _ in range(3):
                reply = await client.get()
                assert reply.headers["transfer-encoding"] == "chunked"
                assert reply.body == b"data: 1\n\ndata: 2\n\n"

    run(main())


def test_connection_close_is_obeyed():
    async def main() -> None:
        async with connected(mirror) as (client, _):
            reply = await client.get("/", "Connection: close")
            assert reply.headers["connection"] == "close"
            assert await client.closed() == b""

    run(main())


def test_no_content_has_no_length():
    async def app(request: Request) -> None:
        request.exchange.respond(204, b"")

    async def main() -> None:
        async with connected(app) as (client, _):
            for _ in range(2):
                reply = await client.get()
                assert reply.status == 204
                assert "content-length" not in reply.headers
                assert "transfer-encoding" not in reply.headers

    run(main())


def test_a_chunked_request_body_is_put_together():
    async def main() -> None:
        async with connected(mirror) as (client, _):
            head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            await client.send(head + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: z\r\n\r\n")
            assert (await client.reply()).json()["body"] == "abcde"

    run(main())


def test_a_client_that_waits_for_100_continue_is_told_to():
    async def main() -> None:
        async with connected(mirror) as (client, _):
            whole = post(b"abc", b"Expect: 100-continue")
            await client.send(whole[:-3])
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
            await client.send(whole[-3:])
            assert (await client.reply()).json()["body"] == "abc"

    run(main())


@pytest.mark.parametrize(
    "target", ["http://x:80/deep/er?a=1", "//x/y", "//[", "/%ff%zz", "/?%ff=%", "*"]
)
def test_odd_targets_are_answered(target):
    async def main() -> None:
        async with connected(mirror) as (client, _):
            reply = await client.get(target)
            assert reply.status == 200
            if target.startswith("http"):
                assert reply.json()["path"] == "/deep/er"
                assert reply.json()["query"] == {"a": "1"}

    run(main())


@pytest.mark.parametrize(
    "junk",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/x\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # a TLS client
    ],
)
def test_malformed_requests_get_400_and_the_connection_ends(junk):
    async def main() -> None:
        async with connected(mirror) as (client, _):
            await client.send(junk)
            reply = await client.reply()
            assert reply.status == 400
            assert reply.json()["error"]["code"] == "INVALID_REQUEST"
            assert reply.headers["connection"] == "close"
            assert await client.closed() == b""

    run(main())


def test_headers_over_the_limit_get_431():
    async def main() -> None:
        async with connected(mirror, max_header_bytes=1000) as (client, _):
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nLong: " + b"a" * 2000)
            reply = await client.reply()
            assert reply.status == 431
            assert reply.json()["error"]["code"] == "HEADERS_TOO_LARGE"

    run(main())


def test_a_declared_body_over_the_limit_is_refused_before_it_is_sent():
    async def main() -> None:
        async with connected(mirror, max_body_bytes=1000) as (client, _):
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\nExpect: 100-continue"
            await client.send(head + b"\r\n\r\n")
            reply = await client.reply()
            assert reply.status == 413
            assert reply.json()["error"]["code"] == "BODY_TOO_LARGE"
            assert await client.closed() == b""

    run(main())


def test_a_chunked_body_over_the_limit_gets_413_though_the_client_goes_on_sending():
    async def main() -> None:
        async with connected(mirror, max_body_bytes=1000) as (client, _):
            await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(50):
                await client.send(b"ff\r\n" + b"a" * 255 + b"\r\n")
            assert (await client.reply()).status == 413

    run(main())


def test_a_body_of_exactly_the_limit_is_taken():
    async def main() -> None:
        async with connected(mirror, max_body_bytes=1000) as (client, _):
            await client.send(post(b"a" * 1000))
            assert (await client.reply()).status == 200

    run(main())


# -- correlation ids and errors ---------------------------------------------------------------


@pytest.mark.parametrize("sent", ["abc-123", "A" * 64])
def test_a_good_correlation_id_is_echoed(sent):
    async def main() -> None:
        async with connected(mirror) as (client, _):
            reply = await client.get("/", f"X-Correlation-Id: {sent}")
            assert reply.headers["x-correlation-id"] == reply.json()["correlation_id"] == sent

    run(main())


@pytest.mark.parametrize("sent", ["", "A" * 65, "a b", "a_b", "\u00e9"])
def test_a_bad_correlation_id_is_replaced(sent):
    async def main() -> None:
        async with connected(mirror) as (client, _):
            reply = await client.get("/", f"X-Correlation-Id: {sent}")
            assert re.fullmatch(r"[0-9a-f-]{36}", reply.headers["x-correlation-id"])

    run(main())


def test_an_error_of_ours_becomes_its_answer():
    async def app(request: Request) -> None:
        raise NotFound("it is not here", hint="look there", retry_after_ms=1500)

    async def main() -> None:
        async with connected(app) as (client, _):
            for _ in range(2):  # the connection goes on
                reply = await client.get()
                assert reply.status == 404
                assert reply.json()["error"]["message"] == "it is not here"
                assert reply.headers["retry-after"] == "2"
                assert reply.headers["x-backoff-ms"] == "1500"

    run(main())


def test_a_bug_becomes_500_without_its_traceback(caplog):
    async def app(request: Request) -> None:
        raise RuntimeError("secret detail")

    async def main() -> None:
        async with connected(app) as (client, _):
            reply = await client.get("/here")
            assert reply.status == 500
            assert reply.json()["error"]["code"] == "INTERNAL"
            assert b"secret" not in reply.body
            assert b"Traceback" not in reply.body

    run(main())
    assert "internal error in GET '/here'" in caplog.text


@pytest.mark.parametrize("error", [NotFound("late"), RuntimeError("late")])
def test_an_error_after_the_stream_began_cuts_it(error, caplog):
    async def app(request: Request) -> None:
        request.exchange.stream(200, sse.HEADERS).write(b"data: 1\n\n")
        await asyncio.sleep(0)
        raise error

    async def main() -> None:
        async with connected(app) as (client, _):
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert not (await client.closed()).endswith(b"0\r\n\r\n")

    run(main())


def test_an_error_after_the_answer_does_not_harm_the_next_request(caplog):
    async def app(request: Request) -> None:
        request.exchange.respond_json({"path": request.path})
        await asyncio.sleep(0)
        raise RuntimeError("afterwards")

    async def main() -> None:
        async with connected(app) as (client, _):
            for path in ("/1", "/2", "/3"):
                assert (await client.get(path)).json() == {"path": path}

    run(main())
    assert caplog.text.count("internal error") == 3


# -- clients that dawdle, leave or are too many -----------------------------------------------


def test_a_request_that_trickles_in_gets_408():
    async def main() -> None:
        async with connected(mirror, request_seconds=0.2) as (client, _):
            await client.send(b"GET / HTTP/1.1\r\n")
            reply = await client.reply()
            assert reply.status == 408
            assert reply.json()["error"]["code"] == "REQUEST_TIMEOUT"

    run(main())


def test_a_body_that_trickles_in_gets_408():
    async def main() -> None:
        async with connected(mirror, request_seconds=0.2) as (client, _):
            await client.send(post(b"abc")[:-1])
            assert (await client.reply()).status == 408

    run(main())


def test_a_connection_that_asks_nothing_is_closed_without_a_word():
    async def main() -> None:
        async with connected(mirror, request_seconds=0.1) as (client, _):
            assert await client.closed() == b""

    run(main())


def test_an_idle_connection_is_closed():
    async def main() -> None:
        async with connected(mirror, idle_seconds=0.1) as (client, _):
            await client.get()
            assert await client.closed() == b""

    run(main())


def test_one_connection_too_many_is_refused_and_its_place_can_be_taken_later():
    async def main() -> None:
        async with connected(mirror, max_connections=1) as (first, server):
            await first.get()
            second = await Raw.to(server)
            reply = await second.reply()
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            await second.leave()
            await first.leave()
            await until(lambda: not len(server._siblings), "connections are left")
            third = await Raw.to(server)
            assert (await third.get()).status == 200
            await third.leave()

    run(main())


@pytest.mark.parametrize(
    "sent", [b"", b"GET /", b"POST / HTTP/1.1\r\nHost: x\r\n", post(b"abc")[:-1]]
)
@pytest.mark.parametrize("how", ["half-close", "reset"])
def test_a_client_that_leaves_before_its_request_is_complete_leaves_nothing(sent, how):
    async def main() -> None:
        app = Held()
        async with connected(app) as (client, server):
            await client.send(sent)
            await until(lambda: len(server._siblings) == 1, "not connected")
            if how == "half-close":
                client.writer.write_eof()
                assert await client.closed() == b""
            else:
                await client.leave()
            await until(lambda: not len(server._siblings), "the connection is left")
            assert not app.requests

    run(main())


@pytest.mark.parametrize("how", ["half-close", "reset"])
@pytest.mark.parametrize("phase", ["before the head", "while streaming"])
def test_an_application_learns_that_its_client_has_left(phase, how):
    async def main() -> None:
        app = Held()
        async with connected(app) as (client, server):
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            exchange = await app.next()
            out = exchange.stream(200, sse.HEADERS) if phase == "while streaming" else None
            if how == "half-close":
                client.writer.write_eof()
            else:
                await client.leave()
            await asyncio.wait_for(asyncio.shield(exchange.over), 10)
            if out is None:
                exchange.respond_json({})  # too late, and harmless
            else:
                out.write(b"data: 1\n\n")
                out.end()
            await until(lambda: not len(server._siblings), "the connection is left")

    run(main())


def test_a_client_that_talks_on_while_it_is_answered_is_cut_off():
    async def main() -> None:
        app = Held()
        async with connected(app, max_header_bytes=10_000) as (client, _):
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            exchange = await app.next()
            client.writer.write(b"a" * 50_000)
            await asyncio.wait_for(asyncio.shield(exchange.over), 10)

    run(main())


def test_a_client_that_stops_reading_is_cut_off_and_little_is_kept_for_it():
    async def main() -> None:
        app = Held()
        async with connected(app, stalled_seconds=0.3, buffer_bytes=10_000) as (client, server):
            client.writer.transport.pause_reading()
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            out = await app.stream()
            connection = next(iter(server._siblings))
            piece = b"data: " + b"x" * 4000 + b"\n\n"
            while out.ready:
                out.write(piece)
                await asyncio.sleep(0)
            assert connection._transport.get_write_buffer_size() <= 10_000 + len(piece) + 8
            exchange = await app.next()
            await asyncio.wait_for(asyncio.shield(exchange.over), 10)
            await until(lambda: not len(server._siblings), "the connection is left")

    run(main())


def test_a_client_that_reads_again_in_time_is_not_cut_off():
    async def main() -> None:
        app = Held()
        async with connected(app, stalled_seconds=20, buffer_bytes=10_000) as (client, _):
            client.writer.transport.pause_reading()
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            out = await app.stream()
            again = asyncio.Event()
            out.on_ready = again.set
            written = 0
            while out.ready:
                out.write(b"x" * 5000)
                written += 5000
                await asyncio.sleep(0)
            client.writer.transport.resume_reading()
            reading = asyncio.ensure_future(client.reply())
            await asyncio.wait_for(again.wait(), 10)
            out.end()
            assert len((await reading).body) == written

    run(main())


@pytest.mark.parametrize("whole", [True, False])
def test_a_close_does_not_wait_for_ever_for_a_client_that_does_not_read(whole):
    """A few bytes too little for the buffer's limit are left when the answer is complete."""

    async def app(request: Request) -> None:
        body = b"x" * 12_000_000
        if whole:
            request.exchange.respond(200, body)
        else:
            out = request.exchange.stream(200, [])
            out.write(body)
            out.end()

    async def main() -> None:
        limits = {"stalled_seconds": 0.3, "buffer_bytes": 50_000_000}
        async with connected(app, **limits) as (client, server):
            client.writer.transport.pause_reading()
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await until(lambda: len(server._siblings), "not connected")
            await until(lambda: not len(server._siblings), "the connection is left")

    run(main())


# -- closing ----------------------------------------------------------------------------------


def test_closing_ends_idle_connections_at_once_and_lets_answers_finish():
    async def main() -> None:
        app = Held()
        server = HttpServer(app)
        await server.bind("127.0.0.1", 0)
        idle, busy = await Raw.to(server), await Raw.to(server)
        await busy.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        out = await app.stream()
        await until(lambda: len(server._siblings) == 2, "not connected")
        closing = asyncio.ensure_future(server.close(20))
        assert await idle.closed() == b""
        with pytest.raises(ConnectionRefusedError):
            await Raw.to(server)
        out.write(b"data: 1\n\n")
        out.end()
        assert (await busy.reply()).body == b"data: 1\n\n"
        assert await busy.closed() == b""
        await closing
        await idle.leave()
        await busy.leave()

    run(main())


def test_closing_cuts_what_does_not_finish_in_time():
    async def main() -> None:
        app = Held()
        server = HttpServer(app)
        await server.bind("127.0.0.1", 0)
        client = await Raw.to(server)
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await app.stream()
        await server.close(0.05)
        await client.closed()
        await client.leave()

    run(main())


def test_five_hundred_requests_leave_no_file_open():
    async def main() -> None:
        async with a_server(mirror) as server:
            before = len(os.listdir("/proc/self/fd"))
            for number in range(500):
                client = await Raw.to(server)
                if number % 2:
                    await client.get("/", "Connection: close")
                await client.leave()
            await until(lambda: not len(server._siblings), "connections are left")
            await until(
                lambda: len(os.listdir("/proc/self/fd")) <= before + 1, "files are left open"
            )

    run(main())


def test_nothing_of_a_body_is_logged(caplog):
    async def app(request: Request) -> None:
        json.loads(request.body)

    async def main() -> None:
        async with connected(app) as (client, _):
            await client.send(post(b"very private words"))
            assert (await client.reply()).status == 500

    caplog.set_level(logging.DEBUG)
    run(main())
    assert "very private words" not in caplog.text
