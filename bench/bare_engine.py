"""llama.cpp alone in a process: the bare engine of bench/engine.py.

    python bench/bare_engine.py

Reads a line of `LoadOrder` from stdin and loads the model as a worker's engine process would. Then
it prints the JSON line {"url", "api_key"}, and for every line on stdin {"streams", "cancel",
"body"} the line {"first", "last", "end", "cancelled", "complete"}: the body was given to
handle_completions in as many threads as there are streams, and a callback counted. Times in seconds
since the request; with `cancel` the callback stops the work once that many chunks of the prompt
have been read.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from llorch.engine import process


class Count:
    """What came of one stream."""

    def __init__(self, cancel: int) -> None:
        self.began = time.perf_counter()
        self.first = self.last = self.cancelled = 0.0
        self.read = 0
        self.cancel = cancel
        self.text = ""

    def take(self, chunk: str) -> bool:
        """The callback: True stops the work."""
        if '"prompt_progress"' in chunk:
            self.read += 1
            self.cancelled = time.perf_counter() - self.began
            return 0 < self.cancel <= self.read
        self.last = time.perf_counter() - self.began
        self.first = self.first or self.last
        self.text = chunk
        return False


def measure(server: Any, order: dict[str, Any]) -> dict[str, Any]:
    """All streams of one order, from the first request to the last end."""
    body = json.dumps(order["body"])
    began = time.perf_counter()
    counts = [Count(order["cancel"]) for _ in range(order["streams"])]
    threads = [
        threading.Thread(target=server.handle_completions, args=(body, count.take))
        for count in counts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "first": min(count.first for count in counts),
        "last": max(count.last for count in counts),
        "end": time.perf_counter() - began,
        "cancelled": max(count.cancelled for count in counts),
        "complete": sum('"finish_reason":"length"' in count.text for count in counts),
    }


def main() -> None:
    """Load, then measure until stdin ends."""
    order = process.LoadOrder.from_line(sys.stdin.buffer.readline())
    ready = process._load(order)  # noqa: SLF001  the very parameters of a worker's engine
    print(json.dumps(ready), flush=True)
    for line in sys.stdin.buffer:
        print(json.dumps(measure(process._running[0], json.loads(line))), flush=True)  # noqa: SLF001


if __name__ == "__main__":
    main()
