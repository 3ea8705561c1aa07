"""Reads the frames that were relayed for a task, when somebody asks what they said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llorch.core.task import Fact
from llorch.wire import sse


def text_of(frames: bytes | bytearray) -> str:
    """The text so far of a task-dialect stream."""
    return "".join(data["t"] for _, data in _events(frames, "token"))


def tokens_in(frames: bytes | bytearray) -> int:
    """How many tokens a task-dialect stream has so far, by the ids of its frames."""
    count = 0
    for event_id, data in _events(frames, "token"):
        ids = event_id.partition(":")[2]
        count = data["i"] + max(1, ids.count(",") + 1 if ids else 0)
    return count


def end_of(frames: bytes | bytearray) -> dict[str, Any] | None:
    """The data of the terminal event, if the stream has one."""
    last = sse.last_frame(frames)
    if last is None or last.event not in ("end", "error"):
        return None
    return {last.event: last.json()}


def outcome_of(frames: bytes | bytearray) -> Fact | None:
    """How a worker's stream, of either dialect, says it ended; None where it does not say."""
    last = sse.last_frame(frames)
    if last is None:
        return None
    if last.event == "end":
        return _how_it_ended(last)
    if last.event == "error" or last.data.startswith('{"error"'):
        return Fact.FAILED
    return Fact.ENDED if last.data == "[DONE]" else None


def _how_it_ended(frame: sse.Frame) -> Fact | None:
    try:
        data = frame.json()
    except ValueError:
        return None  # such a worker is broken, and so is its answer
    if not isinstance(data, dict):
        return None
    return Fact.CANCELLED if data.get("stop_reason") == "cancelled" else Fact.ENDED


def _events(frames: bytes | bytearray, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for frame in sse.parse(bytes(frames)):
        if frame.event == name:
            yield frame.event_id, frame.json()
