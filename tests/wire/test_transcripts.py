from __future__ import annotations

import pytest

from llorch.core.task import Fact
from llorch.core.types import Finished, StopReason, TextMade
from llorch.errors import EngineFailed
from llorch.wire import sse
from llorch.wire.answers import TaskRenderer
from llorch.wire.transcripts import end_of, outcome_of, text_of, tokens_in

TASK = TaskRenderer()
TEXT = (
    TASK.queued(0, 0) + TASK.text(TextMade("Hé\n", (5, 6), 0)) + TASK.text(TextMade("!", (7,), 2))
)


def end(reason: StopReason) -> bytes:
    return TASK.finished(Finished(reason, 3, 1, 0, 0.0, 0.0))


def test_the_text_so_far_is_that_of_the_complete_token_frames():
    cut = TASK.text(TextMade("lost", (8,), 3))[:-1]
    assert text_of(TEXT + cut) == "Hé\n!"
    assert text_of(b"") == ""


@pytest.mark.parametrize(
    "frames, count",
    [
        (b"", 0),
        (TEXT, 3),
        (TEXT + end(StopReason.EOS), 3),
        (TASK.text(TextMade("x", (), 4)), 5),
    ],
)
def test_tokens_are_counted_by_the_ids_of_the_last_frame(frames, count):
    assert tokens_in(frames) == count


def test_the_end_is_told_only_when_there_is_one():
    assert end_of(TEXT) is None
    assert end_of(b"") is None
    told = end_of(TEXT + end(StopReason.LENGTH))
    assert told is not None
    assert told["end"]["stop_reason"] == "length"
    error = EngineFailed("boom")
    assert end_of(TEXT + TASK.failed(error)) == {"error": error.as_dict()}


@pytest.mark.parametrize(
    "frames, outcome",
    [
        (b"", None),
        (TEXT, None),
        (TEXT + end(StopReason.EOS), Fact.ENDED),
        (TEXT + end(StopReason.DEADLINE), Fact.ENDED),
        (TEXT + end(StopReason.CANCELLED), Fact.CANCELLED),
        (TEXT + TASK.failed(EngineFailed("boom")), Fact.FAILED),
        (TEXT + end(StopReason.EOS)[:-1], None),
        (sse.data_frame({"choices": []}, "t0:1"), None),
        (sse.data_frame({"choices": []}, "finish") + sse.DONE, Fact.ENDED),
        (sse.data_frame({"error": {"code": "X"}}, "error"), Fact.FAILED),
        (b"id: end\nevent: end\ndata: oops\n\n", None),
        (b"id: end\nevent: end\ndata: []\n\n", None),
    ],
)
def test_a_stream_of_either_dialect_says_how_it_ended_or_that_it_broke_off(frames, outcome):
    assert outcome_of(frames) is outcome


def test_a_token_that_looks_like_an_error_is_no_end():
    assert outcome_of(TASK.text(TextMade('{"error":', (1,), 0))) is None
