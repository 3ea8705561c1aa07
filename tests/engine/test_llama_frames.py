from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from llorch.core.types import PromptRead, StopReason, TextMade
from llorch.engine.llama_frames import FrameSplitter, Gap, Reading, refusal
from llorch.engine.token_ids import fill_gap
from llorch.errors import ContextLengthExceeded, EngineFailed, InvalidRequest, LlorchError

if TYPE_CHECKING:
    from collections.abc import Sequence

STREAM = (
    b'data: {"content":"","tokens":[0],"tokens_predicted":0,"tokens_evaluated":5,'
    b'"prompt_progress":{"total":5,"cache":0,"processed":5,"time_ms":12}}\n\n'
    b": ping\n\n"
    b'data: {"index":0,"content":" Paris","tokens":[7042],"stop":false,"tokens_predicted":1}\n\n'
    b'data: {"content":"\xf0\x9f\x98\x80","tokens":[224],"stop":false,"tokens_predicted":3}\n\n'
    b'data: {"content":"","tokens":[],"stop":true,"stop_type":"limit","tokens_predicted":3,'
    b'"tokens_evaluated":5,"timings":{"cache_n":2,"prompt_ms":7.5,"predicted_ms":20.5}}\n\n'
    b"data: [DONE]\n\n"
)


@pytest.mark.parametrize("step", [1, 7, 64, 10_000])
def test_a_stream_cut_anywhere_gives_the_same_events(step: int) -> None:
    splitter, reading = FrameSplitter(), Reading()
    events = [
        reading.take(frame)
        for at in range(0, len(STREAM), step)
        for frame in splitter.push(STREAM[at : at + step])
    ]
    assert events[:3] == [
        PromptRead(5, 5),
        TextMade(" Paris", (7042,), 0),
        Gap("😀", count=2, last_id=224, index=1),
    ]
    assert events[3] == reading.finished(StopReason.LENGTH, None)
    assert reading.finished(StopReason.STOP, "x").cached_tokens == 2


def test_an_error_in_the_stream_is_raised() -> None:
    for line in (
        b'error: {"code":500,"message":"boom"}\n',
        b'data: {"error":{"message":"boom"}}\n',
    ):
        (frame,) = FrameSplitter().push(line)
        with pytest.raises(EngineFailed, match="boom"):
            Reading().take(frame)


def test_a_frame_that_is_no_json_is_a_failure_of_the_engine() -> None:
    with pytest.raises(EngineFailed, match="no JSON"):
        list(FrameSplitter().push(b"data: {broken\n"))


@pytest.mark.parametrize(
    "error,kind,words",
    [
        (
            {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8},
            ContextLengthExceeded,
            "9 tokens",
        ),
        ({"type": "invalid_request_error", "message": "bad\nmore"}, InvalidRequest, "bad$"),
        ({"type": "server_error", "message": "out of slots"}, EngineFailed, "out of slots"),
        ({}, EngineFailed, "no reason given"),
    ],
)
def test_errors_of_llama_cpp_become_ours(
    error: dict[str, Any], kind: type[LlorchError], words: str
) -> None:
    found = refusal(error)
    assert type(found) is kind
    with pytest.raises(kind, match=words):
        raise found


class Vocabulary:
    """A tokenizer that gives what the test says."""

    def __init__(self, ids: list[int], text: str = "") -> None:
        self.ids, self.text = ids, text

    async def tokenize_plain(self, text: str) -> list[int]:
        return self.ids

    async def detokenize(self, ids: Sequence[int]) -> str:
        return self.text


@pytest.mark.parametrize(
    "gap,vocabulary,ids,exact",
    [
        (Gap("😀", 2, 224, 0), Vocabulary([272, 224]), (272, 224), True),
        (Gap("€", 3, 107, 0), Vocabulary([160, 226, 107]), (160, 226, 107), True),
        (Gap("👩", 3, 104, 0), Vocabulary([271, 241, 104]), (271, 241, 104), False),
        (Gap("👩", 3, 104, 0), Vocabulary([9, 104]), (), False),
        (Gap("👩", 3, 104, 0), Vocabulary([271, 241, 5]), (), False),
        (Gap("ñ", 2, 7, 0), Vocabulary([3, 6, 7], "ñ"), (6, 7), True),
        (Gap("ñ", 2, 7, 0), Vocabulary([3, 6, 7], "other"), (), False),
        (Gap("�", 2, 7, 0), Vocabulary([6, 7]), (), False),
    ],
)
def test_ids_that_were_not_told_are_found_where_they_can_be(
    gap: Gap, vocabulary: Vocabulary, ids: tuple[int, ...], exact: bool
) -> None:
    found = asyncio.run(fill_gap(gap, vocabulary))
    assert found == TextMade(gap.text, ids, 0, exact=exact)
