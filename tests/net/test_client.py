"""The streaming client, against servers that say whatever the test wants."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from llorch.errors import Unreachable, WorkerLost
from llorch.net.client import ask, open_stream
from llorch.net.transport import engine_transport
from tests.net.looped import run, until
from tests.net.scripted import a_script

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
SIZED = HEAD + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
UNTIL_CLOSE = HEAD + b"\r\nhello"
OVER_100 = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + SIZED


class Sink:
    """Writes down what it is given, in order."""

    def __init__(self) -> None:
        self.calls: list[bytes | bool] = []

    def received(self, data: bytes) -> None:
        assert data
        self.calls.append(data)

    def ended(self, complete: bool) -> None:
        self.calls.append(complete)

    @property
    def over(self) -> bool:
        return bool(self.calls) and isinstance(self.calls[-1], bool)

    @property
    def body(self) -> bytes:
        return b"".join(c for c in self.calls if isinstance(c, bytes))


@pytest.mark.parametrize("answer", [SIZED, CHUNKED, UNTIL_CLOSE, OVER_100])
def test_an_answer_may_be_cut_anywhere(answer):
    async def main() -> None:
        for place in range(len(answer) + 1):
            async with a_script(answer[:place], answer[place:]) as script:
                reply = await open_stream("GET", script.url)
                assert reply.status == 200
                assert reply.header(b"content-type") == b"text/plain"
                assert await reply.read() == b"hello"

    run(main())


@pytest.mark.parametrize("answer", [SIZED, CHUNKED, UNTIL_CLOSE, OVER_100])
def test_an_answer_may_come_byte_by_byte(answer):
    async def main() -> None:
        async with a_script(*(bytes([b]) for b in answer)) as script:
            assert await ask("GET", script.url) == (200, b"hello")

    run(main())


def test_the_request_is_complete():
    async def main() -> None:
        async with a_script(SIZED) as script:
            headers = [("content-type", "text/x"), ("x-correlation-id", "abc")]
            reply = await open_stream("POST", script.url, headers=headers, body=b"body")
            await reply.read()
            head, _, body = script.requests[0].partition(b"\r\n\r\n")
            assert head.startswith(b"POST /path?q=1 HTTP/1.1\r\n")
            assert b"\r\nhost: 127.0.0.1:" in head.lower()
            assert b"\r\nx-correlation-id: abc" in head.lower()
            assert body == b"body"

    run(main())


def test_an_empty_post_says_that_it_is_empty():
    async def main() -> None:
        async with a_script(SIZED) as script:
            await ask("POST", script.url)
            assert b"content-length: 0\r\n" in script.requests[0].lower()

    run(main())


def test_the_connection_is_closed_when_the_body_is_complete():
    async def main() -> None:
        for answer in (SIZED, CHUNKED):
            async with a_script(answer, then="wait") as script:
                assert await (await open_stream("GET", script.url)).read() == b"hello"
                await asyncio.wait_for(script.gone.wait(), 10)

    run(main())


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_an_answer_without_a_body_is_complete_at_once(status):
    async def main() -> None:
        async with a_script(b"HTTP/1.1 " + status + b"\r\n\r\n", then="wait") as script:
            assert await (await open_stream("GET", script.url)).read() == b""

    run(main())


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 2", HEAD, b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_connection_that_breaks_before_the_answer_is_told(sent, then):
    async def main() -> None:
        async with a_script(sent, then=then) as script:
            with pytest.raises(WorkerLost, match="before the answer began"):
                await open_stream("GET", script.url)

    run(main())


@pytest.mark.parametrize("answer", [SIZED, CHUNKED])
def test_a_connection_that_breaks_in_the_body_is_told_after_what_came(answer):
    async def main() -> None:
        for missing in range(1, 6):
            async with a_script(answer[:-missing]) as script:
                reply = await open_stream("GET", script.url)
                with pytest.raises(WorkerLost, match="in the middle"):
                    await reply.read()

    run(main())


@pytest.mark.parametrize(
    "junk",
    [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", HEAD + b"Content-Length: x\r\n\r\n"],
)
def test_an_answer_that_is_no_http_is_told(junk):
    async def main() -> None:
        async with a_script(junk, then="wait") as script:
            with pytest.raises(WorkerLost, match="no HTTP"):
                await open_stream("GET", script.url)

    run(main())


def test_a_body_with_bad_framing_is_told():
    async def main() -> None:
        bad = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\nzz\r\n"
        async with a_script(bad, then="wait") as script:
            with pytest.raises(WorkerLost):
                await (await open_stream("GET", script.url)).read()
            await asyncio.wait_for(script.gone.wait(), 10)

    run(main())


def test_nobody_there_is_told_with_the_address():
    async def main() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            with pytest.raises(Unreachable, match=f"127.0.0.1:{port}: Connection refused"):
                await open_stream("GET", f"http://127.0.0.1:{port}/")

    run(main())


@pytest.mark.parametrize("url", ["https://x/", "ftp://x", "x:1", "http://", "http://[::1/"])
def test_an_url_that_it_cannot_speak_to_is_told(url):
    async def main() -> None:
        with pytest.raises(Unreachable):
            await open_stream("GET", url)

    run(main())


def test_a_name_that_does_not_exist_is_told():
    async def main() -> None:
        with pytest.raises(Unreachable, match=r"no\.such\.host\.invalid"):
            await open_stream("GET", "http://no.such.host.invalid/")

    run(main())


def test_a_question_has_a_time_limit_though_an_answer_has_begun():
    async def main() -> None:
        for sent in (b"", HEAD, SIZED[:-1]):
            async with a_script(sent, then="wait") as script:
                with pytest.raises(Unreachable, match=r"within 0\.1 s"):
                    await ask("GET", script.url, seconds=0.1)
                await asyncio.wait_for(script.gone.wait(), 10)

    run(main())


def test_a_sink_gets_early_bytes_first_and_then_the_end_once():
    async def main() -> None:
        async with a_script(CHUNKED) as script:
            reply = await open_stream("GET", script.url)
            await asyncio.wait_for(script.gone.wait(), 10)
            sink = Sink()
            reply.attach(sink)
            await until(lambda: sink.over, "no end")
            assert sink.body == b"hello"
            assert sink.calls.count(True) == 1
            assert sink.calls[-1] is True

    run(main())


@pytest.mark.parametrize("answer", [SIZED[:-1], CHUNKED[:-1], UNTIL_CLOSE])
def test_a_stream_that_is_closed_here_is_not_complete(answer):
    async def main() -> None:
        async with a_script(answer, then="wait") as script:
            reply = await open_stream("GET", script.url)
            sink = Sink()
            reply.attach(sink)
            await until(lambda: sink.body, "no body")
            await reply.aclose()
            await until(lambda: sink.over, "no end")
            assert sink.calls[-1] is False
            await asyncio.wait_for(script.gone.wait(), 10)

    run(main())


def test_giving_up_while_the_head_is_awaited_closes_the_connection():
    async def main() -> None:
        async with a_script(then="wait") as script:
            opening = asyncio.ensure_future(open_stream("GET", script.url))
            await until(lambda: script.requests, "no request")
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            await asyncio.wait_for(script.gone.wait(), 10)

    run(main())


def test_an_engine_is_spoken_to_in_json_with_its_key():
    async def main() -> None:
        async with a_script(SIZED) as script:
            answer = await engine_transport("POST", script.url, body={"a": "ä"}, api_key="key")
            assert await answer.read() == b"hello"
            assert b"authorization: bearer key\r\n" in script.requests[0].lower()
            assert script.requests[0].endswith('{"a":"ä"}'.encode())

    run(main())


def test_five_hundred_answers_leave_no_file_open():
    async def main() -> None:
        async with a_script(CHUNKED) as script:
            await ask("GET", script.url)
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(500):
                await ask("GET", script.url)
            await until(
                lambda: len(os.listdir("/proc/self/fd")) <= before + 1, "files are left open"
            )

    run(main())
