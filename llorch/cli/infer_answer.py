"""The answer on its way to the user: events in, text or JSON lines out, statistics at the end.

Theory of operation. A thread reads the connection into a queue without a bound and the main thread
writes. So a terminal or a pipe that takes its time (`infer ... | less`) never makes the daemon see
a slow client, which it would cut off: the answer waits here, at most max_tokens long. It also
leaves the main thread free to hear Ctrl-C at any moment.

Three ways out: the last event (`end` or `error`); Ctrl-C, which cancels the task and waits shortly
for its end, and a second time leaves at once; a closed stdout, which cancels the task.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from llorch.errors import DeadlineExceeded, LlorchError, WorkerLost
from llorch.net.address import place_of
from llorch.net.control import StreamedEvent
from llorch.net.control_errors import error_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llorch.cli.infer_show import Shower
    from llorch.cli.infer_target import Target

LAST_WORDS_SECONDS = 3.0
TERMINAL_EVENTS = {"end", "error"}


class Feed:
    """Events of one task, read by a thread. Iterating waits for the next one."""

    def __init__(self, target: Target, body: dict[str, Any]) -> None:
        self._target = target
        self._body = body
        self._queue: queue.SimpleQueue[StreamedEvent | Exception | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for event in self._target.stream(self._body):
                self._queue.put(event)
            self._queue.put(None)
        except Exception as error:  # raised again where the main thread takes it out
            self._queue.put(error)

    def __iter__(self) -> Iterator[StreamedEvent]:
        """Events up to the last. Raises the daemon's error, and WorkerLost where none came last."""
        while True:
            event = self._queue.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                place = place_of(self._target.url)
                raise WorkerLost(f"the answer of {place} stopped without its last event")
            yield event
            if event.event in TERMINAL_EVENTS:
                return

    def wait_for_end(self, seconds: float) -> StreamedEvent | None:
        """The last event, if it comes in so long; what comes before it is passed over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = self._queue.get(timeout=left)
            except queue.Empty:
                return None
            if not isinstance(event, StreamedEvent):
                return None
            if event.event in TERMINAL_EVENTS:
                return event
        return None


def answer(target: Target, body: dict[str, Any], shower: Shower) -> None:
    """Send the task and show its answer. Raises what ended it, unless it ended well.

    body: must hold the `task_id`, by which the task is cancelled.
    """
    feed = Feed(target, body)
    try:
        last = _show_all(feed, shower)
    except KeyboardInterrupt:
        cancelled = target.cancel(body["task_id"])
        shower.interrupted(feed.wait_for_end(LAST_WORDS_SECONDS) if cancelled else None)
        raise
    except OSError:  # stdout takes nothing more: its reader left, or the disk is full
        target.cancel(body["task_id"])
        raise
    _judge(last)


def _show_all(feed: Feed, shower: Shower) -> StreamedEvent:
    last = StreamedEvent("", "", {})
    try:
        for last in feed:
            shower.show(last)
    except LlorchError:
        shower.broken()
        raise
    return last


def _judge(last: StreamedEvent) -> None:
    if last.event == "error":
        raise error_of(500, last.data)
    reason, tokens = last.data.get("stop_reason"), last.data.get("tokens_out", 0)
    if reason == "deadline":
        raise DeadlineExceeded(f"the deadline passed after {tokens} tokens")
    if reason == "cancelled":
        raise LlorchError(f"the task was cancelled elsewhere after {tokens} tokens")
