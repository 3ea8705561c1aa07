"""Reading a long prompt, and cancelling that: the second part of bench/engine.py."""

from __future__ import annotations

import json
import os
import time
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from figures import ratios, spread
from raw_stream import TASKS, Stream, post, read_all

if TYPE_CHECKING:
    from engine import Bench

LONG_PROMPT = "word " * 1000
serial = count()


def long_body(bench: Bench) -> dict[str, Any]:
    """A prompt that is in no cache."""
    return {**bench.body(), "prompt": f"{next(serial)} {LONG_PROMPT}", "max_tokens": 1}


def read_bare(bench: Bench) -> float:
    """Seconds until a long prompt's first token."""
    return float(bench.bare.run(long_body(bench), 1)["first"])


def read_worker(bench: Bench) -> float:
    request = post(bench.worker_port, "/execute", long_body(bench))
    stream = Stream(bench.worker_port, request, TASKS)
    read_all([stream])
    return stream.first


def cancel_bare(bench: Bench) -> float:
    """Milliseconds from the callback's "stop" to the return of handle_completions."""
    seen = bench.bare.run(long_body(bench), 1, cancel=4)
    return 1e3 * float(seen["end"] - seen["cancelled"])


def cancel_worker(bench: Bench) -> float:
    """Milliseconds from POST /cancel to the end of the stream, while the prompt is read."""
    body = {**long_body(bench), "task_id": f"bench-{os.getpid()}-{next(serial)}"}
    stream = Stream(bench.worker_port, post(bench.worker_port, "/execute", body), TASKS)
    data = b""
    while data.count(b"event: progress") < 4:
        data += stream.socket.recv(65536)
    began = time.perf_counter()
    url = f"http://127.0.0.1:{bench.worker_port}/cancel"
    urlopen(Request(url, json.dumps({"task_id": body["task_id"]}).encode())).close()
    while not stream.ended:
        stream.read()
    return 1e3 * (time.perf_counter() - began)


def prefill(bench: Bench, runs: int) -> None:
    """Reading a long prompt, and cancelling that."""
    url = f"http://127.0.0.1:{bench.worker_port}/tokenize"
    body = json.dumps({"prompt": f"0 {LONG_PROMPT}"}).encode()
    with urlopen(Request(url, body)) as answer:
        tokens = json.load(answer)["n_prompt_tokens"]
    bare: list[float] = []
    worker: list[float] = []
    ways = [(bare, read_bare), (worker, read_worker)]
    for turn in range(runs):
        for found, way in ways[:: 1 - 2 * (turn % 2)]:
            found.append(tokens / way(bench))
    print(f"\nprompt of {tokens} tokens, tokens/s until the first token")
    print(f"         bare engine        {spread(bare)}")
    print(f"         worker             {spread(worker):24} {ratios(worker, bare)}")
    print("cancel while a prompt is read, ms until the end")
    print(f"         bare engine        {spread([cancel_bare(bench) for _ in range(runs)])}")
    print(f"         worker             {spread([cancel_worker(bench) for _ in range(runs)])}")
