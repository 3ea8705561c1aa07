"""A stream of frames that is kept, and its readers.

Theory of operation. The log of a task is the one buffer between a worker and any number of
clients: what arrives is appended, and each reader is a cursor into it. A reader that cannot take
more just stays where it is, so nothing is buffered twice and no token is dropped; when its socket
is ready again it goes on from its cursor. A client that comes back is a new cursor, placed after
the event id that it names.

Frames are whole in the log: the tail of a frame that has not fully arrived waits outside it. So a
worker that dies in mid-frame leaves no half frame behind, and whatever the orchestrator itself has
to say can be appended at any moment. Nothing else in the bytes is looked at.
"""

from __future__ import annotations

from collections.abc import Callable

from llorch.net.exchange import StreamOut
from llorch.wire import sse

PIECE_BYTES = 64 * 1024  # how much a reader that is behind gets at once


class FrameLog:
    """The frames of one task, and whoever reads them. `closed`: nothing will be added."""

    __slots__ = ("_length_at_ping", "_readers", "_tail", "closed", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        self.closed = False
        self._tail = b""
        self._readers: list[Reader] = []
        self._length_at_ping = 0

    def received(self, data: bytes) -> None:
        """Append what a worker sent, up to its last frame boundary."""
        if self._tail or not data.endswith(sse.END):
            data = self._whole_frames(data)
        if not data or self.closed:
            return
        start = len(self.data)
        self.data += data
        for reader in self._readers:  # in place, without a call: this runs for every token
            out = reader.out
            if out.ready and reader.offset == start:
                reader.offset = start + len(data)
                out.write(data)

    def _whole_frames(self, data: bytes) -> bytes:
        """Keep back what comes after the last frame boundary."""
        data = self._tail + data
        cut = data.rfind(sse.END) + 2 if sse.END in data else 0
        self._tail = data[cut:]
        return data[:cut]

    def drop_tail(self) -> None:
        """Forget the beginning of a frame whose end will never come."""
        self._tail = b""

    def append(self, frames: bytes) -> None:
        """Append whole frames of the orchestrator's own, before what of a worker's is not whole."""
        tail, self._tail = self._tail, b""
        self.received(frames)
        self._tail = tail

    def close(self) -> None:
        """Nothing will be added: readers end when they have read everything."""
        self.closed = True
        self._tail = b""
        for reader in list(self._readers):
            reader.drain()

    def ping(self) -> None:
        """Send a comment to readers of a log that has not grown since the last call: proxies cut a
        silent stream, and a client that is gone without a word is noticed only by writing to it."""
        if len(self.data) == self._length_at_ping:
            for reader in list(self._readers):
                reader.ping()
        self._length_at_ping = len(self.data)

    def read(self, out: StreamOut, offset: int, on_end: Callable[[], None]) -> Reader:
        """Send everything from an offset on, and what will follow, to a client."""
        reader = Reader(self, out, offset, on_end)
        self._readers.append(reader)
        reader.drain()
        return reader

    def leave(self, reader: Reader) -> None:
        """A reader is gone."""
        if reader in self._readers:
            self._readers.remove(reader)

    @property
    def readers(self) -> int:
        """How many clients read now."""
        return len(self._readers)


class Reader:
    """A client's place in a log: `offset` bytes of it went to `out`. New frames are passed on by
    the log itself while the reader is up to date and its client takes them."""

    __slots__ = ("_log", "_on_end", "offset", "out")

    def __init__(
        self, log: FrameLog, out: StreamOut, offset: int, on_end: Callable[[], None]
    ) -> None:
        self._log = log
        self.out = out
        self.offset = offset
        self._on_end = on_end
        out.on_ready = self.drain

    def ping(self) -> None:
        """Send a comment where it stands between two frames."""
        if self.out.ready and self.offset == len(self._log.data):
            self.out.write(sse.KEEP_ALIVE)

    def drain(self) -> None:
        """Send what this reader is behind, as long as its client takes it."""
        log, out = self._log, self.out
        while out.ready and self.offset < len(log.data):
            piece = bytes(log.data[self.offset : self.offset + PIECE_BYTES])
            self.offset += len(piece)
            out.write(piece)
        if log.closed and self.offset >= len(log.data):
            log.leave(self)
            out.on_ready = None
            self._on_end()
