"""Progress as lines for a log, and as a bar on a terminal."""

from __future__ import annotations

import io

from llorch.cli.progress import LineProgress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_lines_come_at_the_start_and_every_few_seconds_only():
    clock, log = Clock(), io.StringIO()
    progress = LineProgress(log, clock)
    progress.start(1000, "download m")
    for _ in range(100):
        progress.advance(5)
    clock.now = 6
    progress.advance(0)
    progress.advance(100)
    progress.note("trying another source")
    assert log.getvalue().splitlines() == [
        "download m (1.00 kB)",
        "download m: 500 B of 1.00 kB (50 %)",
        "trying another source",
    ]


def test_a_size_that_nobody_knows_is_left_out():
    clock, log = Clock(), io.StringIO()
    progress = LineProgress(log, clock)
    progress.start(None, "download m")
    clock.now = 6
    progress.advance(5)
    assert log.getvalue().splitlines() == ["download m", "download m: 5 B"]
