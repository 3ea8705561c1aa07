"""Tokens per second of a worker beside its bare engine, in one run.

    python bench/engine.py MODEL.gguf [--pyz dist/llorch.pyz] [--runs N] [--streams 1,4,8]

The same model is loaded twice with the settings that llorch chooses for this machine: by a worker,
and by a process that has nothing but the engine (bench/bare_engine.py). Measured are

  bare engine    handle_completions with a callback that counts: the base of all ratios
  bare http      the same process, through llama.cpp's own HTTP port
  worker         POST /execute of the worker
  orchestrator   POST /v2/tasks of an orchestrator in front of that worker
  infer          `llorch infer --worker`, as it writes to its stdout, and by its own statistics

A round measures each of them once; the order turns from round to round, since whatever else runs on
the machine disturbs them all. Tokens/s are counted from the first token of any stream to the last
of all (so a later stream's prompt is in them), the answer is greedy and ends by its length. Ratios
are of medians, of bests, and the median of the ratios within each round. Beside them: the time to
the first token, and CPU per token of the worker's own process and of the process with the engine.

Then the same for reading a prompt of 1,000 words, and how long a cancel in the middle of that takes
until the stream has ended.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from engine_prefill import prefill  # noqa: E402
from figures import ratios, spread  # noqa: E402
from raw_stream import LLAMA, TASKS, Dialect, Stream, post, read_all  # noqa: E402
from relay import free_port, wait_for  # noqa: E402

from llorch.core.choice import Choice, Wishes  # noqa: E402
from llorch.engine.factory import choose_for  # noqa: E402
from llorch.engine.process import LoadOrder  # noqa: E402

PROMPT = "Once upon a time, in a village by the sea, there lived an old woman who"
BUSY_LOAD = 0.5  # processes that want the machine before anything is measured


@dataclass(frozen=True)
class Sample:
    """One measurement. CPU in microseconds per token, of the worker and of the engine's process."""

    tokens_per_second: float
    first_ms: float
    worker_us: float = 0.0
    engine_us: float = 0.0


def cpu_us(pid: int) -> float:
    """User and system time of all threads of a process, by the kernel's nanosecond clock."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e3


class Bare:
    """The process that has nothing but the engine."""

    def __init__(self, order: LoadOrder, stack: contextlib.ExitStack) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, str(HERE / "bare_engine.py")]
        self.child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        stack.callback(self.child.wait)
        stack.callback(self.child.kill)
        self.ready = self.ask(order.as_line())
        self.port = int(self.ready["url"].rpartition(":")[2])

    def ask(self, line: bytes) -> dict[str, Any]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(line)
        self.child.stdin.flush()
        answer: dict[str, Any] = json.loads(self.child.stdout.readline())
        return answer

    def run(self, body: dict[str, Any], streams: int, cancel: int = 0) -> dict[str, Any]:
        body = {**body, "stream": True, "return_progress": True, "cache_prompt": True}
        order = {"body": body, "streams": streams, "cancel": cancel}
        return self.ask(json.dumps(order).encode() + b"\n")


class Bench:
    """The processes, and one method for each way to ask them. `tokens`: length of an answer."""

    def __init__(
        self, own: list[str], model: str, tokens: int, stack: contextlib.ExitStack
    ) -> None:
        self.own, self.tokens = own, tokens
        self.choice = choose_for(Path(model), Wishes())
        self.bare = Bare(_order(model, self.choice), stack)
        self.worker_port, self.front_port = free_port(), free_port()
        front = f"127.0.0.1:{self.front_port}"
        stack.enter_context(self.daemon(["serve-orchestrator", "--bind", front]))
        wait_for(self.front_port, "/health", b"status")
        serve = ["serve-worker", "--model", model, "--name", "m", "--orchestrator", front]
        serve += ["--bind", f"127.0.0.1:{self.worker_port}"]
        self.worker = stack.enter_context(self.daemon(serve))
        wait_for(self.front_port, "/v2/workers", b'"ready"')
        self.engine_pid = int(
            Path(f"/proc/{self.worker.pid}/task/{self.worker.pid}/children").read_text().split()[0]
        )

    @contextlib.contextmanager
    def daemon(self, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
        null = subprocess.DEVNULL
        child = subprocess.Popen([*self.own, *arguments], stdout=null, stderr=null)
        try:
            yield child
        finally:
            child.terminate()
            child.wait()

    def body(self) -> dict[str, Any]:
        return {"model": "m", "prompt": PROMPT, "max_tokens": self.tokens, "temperature": 0}

    def engine(self, streams: int) -> Sample:
        before = cpu_us(self.bare.child.pid)
        seen = self.bare.run(self.body(), streams)
        if seen["complete"] != streams:
            raise SystemExit("a stream of the bare engine did not end by its length")
        cpu = cpu_us(self.bare.child.pid) - before
        rate = (streams * self.tokens - 1) / (seen["last"] - seen["first"])
        return Sample(rate, 1e3 * seen["first"], 0, cpu / streams / self.tokens)

    def engine_http(self, streams: int) -> Sample:
        body = {**self.body(), "stream": True, "cache_prompt": True, "return_tokens": True}
        request = post(self.bare.port, "/completion", body, self.bare.ready["api_key"])
        return self.over_http(self.bare.port, request, LLAMA, streams, (0, self.bare.child.pid))

    def execute(self, streams: int) -> Sample:
        return self.task(self.worker_port, "/execute", streams)

    def through_orchestrator(self, streams: int) -> Sample:
        return self.task(self.front_port, "/v2/tasks", streams)

    def task(self, port: int, path: str, streams: int) -> Sample:
        request = post(port, path, {**self.body(), "stream": True})
        return self.over_http(port, request, TASKS, streams, (self.worker.pid, self.engine_pid))

    def over_http(
        self, port: int, request: bytes, dialect: Dialect, streams: int, pids: tuple[int, int]
    ) -> Sample:
        before = [cpu_us(pid) if pid else 0.0 for pid in pids]
        running = [Stream(port, request, dialect) for _ in range(streams)]
        seconds = read_all(running)
        tokens = streams * self.tokens
        cpu = [
            (cpu_us(pid) - b) / tokens if pid else 0.0 for pid, b in zip(pids, before, strict=True)
        ]
        return Sample((tokens - 1) / seconds, 1e3 * min(s.first for s in running), *cpu)

    def infer(self) -> tuple[Sample, Sample]:
        """One run of the command: as its stdout moves, and as its statistics say."""
        options = ["--max-tokens", str(self.tokens), "--temperature", "0", "--prompt", PROMPT]
        command = [*self.own, "infer", "--worker", f"127.0.0.1:{self.worker_port}", *options]
        began, before = time.perf_counter(), cpu_us(self.worker.pid)
        null, pipe = subprocess.DEVNULL, subprocess.PIPE
        with subprocess.Popen(command, stdin=null, stdout=pipe, stderr=pipe) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            seen = []
            while os.read(child.stdout.fileno(), 65536):
                seen.append(time.perf_counter() - began)
            said = child.stderr.read().decode()
        if "stop reason: length" not in said:
            raise SystemExit(f"infer did not end by its length: {said}")
        told = re.findall(r"([\d.]+) tokens/s", said)[0]
        cpu = (cpu_us(self.worker.pid) - before) / self.tokens
        wall = Sample((self.tokens - 1) / (seen[-1] - seen[0]), 1e3 * seen[0], cpu)
        return wall, Sample(float(told), 1e3 * seen[0], cpu)


def _order(model: str, choice: Choice) -> LoadOrder:
    return LoadOrder(
        model=model,
        ctx=choice.ctx,
        slots=choice.slots,
        batch=choice.batch,
        threads=choice.threads,
        gpu_layers=choice.gpu_layers,
        main_gpu=choice.device_index,
        flash_attention=choice.flash_attention,
        prompt_cache_mib=choice.prompt_cache_mib,
    )


def compare(bench: Bench, streams: int, runs: int) -> None:
    """One block of the table."""
    ways: dict[str, Callable[[], Sample]] = {
        "bare engine": lambda: bench.engine(streams),
        "bare http": lambda: bench.engine_http(streams),
        "worker": lambda: bench.execute(streams),
        "orchestrator": lambda: bench.through_orchestrator(streams),
    }
    samples: dict[str, list[Sample]] = {name: [] for name in ways}
    if streams == 1:
        samples |= {"infer": [], "infer's statistics": []}
    for way in ways.values():
        way()  # the prompt's cache, and what is imported late
    for turn in range(runs):
        names = list(samples)[: 5 if streams == 1 else 4]
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name == "infer":
                for of, sample in zip((name, "infer's statistics"), bench.infer(), strict=True):
                    samples[of].append(sample)
            else:
                samples[name].append(ways[name]())
    base = [sample.tokens_per_second for sample in samples["bare engine"]]
    for name, found in samples.items():
        rates = [sample.tokens_per_second for sample in found]
        first, worker, engine = (
            statistics.median(getattr(sample, field) for sample in found)
            for field in ("first_ms", "worker_us", "engine_us")
        )
        print(
            f"{streams:7}  {name:18} {spread(rates):24} {ratios(rates, base)}"
            f" {first:8.0f} {worker:10.0f} {engine:10.0f}",
            flush=True,
        )


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--streams", default="1,4,8")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--pyz", default=str(HERE.parent / "llorch.py"))
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with contextlib.ExitStack() as stack:
        bench = Bench([sys.executable, options.pyz], options.model, options.tokens, stack)
        c = bench.choice
        print(
            f"load average {load:.2f} on {os.cpu_count()} cores before the start"
            f"{' - BUSY: do not trust small differences' if load > BUSY_LOAD else ''}\n"
            f"{c.threads} threads, batch {c.batch}, {c.slots} slots of {c.ctx} tokens, flash"
            f" attention {c.flash_attention}; {options.runs} rounds of {options.tokens} tokens\n\n"
            "streams  way                tokens/s (worst - best)   ratio: medians, bests, rounds\n"
        )
        for streams in map(int, options.streams.split(",")):
            compare(bench, streams, options.runs)
        prefill(bench, options.runs)


if __name__ == "__main__":
    main()
