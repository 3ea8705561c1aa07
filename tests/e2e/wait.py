"""Waiting for a condition that is really there."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LIMIT_SECONDS = 60.0


def eventually(condition: Callable[[], T], describe: Callable[[], object] | str = "") -> T:
    """Ask until the answer is true, and return it; a minute later give up."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (answer := condition()):
        told = describe() if callable(describe) else describe
        assert time.monotonic() < deadline, f"never came true: {told}"
        time.sleep(0.02)
    return answer
