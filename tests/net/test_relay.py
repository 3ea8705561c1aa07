"""The log of a task and its readers: nothing lost, nothing twice, no half frame."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llorch.net.relay import PIECE_BYTES, FrameLog, Reader
from llorch.wire import sse

FRAMES = st.lists(
    st.builds(
        lambda text, n: sse.frame("token", {"t": text}, f"t{n}"),
        st.text(max_size=20),
        st.integers(0),
    ),
    min_size=1,
    max_size=12,
)


class Client:
    """A stream that is ready as long as the test lets it."""

    def __init__(self, room: int | None = None) -> None:
        self.got = b""
        self.ready = True
        self.on_ready: Callable[[], None] | None = None
        self.ends = 0
        self.room = room

    def write(self, data: bytes) -> None:
        assert self.ready
        assert self.ends == 0
        self.got += data
        if self.room is not None:
            self.room -= len(data)
            self.ready = self.room > 0

    def read(self, room: int | None) -> None:
        self.room, self.ready = room, True
        if self.on_ready is not None:
            self.on_ready()

    def end(self) -> None:
        self.ends += 1


def read(log: FrameLog, client: Client, offset: int = 0) -> Reader:
    return log.read(client, offset, client.end)  # type: ignore[arg-type]


def test_frames_are_whole_in_the_log_wherever_their_bytes_are_cut():
    frames = [sse.frame("token", {"t": f"x{n}\n\n"}, f"t{n}") for n in range(3)]
    raw = b"".join(frames)
    for first in range(len(raw) + 1):
        log = FrameLog()
        log.received(raw[:first])
        assert raw.startswith(log.data)
        assert not log.data or log.data.endswith(b"\n\n")
        log.received(raw[first:])
        assert log.data == raw


@given(FRAMES, st.lists(st.integers(0, 2000), max_size=20))
def test_readers_get_every_byte_once_however_the_bytes_are_cut(frames, cuts):
    raw = b"".join(frames)
    log, client = FrameLog(), Client()
    read(log, client)
    places = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    for start, end in pairwise(places):
        log.received(raw[start:end])
        assert client.got == log.data
    log.close()
    assert client.got == raw
    assert client.ends == 1


@given(FRAMES, st.data())
def test_slow_readers_and_late_ones_lose_and_repeat_nothing(frames, data):
    log = FrameLog()
    clients: list[tuple[int, Client]] = []
    boundaries = [0]
    for frame in frames:
        if data.draw(st.booleans()):
            offset = data.draw(st.sampled_from(boundaries))
            client = Client(room=data.draw(st.none() | st.integers(1, 60)))
            clients.append((offset, client))
            read(log, client, offset)
        if clients and data.draw(st.booleans()):
            data.draw(st.sampled_from(clients))[1].read(data.draw(st.none() | st.integers(1, 60)))
        log.received(frame)
        boundaries.append(len(log.data))
    log.close()
    for offset, client in clients:
        assert (b"".join(frames)[offset:]).startswith(client.got)
        client.read(None)
        assert client.got == b"".join(frames)[offset:]
        assert client.ends == 1
    assert log.readers == 0


def test_a_reader_that_is_far_behind_gets_pieces_not_everything_at_once():
    log = FrameLog()
    log.received(sse.frame("token", {"t": "x" * 5 * PIECE_BYTES}, "t0"))
    client = Client(room=1)
    read(log, client)
    assert len(client.got) == PIECE_BYTES
    client.read(None)
    assert client.got == log.data


def test_the_tail_of_a_broken_stream_is_dropped_and_what_follows_is_whole():
    log, client = FrameLog(), Client()
    read(log, client)
    whole = sse.frame("token", {"t": "a"}, "t0")
    log.received(whole + b"id: t1\nevent: tok")
    log.drop_tail()
    error = sse.frame("error", {}, "error")
    log.append(error)
    log.close()
    assert client.got == log.data == whole + error


def test_nothing_is_added_after_the_end():
    log, client = FrameLog(), Client()
    log.received(sse.DONE)
    log.close()
    log.received(sse.DONE)
    log.append(sse.DONE)
    read(log, client)
    assert client.got == sse.DONE
    assert client.ends == 1


def test_a_reader_that_left_gets_nothing_more():
    log, client = FrameLog(), Client()
    reader = read(log, client)
    log.leave(reader)
    log.leave(reader)
    log.received(sse.DONE)
    log.close()
    assert client.got == b""
    assert client.ends == 0


def test_readers_of_a_silent_log_hear_a_comment_and_those_in_mid_frame_do_not():
    log, client, behind = FrameLog(), Client(), Client(room=3)
    read(log, client)
    read(log, behind)
    frame = sse.frame("started", {}, "s1")
    log.received(frame)
    log.received(frame)
    log.ping()
    assert client.got == frame * 2, "it has just spoken"
    log.received(frame[:-1])
    log.ping()
    assert client.got == frame * 2 + sse.KEEP_ALIVE
    assert behind.got == frame
    log.received(frame[-1:])
    assert client.got == frame * 2 + sse.KEEP_ALIVE + frame
    assert log.data == frame * 3
