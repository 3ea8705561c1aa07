"""Server-sent events as bytes (https://html.spec.whatwg.org/multipage/server-sent-events.html).

A frame is `id:`, `event:` and one `data:` line, ended by an empty line. Data is JSON, in which a
line break is always escaped, so `\\n\\n` occurs only between frames and `\\nid: ` only at a frame's
start: positions in a stream of frames are found by searching bytes, without parsing them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

END = b"\n\n"
KEEP_ALIVE = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One parsed frame. `event` is empty for frames of the OpenAI dialect."""

    event_id: str
    event: str
    data: str

    def json(self) -> Any:
        """The decoded data."""
        return json.loads(self.data)


def encode(data: Any) -> bytes:
    """Compact JSON. Non-ASCII text is sent as it is, lone surrogates are escaped."""
    try:
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(data, separators=(",", ":")).encode()


def frame(event: str, data: Any, event_id: str) -> bytes:
    """One frame of the task dialect."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), event.encode(), encode(data))


def data_frame(data: Any, event_id: str) -> bytes:
    """One frame of the OpenAI dialect: no event name; the id does no harm to its clients."""
    return b"id: %b\ndata: %b\n\n" % (event_id.encode(), encode(data))


def parse(data: bytes) -> Iterator[Frame]:
    """The complete frames in a piece of stream; comments are passed over."""
    for block in data.replace(b"\r\n", b"\n").split(END)[:-1]:
        fields = {"id": "", "event": "", "data": ""}
        for line in block.decode("utf-8", "replace").split("\n"):
            name, _, value = line.partition(":")
            if name in fields:
                fields[name] = value.removeprefix(" ")
        if fields["data"] or fields["event"]:
            yield Frame(fields["id"], fields["event"], fields["data"])


def last_frame(data: bytes | bytearray) -> Frame | None:
    """The last complete frame of a stream, found from its end; comments are passed over."""
    end = data.rfind(END)
    while end >= 0:
        start = data.rfind(END, 0, end)
        for frame in parse(bytes(data[0 if start < 0 else start + 2 : end + 2])):
            return frame
        end = start
    return None


def offset_after(data: bytes | bytearray, event_id: str) -> int | None:
    """Where the frame after the one with this id begins; None where no frame has the id."""
    if not event_id or "\n" in event_id:
        return None
    line = b"id: %b\n" % event_id.encode("utf-8", "replace")
    at = 0 if data.startswith(line) else data.find(b"\n" + line)
    if at < 0:
        return None
    end = data.find(END, at + 1)  # beyond the line break before the id
    return None if end < 0 else end + 2


def has_text(data: bytes | bytearray, start: int) -> bool:
    """True when a frame from `start` on carries more than how the answer is getting on: anything
    but `queued`, `started` and `progress`, whose ids begin with q, s and p."""
    return any(frame.event_id[:1] not in ("q", "s", "p") for frame in parse(bytes(data[start:])))
