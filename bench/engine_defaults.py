"""Measure what the defaults of `llorch/core/choice.py` should be on this machine.

    python bench/engine_defaults.py MODEL.gguf

Every line is the best of three runs of one engine process, loaded with other settings: tokens/s of
reading a prompt of 1,000 words and of writing 128 tokens after it, then of writing 128 tokens after
a short prompt with 1, 4 and 8 streams at once (all streams together). The best, because whatever
else runs on the machine only ever makes it slower; still, nothing else should run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from llorch.engine.process import LoadOrder  # noqa: E402

RUNS = 3
WRITTEN = 128


class Engine:
    """One engine process, spoken to directly."""

    def __init__(self, order: LoadOrder) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "llorch.engine.process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(order.as_line())
        self.child.stdin.flush()
        self.ready = json.loads(self.child.stdout.readline())

    def timings(self, prompt: str, count: int) -> dict[str, Any]:
        connection = HTTPConnection(self.ready["url"].removeprefix("http://"))
        body = {"prompt": prompt, "n_predict": count, "ignore_eos": True, "temperature": 0}
        connection.request(
            "POST",
            "/completion",
            json.dumps(body | {"cache_prompt": False}),
            {"Authorization": f"Bearer {self.ready['api_key']}"},
        )
        timings: dict[str, Any] = json.loads(connection.getresponse().read())["timings"]
        return timings

    def close(self) -> None:
        self.child.kill()
        self.child.wait()


def long_prompt(engine: Engine) -> list[float]:
    """Tokens/s of reading a prompt that is not in any cache, and of writing after it."""
    runs = [engine.timings(f"{run} " + "word " * 1000, WRITTEN) for run in range(RUNS)]
    return [max(run[key] for run in runs) for key in ("prompt_per_second", "predicted_per_second")]


def decode(engine: Engine, streams: int) -> float:
    """Tokens/s of all streams together, while all of them run."""
    found: list[dict[str, Any]] = []

    def ask(number: int) -> None:
        found.append(engine.timings(f"Tell me story number {number}.", WRITTEN))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total: float = sum(timings["predicted_per_second"] for timings in found)
    return total


def measure(order: LoadOrder) -> str:
    engine = Engine(order)
    try:
        decode(engine, 1)
        figures = long_prompt(engine)
        figures += [
            max(decode(engine, streams) for _ in range(RUNS))
            for streams in (1, 4, 8)
            if streams <= order.slots
        ]
    finally:
        engine.close()
    return " ".join(f"{figure:8.0f}" for figure in figures)


def main(model: str) -> None:
    print("threads batch slots flash  prefill decode1k  decode1  decode4  decode8", flush=True)
    for threads, batch, slots, flash in (
        (1, 64, 4, False), (2, 64, 4, False), (2, 128, 4, False), (2, 512, 4, False),
        (2, 64, 1, False), (2, 64, 8, False), (2, 64, 4, True), (2, 512, 4, True), (2, 64, 8, True),
    ):  # fmt: skip
        order = LoadOrder(model, 2048, slots, batch, threads, 0, 0, flash, 0)
        print(f"{threads:7} {batch:5} {slots:5} {flash!s:5} {measure(order)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
