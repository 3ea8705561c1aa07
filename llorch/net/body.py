"""Removes the transfer coding from an answer's body, moving bytes and parsing nothing in them.

Three framings (RFC 9112 section 6): chunked, a known length, or until the connection closes.
Each decoder is fed what arrived, returns the body bytes in it, and says when the body is complete.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

MAX_CHUNK_HEAD = 1024
MAX_TRAILER = 64 * 1024


HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")


class BadBody(ValueError):
    """The other side does not keep to the framing."""


class Decoder(Protocol):
    """Feeds on raw bytes. `done`: the body is complete and the connection may be used again."""

    done: bool

    def feed(self, data: bytes) -> bytes:
        """Body bytes in `data`. Raises BadBody."""

    def close(self) -> bool:
        """The connection ended: True if the body was complete then."""


class UntilClose:
    """Everything is body until the connection closes."""

    done = False

    def feed(self, data: bytes) -> bytes:
        """All of it."""
        return data

    def close(self) -> bool:
        """Closing is how such a body ends."""
        return True


class KnownLength:
    """A body of `length` bytes."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def feed(self, data: bytes) -> bytes:
        """As much of it as belongs to the body."""
        body = data[: self._left]
        self._left -= len(body)
        self.done = self._left == 0
        return body

    def close(self) -> bool:
        """Complete only if everything came."""
        return self.done


class Chunked:
    """Chunks of the form SIZE CRLF DATA CRLF, the last of size 0; extensions and trailers are
    passed over."""

    __slots__ = ("_left", "_raw", "done")

    def __init__(self) -> None:
        self.done = False
        self._raw = b""
        self._left = 0  # bytes of the current chunk that are still to come

    def feed(self, data: bytes) -> bytes:
        """The data of the chunks, or parts of chunks, that have arrived."""
        if not self._left and not self._raw:
            # A token's usual packet is one whole small chunk: it is taken out without the loop.
            head_end = data.find(b"\r\n", 0, 6)
            if head_end > 0 and HEX_DIGITS.issuperset(data[:head_end]):
                size = int(data[:head_end], 16)
                if size and len(data) == head_end + 4 + size:
                    return data[head_end + 2 : -2]
        raw = self._raw + data if self._raw else data
        pieces: list[bytes] = []
        at = 0
        while at < len(raw) and not self.done:
            taken = self._step(raw, at, pieces)
            if taken == 0:
                break
            at += taken
        self._raw = raw[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _step(self, raw: bytes, at: int, pieces: list[bytes]) -> int:
        """Take one chunk head with what is here of its data, or more of a begun chunk."""
        if self._left:
            return self._take(raw, at, pieces)
        head_end = raw.find(b"\r\n", at)
        if head_end < 0:
            if len(raw) - at > MAX_CHUNK_HEAD:
                raise BadBody("a chunk head is too long")
            return 0
        size = self._size(raw[at:head_end])
        if size == 0:
            return self._trailer(raw, at, head_end)
        self._left = size + 2  # with the CRLF after the data
        return head_end + 2 - at

    def _take(self, raw: bytes, at: int, pieces: list[bytes]) -> int:
        taken = min(self._left, len(raw) - at)
        data_bytes = min(taken, self._left - 2)
        if data_bytes > 0:
            pieces.append(raw[at : at + data_bytes])
        self._left -= taken
        return taken

    @staticmethod
    def _size(head: bytes) -> int:
        digits = head.partition(b";")[0].strip()
        if not digits or not HEX_DIGITS.issuperset(digits):
            raise BadBody("a chunk head is no hexadecimal number")
        return int(digits, 16)

    def _trailer(self, raw: bytes, at: int, head_end: int) -> int:
        """The last chunk's head and the trailer, which ends with an empty line."""
        if raw.startswith(b"\r\n", head_end + 2):
            self.done = True
            return head_end + 4 - at
        end = raw.find(b"\r\n\r\n", head_end)
        if end < 0:
            if len(raw) - head_end > MAX_TRAILER:
                raise BadBody("a trailer is too long")
            return 0
        self.done = True
        return end + 4 - at

    def close(self) -> bool:
        """Complete only if the last chunk came."""
        return self.done


def decoder(method: str, status: int, headers: Iterable[tuple[bytes, bytes]]) -> Decoder:
    """The decoder that an answer's head calls for. Names are lower case, as h11 gives them."""
    fields = dict(headers)
    if method == "HEAD" or status in (204, 304) or status < 200:
        return KnownLength(0)
    if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
        return Chunked()
    if b"content-length" in fields:
        return KnownLength(int(fields[b"content-length"]))
    return UntilClose()
