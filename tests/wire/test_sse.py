from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llorch.wire import sse

HARD_TEXTS = [
    "",
    "a\nb",
    "\r\n\r\n",
    "\r",
    "\u2028\u2029\x85",
    "🦙é中",
    "\0\x1f",
    "\n\nid: x\n",
    "\ud800",
]
TEXTS = st.one_of(st.sampled_from(HARD_TEXTS), st.text(st.characters(codec=None), max_size=30))
fast = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def stream_of(texts: list[str]) -> tuple[bytes, list[bytes]]:
    """A stream of alternating dialects; frame n has the id `t{n}`."""
    frames = [
        sse.frame("token", {"t": text, "i": n}, f"t{n}")
        if n % 2 == 0
        else sse.data_frame({"t": text, "i": n}, f"t{n}")
        for n, text in enumerate(texts)
    ]
    return b"".join(frames), frames


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_any_text_comes_back_as_it_was_sent(text):
    (frame,) = sse.parse(sse.frame("token", {"t": text}, "t0:1"))
    assert (frame.event_id, frame.event, frame.json()) == ("t0:1", "token", {"t": text})


@fast
@given(st.lists(TEXTS, max_size=6))
def test_a_stream_of_any_texts_has_as_many_frames_as_were_written(texts):
    data, frames = stream_of(texts)
    assert [f.json()["t"] for f in sse.parse(data)] == texts
    assert data.count(sse.END) == len(frames)


@fast
@given(st.lists(TEXTS, min_size=1, max_size=6), st.integers(0, 400))
def test_the_offset_after_a_frame_is_exact_for_every_frame_of_a_cut_stream(texts, cut):
    data, frames = stream_of(texts)
    end = 0
    for number, frame in enumerate(frames):
        end += len(frame)
        arrived = data[: min(cut, len(data))]
        expected = end if end <= len(arrived) else None
        assert sse.offset_after(arrived, f"t{number}") == expected
        assert sse.offset_after(bytearray(data), f"t{number}") == end


@fast
@given(st.lists(TEXTS, max_size=6), st.integers(0, 400))
def test_the_last_frame_of_a_cut_stream_is_the_last_complete_one(texts, cut):
    data, _ = stream_of(texts)
    arrived = data[:cut]
    frames = list(sse.parse(arrived))
    assert sse.last_frame(arrived) == (frames[-1] if frames else None)


@fast
@given(st.text(st.characters(codec=None), max_size=12))
def test_an_unknown_id_has_no_offset_and_does_no_harm(event_id):
    data, _ = stream_of(["a", "id: x", "\nid: y\n"])
    if event_id not in ("t0", "t1", "t2"):
        assert sse.offset_after(data, event_id) is None


def test_an_id_is_only_found_whole_and_only_as_an_id():
    data = sse.frame("token", {"t": "id: t1\n", "i": 1}, "t10") + sse.frame("token", {}, "t2")
    assert sse.offset_after(data, "t1") is None
    assert sse.offset_after(data, "t2") == len(data)
    assert sse.offset_after(b"", "t2") is None


def test_an_id_with_a_line_break_is_none_that_we_sent():
    data = sse.frame("token", {}, "t1")
    assert sse.offset_after(data, "t1\nevent: token") is None


def test_comments_and_line_ends_of_other_servers_are_understood():
    data = b": hello\r\n\r\nid: 1\r\nevent: end\r\ndata: {}\r\n\r\n" + sse.KEEP_ALIVE
    assert list(sse.parse(data)) == [sse.Frame("1", "end", "{}")]


def test_a_comment_after_the_last_frame_does_not_hide_it():
    data = sse.frame("end", {}, "end") + sse.KEEP_ALIVE + sse.KEEP_ALIVE
    assert sse.last_frame(data) == sse.Frame("end", "end", "{}")
    assert sse.last_frame(sse.KEEP_ALIVE) is None
    assert sse.last_frame(b"data: {}") is None


def test_the_end_mark_of_the_openai_dialect_is_a_frame_without_id_and_event():
    assert sse.last_frame(sse.data_frame({}, "finish") + sse.DONE) == sse.Frame("", "", "[DONE]")


def test_frames_look_as_the_standard_says():
    assert sse.frame("token", {"t": "é", "i": 0}, "t0:5") == (
        'id: t0:5\nevent: token\ndata: {"t":"é","i":0}\n\n'.encode()
    )
    assert sse.data_frame([1], "x") == b"id: x\ndata: [1]\n\n"


def test_lone_surrogates_are_escaped_and_other_text_is_not():
    assert sse.encode("é\ud800") == b'"\\u00e9\\ud800"'
    assert json.loads(sse.encode("é\ud800")) == "é\ud800"
    assert sse.encode("é") == '"é"'.encode()


@pytest.mark.parametrize(
    "event_id, text",
    [("q1", False), ("s1", False), ("p1.64", False), ("t0:5", True), ("end", True)],
)
def test_only_frames_that_tell_how_the_answer_is_getting_on_carry_no_text(event_id, text):
    before = sse.frame("token", {}, "t0:1")
    after = sse.frame("any", {}, "s1") + sse.frame("any", {}, event_id)
    assert sse.has_text(before + after, len(before)) is text
    assert sse.has_text(before + after, len(before + after)) is False


def test_an_unfinished_frame_carries_no_text_yet():
    assert not sse.has_text(b"id: t0:1\nevent: token\ndata: {}\n", 0)
