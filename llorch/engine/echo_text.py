"""The echo engine's tokens and the rule of its answers. Pure.

Tokens. A prompt gets a space before it, as SentencePiece does, and is cut into words that begin
with their space; a word is cut into pieces of up to three bytes, so that tokens end inside
characters as real ones do. The id of a piece is its bytes after a leading 1, read as a number: no
table is needed, and ids become text again.

Answers. At temperature 0 the text goes on with its smallest period: for a prompt without repetition
that is the prompt again, and again. Since a text that is continued by its smallest period keeps it,
an answer goes on exactly from prompt and answer so far. Above 0 the answer is words of the prompt
in an order that depends on the seed and nothing else.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PIECE_BYTES = 3
_LEAD = b"\x01"
_WORD = re.compile(r" ?[^ ]+| +")


def to_ids(text: str) -> list[int]:
    """Token ids of a prompt."""
    words = (word.encode() for word in _WORD.findall(f" {text}"))
    return [
        int.from_bytes(_LEAD + word[at : at + PIECE_BYTES], "big")
        for word in words
        for at in range(0, len(word), PIECE_BYTES)
    ]


def to_bytes(token: int) -> bytes:
    """The bytes of a token; none for a number that is no token of this engine."""
    return token.to_bytes(PIECE_BYTES + 1, "big").lstrip(b"\0")[1:]


def is_token(token: int) -> bool:
    """Whether a number is the id of a token."""
    return 0 <= token < 2 << (8 * PIECE_BYTES) and len(to_bytes(token)) > 0


def to_text(ids: Sequence[int]) -> str:
    """The prompt that ids stand for, without the space that `to_ids` set before it."""
    return b"".join(map(to_bytes, ids)).decode(errors="replace").removeprefix(" ")


def smallest_period(ids: Sequence[int]) -> int:
    """The least p > 0 with ids[i] == ids[i - p] for all i >= p (Knuth, Morris, Pratt 1977)."""
    border = [0] * len(ids)
    for at in range(1, len(ids)):
        length = border[at - 1]
        while length and ids[at] != ids[length]:
            length = border[length - 1]
        border[at] = length + (ids[at] == ids[length])
    return len(ids) - border[-1]


def greedy(ids: Sequence[int]) -> Iterator[int]:
    """The endless answer at temperature 0."""
    period = ids[len(ids) - smallest_period(ids) :]
    while True:
        yield from period


def drawn(ids: Sequence[int], seed: int) -> Iterator[int]:
    """The endless answer above temperature 0: words of the prompt, drawn by the seed."""
    words = to_text(ids).split() or [to_text(ids)]
    draw = random.Random(seed)
    while True:
        yield from to_ids(draw.choice(words))
