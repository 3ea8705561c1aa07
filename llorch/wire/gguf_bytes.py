"""The values of a GGUF header, read through a window that moves over a file of any size.

Memory stays at one window however long the header is; strings in arrays are stepped over by their
lengths (0.1 us each), other arrays by their size, without reading.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NoReturn, Protocol

from llorch.errors import ModelFileInvalid

WINDOW_BYTES = 1 << 20
LONGEST_KEPT_TEXT = 4 << 20
# An array with one number per layer is worth keeping; a vocabulary's scores are not.
LONGEST_KEPT_ARRAY = 4096

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

# Value types by number: u8 i8 u16 i16 u32 i32 f32 bool, and u64 i64 f64.
_FIXED = {
    number: struct.Struct("<" + code)
    for number, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
_TEXT, _ARRAY = 8, 9


class Source(Protocol):
    """Bytes that can be read at any place."""

    def size(self) -> int:
        """How many bytes there are."""

    def at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer at the end."""


@dataclass(frozen=True, slots=True)
class WholeBytes:
    """A source that lies in memory."""

    data: bytes

    def size(self) -> int:
        """How many bytes there are."""
        return len(self.data)

    def at(self, offset: int, count: int) -> bytes:
        """A slice."""
        return self.data[offset : offset + count]


@dataclass(frozen=True, slots=True)
class Array:
    """An array of the header: its length, and its whole numbers where it is short."""

    length: int
    numbers: tuple[int, ...] = ()


Value = int | float | bool | str | Array


class Cursor:
    """Reads values one after the other. Every method raises ModelFileInvalid at the file's end."""

    def __init__(self, source: Source) -> None:
        """Start at the first byte."""
        self.position = 0
        self._source = source
        self._size = source.size()
        self._window = b""
        self._window_start = 0

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes from here, without moving."""
        return self._source.at(self.position, count)

    def skip(self, count: int) -> None:
        """Step over bytes without reading them."""
        if count > self._size - self.position:
            self._cut_off()
        self.position += count

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        at = self._within(count)
        self.position += count
        return self._window[at : at + count]

    def u32(self) -> int:
        """An unsigned 32-bit number."""
        value: int = _U32.unpack(self.take(4))[0]
        return value

    def u64(self) -> int:
        """An unsigned 64-bit number."""
        value: int = _U64.unpack(self.take(8))[0]
        return value

    def text(self) -> str:
        """A string: its length, then UTF-8."""
        length = self.u64()
        if length > self._size - self.position:
            self._cut_off()
        if length > LONGEST_KEPT_TEXT:
            raise _damaged(f"a text claims {length} bytes")
        return self.take(length).decode(errors="replace")

    def value(self) -> Value:
        """A value with its type before it."""
        type_number = self.u32()
        if type_number == _ARRAY:
            return self._array()
        return self._plain(type_number)

    def _plain(self, type_number: int) -> int | float | bool | str:
        if type_number == _TEXT:
            return self.text()
        if type_number not in _FIXED:
            raise _damaged(f"value type {type_number} does not exist")
        kind = _FIXED[type_number]
        value: int | float | bool = kind.unpack(self.take(kind.size))[0]
        return value

    def _array(self) -> Array:
        type_number, length = self.u32(), self.u64()
        if type_number == _TEXT:
            self._skip_texts(length)
            return Array(length)
        if type_number not in _FIXED:
            raise _damaged(f"array type {type_number} does not exist")
        kind = _FIXED[type_number]
        if length > LONGEST_KEPT_ARRAY or kind.format in ("<f", "<d"):
            self.skip(length * kind.size)
            return Array(length)
        return Array(length, tuple(n for (n,) in kind.iter_unpack(self.take(length * kind.size))))

    def _skip_texts(self, count: int) -> None:
        """Step over strings. The loop is tight because a vocabulary has hundreds of thousands."""
        if count * 8 > self._size - self.position:
            self._cut_off()
        unpack_from = _U64.unpack_from
        while count:
            at, end = self._within(8), len(self._window) - 8
            while count and at <= end:
                at += 8 + unpack_from(self._window, at)[0]
                count -= 1
            self.position = self._window_start + at
            if self.position > self._size:
                self._cut_off()

    def _within(self, count: int) -> int:
        """Make sure that the next `count` bytes are in the window; return where they begin."""
        at = self.position - self._window_start
        if not 0 <= at <= len(self._window) - count:
            if count > self._size - self.position:
                self._cut_off()
            self._window = self._source.at(self.position, max(count, WINDOW_BYTES))
            self._window_start, at = self.position, 0
            if len(self._window) < count:
                self._cut_off()
        return at

    def _cut_off(self) -> NoReturn:
        raise ModelFileInvalid(
            f"the GGUF file is cut off or damaged: it ends at byte {self._size}, inside its header",
            hint="download the model again",
        )


def _damaged(what: str) -> ModelFileInvalid:
    return ModelFileInvalid(f"the GGUF header is damaged: {what}", hint="download the model again")
