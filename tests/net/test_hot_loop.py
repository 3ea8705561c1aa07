"""The loop that reads a relay's sockets itself: the same answers, the same ends."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from llorch.net.client import open_stream
from llorch.net.hot_loop import HotLoop, run_hot
from tests.net.looped import until
from tests.net.scripted import a_script
from tests.net.test_client import CHUNKED, HEAD, SIZED, UNTIL_CLOSE, Sink


async def read_hot(url: str) -> Sink:
    reply = await open_stream("GET", url)
    sink = Sink()
    reply.attach(sink)
    reply.connection.read_hot()
    await until(lambda: sink.over, "no end")
    return sink


@pytest.mark.parametrize("answer", [SIZED, CHUNKED, UNTIL_CLOSE])
def test_an_answer_may_be_cut_anywhere(answer):
    async def main() -> None:
        for place in range(len(answer) + 1):
            async with a_script(answer[:place], answer[place:]) as script:
                sink = await read_hot(script.url)
                assert (sink.body, sink.calls[-1]) == (b"hello", True)
                assert sink.calls.count(True) == 1

    run_hot(main())


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("answer", [SIZED[:-1], CHUNKED[:-1], CHUNKED[:-6] + b"zz\r\n"])
def test_a_broken_answer_is_not_complete(answer, then):
    async def main() -> None:
        async with a_script(HEAD, answer[len(HEAD) :], then=then) as script:
            assert (await read_hot(script.url)).calls[-1] is False

    run_hot(main())


async def read_and_close(url: str) -> None:
    reply = await open_stream("GET", url)
    sink = Sink()
    reply.attach(sink)
    reply.connection.read_hot()
    await until(lambda: sink.body, "no body")
    await reply.aclose()
    await until(lambda: sink.over, "no end")
    assert sink.calls[-1] is False


def test_closing_while_reading_ends_it_and_frees_the_descriptor():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            async with a_script(SIZED[:-1], then="wait") as script:
                await read_and_close(script.url)
                await asyncio.wait_for(script.gone.wait(), 10)
        assert isinstance(loop, HotLoop)
        assert not getattr(loop.hot, "_hot", {})
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before + 1, "files are left")

    run_hot(main())


class Faulty(Sink):
    def ended(self, complete: bool) -> None:
        super().ended(complete)
        raise RuntimeError("a bug")


def test_a_bug_at_the_end_of_an_answer_does_not_end_the_loop(caplog):
    async def main() -> None:
        async with a_script(SIZED[:-1], then="wait") as script:
            reply = await open_stream("GET", script.url)
            sink = Faulty()
            reply.attach(sink)
            reply.connection.read_hot()
            await until(lambda: sink.body, "no body")
            assert reply.connection.transport is not None
            reply.connection.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            await until(lambda: sink.over, "no end")
            await asyncio.wait_for(script.gone.wait(), 10)

    run_hot(main())
    assert "internal error while relaying" in caplog.text


def test_timers_and_threads_are_served_while_only_hot_sockets_speak():
    async def main() -> None:
        endless = [HEAD + b"\r\n"] + [b"x"] * 2000
        async with a_script(*endless, then="wait") as script:
            reply = await open_stream("GET", script.url)
            reply.attach(Sink())
            reply.connection.read_hot()
            loop = asyncio.get_running_loop()
            await asyncio.sleep(0.05)
            assert await asyncio.wait_for(loop.run_in_executor(None, lambda: 7), 10) == 7
            await reply.aclose()

    run_hot(main())


def test_what_is_left_is_cancelled_and_the_result_is_given():
    ended: list[bool] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> int:
        task = asyncio.ensure_future(forever())
        await asyncio.sleep(0)
        assert not task.done()
        return 7

    assert run_hot(main()) == 7
    assert ended == [True]
