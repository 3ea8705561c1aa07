"""Finding the token ids that llama.cpp did not tell, from the text that it sent for them.

Theory of operation. Ids are missing only where the first tokens of a group ended inside a UTF-8
character; the last id is known, and so is the text of the whole group. The engine tokenizes that
text again. The ids it gives are the very ones that were generated, provably, in two cases:

  1. one id is missing. Its bytes are those of the text without the last token's, and a vocabulary
     has one token for a byte string;
  2. there are as many tokens as bytes, so each is the token of its one byte.

Otherwise the group may have been split elsewhere: the ids stand for the same text, but `exact` is
False. Where nothing fits, no ids are given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from llorch.core.types import TextMade

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llorch.engine.llama_frames import Gap


class Tokenizer(Protocol):
    """Who can turn a piece of text into ids and back."""

    async def tokenize_plain(self, text: str) -> list[int]:
        """Ids of a piece of text, nothing added."""

    async def detokenize(self, ids: Sequence[int]) -> str:
        """The text of ids."""


async def fill_gap(gap: Gap, tokenizer: Tokenizer) -> TextMade:
    """The gap as a piece of text, with ids where they can be found."""
    # U+FFFD stands for bytes that were no UTF-8: what they were is lost.
    if not gap.text or "�" in gap.text:
        return TextMade(gap.text, (), gap.index, exact=False)
    ids = await _ids_of(gap, tokenizer)
    return TextMade(gap.text, ids, gap.index, exact=bool(ids) and _is_proven(gap))


async def _ids_of(gap: Gap, tokenizer: Tokenizer) -> tuple[int, ...]:
    ids = await tokenizer.tokenize_plain(gap.text)
    if len(ids) == gap.count + 1:
        # SentencePiece sets a space before a text; a generated piece has none.
        ids = ids[1:]
        if await tokenizer.detokenize(ids) != gap.text:
            return ()
    return tuple(ids) if len(ids) == gap.count and ids[-1] == gap.last_id else ()


def _is_proven(gap: Gap) -> bool:
    return gap.count in (2, len(gap.text.encode()))
