from __future__ import annotations

import json

import pytest

from llorch.core.types import Finished, PromptRead, StopReason, TextMade
from llorch.errors import ContextLengthExceeded, EngineFailed
from llorch.wire import sse
from llorch.wire.answers import (
    Start,
    TaskRenderer,
    error_frame,
    queued_frame,
    unworked_end_frame,
)

START = Start("t", "w1", "m", attempt=2, seed=7, queue_wait_ms=40, created=1_700_000_000)
DONE = Finished(StopReason.STOP, 3, 10, 4, 12.345, 100.04, stop_sequence="END")


def an_answer(renderer: TaskRenderer) -> bytes:
    return b"".join(
        [
            renderer.queued(1, 900),
            renderer.queued(0, 400),
            renderer.started(START),
            renderer.progress(PromptRead(5, 10)),
            renderer.progress(PromptRead(5, 10)),
            renderer.progress(PromptRead(10, 10)),
            renderer.text(TextMade("Hé", (5, 6), 0)),
            renderer.text(TextMade("\n\n", (7,), 2)),
            renderer.text(TextMade("held", (), 3)),
            renderer.finished(DONE),
        ]
    )


def test_a_task_s_client_sees_the_events_in_order_with_these_shapes():
    frames = list(sse.parse(an_answer(TaskRenderer(2))))
    assert [(f.event_id, f.event, f.json()) for f in frames] == [
        ("q2.1", "queued", {"queue_position": 1, "predicted_start_ms": 900}),
        ("q2.2", "queued", {"queue_position": 0, "predicted_start_ms": 400}),
        (
            "s2",
            "started",
            {
                "task_id": "t",
                "worker": "w1",
                "model": "m",
                "attempt": 2,
                "seed": 7,
                "queue_wait_ms": 40,
            },
        ),
        ("p2.3", "progress", {"prompt_done": 5, "prompt_total": 10}),
        ("p2.4", "progress", {"prompt_done": 5, "prompt_total": 10}),
        ("p2.5", "progress", {"prompt_done": 10, "prompt_total": 10}),
        ("t0:5,6", "token", {"t": "Hé", "i": 0}),
        ("t2:7", "token", {"t": "\n\n", "i": 2}),
        ("t3:", "token", {"t": "held", "i": 3}),
        (
            "end",
            "end",
            {
                "tokens_out": 3,
                "prompt_tokens": 10,
                "cached_tokens": 4,
                "queue_ms": 40,
                "prefill_ms": 12.3,
                "decode_ms": 100.0,
                "tokens_per_second": 30.0,
                "stop_reason": "stop",
                "stop_sequence": "END",
            },
        ),
    ]


def test_ids_are_unique_in_a_stream_even_when_a_second_attempt_follows_the_first():
    waited = TaskRenderer(1)
    stream = queued_frame(0, 0, 1) + waited.queued(0, 1) + waited.progress(PromptRead(1, 2))
    stream += queued_frame(0, 0, 2) + an_answer(TaskRenderer(2))
    ids = [frame.event_id for frame in sse.parse(stream)]
    assert len(set(ids)) == len(ids)


def test_an_end_without_a_stop_sequence_or_any_time_has_no_odd_values():
    (frame,) = sse.parse(TaskRenderer().finished(Finished(StopReason.EOS, 0, 1, 0, 0.0, 0.0)))
    assert frame.json()["tokens_per_second"] == 0.0
    assert "stop_sequence" not in frame.json()


@pytest.mark.parametrize("reason", list(StopReason))
def test_an_end_that_no_worker_wrote_tells_what_was_relayed(reason):
    (frame,) = sse.parse(unworked_end_frame(reason, 5, 30))
    data = frame.json()
    assert (frame.event, data["stop_reason"]) == ("end", reason.value)
    assert (data["tokens_out"], data["queue_ms"]) == (5, 30)


def test_an_error_ends_a_stream_in_the_shape_of_the_error_contract():
    error = ContextLengthExceeded.of(9, 8)
    (frame,) = sse.parse(TaskRenderer().failed(error))
    assert (frame.event_id, frame.event, frame.json()) == ("error", "error", error.as_dict())
    assert error_frame(error) == TaskRenderer().failed(error)
    assert json.loads(frame.data)["n_ctx"] == 8


def test_an_error_message_of_any_text_stays_one_frame():
    assert error_frame(EngineFailed("a\n\nid: x\r\n")).count(b"\n\n") == 1
