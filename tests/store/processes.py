"""Real child processes that run a piece of Python against the store."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A child in its own process, from the checkout's root on sys.path."""
    prelude = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", prelude + code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen[str]) -> str:
    """Wait for a good end and return what it printed."""
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    return out.strip()


def kill(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate(timeout=60)


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Poll a real condition; fails when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
