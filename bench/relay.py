"""CPU of the orchestrator's relay per token, beside nginx, in one run.

    python bench/relay.py [--streams 32,128] [--tokens 500] [--rate 50] [--runs 3] [--pyz FILE]

The same token source (bench/token_source.py, rendered beforehand) stands behind the orchestrator
(POST /v2/tasks, stream) and behind nginx (proxy_buffering off); the same load
(bench/stream_load.py) reads in front of them. Source and load run on one core, the relay on
another. CPU (user and system) per token is counted while all streams run; what the relay used
besides is its CPU per request. Each figure is the median of the runs, which alternate between the
relays.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

HERE = Path(__file__).resolve().parent
BODY = json.dumps({"model": "m", "prompt": "Hello", "max_tokens": 400, "stream": True})
NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{source}; proxy_buffering off; proxy_http_version 1.1;
    }}
  }}
}}
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of processes, by the kernel's nanosecond clock of each."""
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in pids) / 1e9


def wait_for(port: int, path: str, good: bytes) -> None:
    """Poll until the answer contains `good`."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            if good in answer.read():
                return
        time.sleep(0.1)
    raise SystemExit(f"nothing useful at port {port}{path}")


@contextlib.contextmanager
def process(command: list[str], core: int) -> Iterator[subprocess.Popen[bytes]]:
    """A child on one core, ended at the end."""
    child = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509  no threads here
    )
    try:
        yield child
    finally:
        child.terminate()
        child.wait()


def children(pid: int) -> list[int]:
    """A process's children (nginx works in one)."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, listed)]


@dataclass(frozen=True)
class Figures:
    """CPU microseconds per token and per request, and the median time to the first token."""

    per_token_us: float
    per_request_us: float
    first_ms: float


def measure(url: str, pids: list[int], streams: int, core: int) -> Figures:
    """Run the load once, reading the relay's CPU at each line that it prints."""
    command = [sys.executable, str(HERE / "stream_load.py"), url, str(streams), BODY]
    pin = lambda: os.sched_setaffinity(0, {core})  # noqa: E731
    before = cpu_seconds(pids)
    seen: dict[str, dict[str, float]] = {}
    cpu: dict[str, float] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=pin) as child:  # noqa: PLW1509
        assert child.stdout is not None
        for line in child.stdout:
            point = json.loads(line)
            seen[point["at"]], cpu[point["at"]] = point, cpu_seconds(pids) - before
    last = seen.get("end", {"complete": 0})
    if last["complete"] != streams:
        raise SystemExit(f"{streams - last['complete']} streams of {streams} were cut off at {url}")
    steady_tokens = seen["ending"]["tokens"] - seen["steady"]["tokens"]
    per_token = (cpu["ending"] - cpu["steady"]) / steady_tokens
    besides = cpu["end"] - per_token * last["tokens"]
    return Figures(1e6 * per_token, 1e6 * besides / streams, last["ttft_p50_ms"])


def compare(streams: int, options: argparse.Namespace, own: list[str]) -> None:
    """One row: both relays, alternating."""
    source, nginx, orchestrator = free_port(), free_port(), free_port()
    last = max(os.sched_getaffinity(0))
    first = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        config = Path(folder, "nginx.conf")
        config.write_text(NGINX.format(folder=folder, port=nginx, source=source))
        args = [str(source), str(streams + 8), str(options.tokens), str(options.rate)]
        stack.enter_context(process([sys.executable, str(HERE / "token_source.py"), *args], first))
        wait_for(source, "/health", b"ready")
        serve = [*own, "serve-orchestrator", "--bind", f"127.0.0.1:{orchestrator}"]
        serve += ["--worker", f"http://127.0.0.1:{source}", "--queue-capacity", "10000"]
        llorch = stack.enter_context(process(serve, last))
        proxy = stack.enter_context(process([shutil.which("nginx") or "", "-c", str(config)], last))
        wait_for(nginx, "/health", b"ready")
        wait_for(orchestrator, "/v2/workers", b"source-")
        relays = {
            "nginx": (f"http://127.0.0.1:{nginx}/execute", children(proxy.pid)),
            "llorch": (f"http://127.0.0.1:{orchestrator}/v2/tasks", [llorch.pid]),
        }
        figures: dict[str, list[Figures]] = {name: [] for name in relays}
        for _ in range(options.runs):
            for name, (url, pids) in relays.items():
                figures[name].append(measure(url, pids, streams, first))
        show(streams, figures)


def show(streams: int, figures: dict[str, list[Figures]]) -> None:
    """Print the medians and the ratio."""
    per_token: dict[str, float] = {}
    for name, runs in figures.items():
        per_token[name] = statistics.median(f.per_token_us for f in runs)
        print(
            f"{streams:5} streams  {name:7} {per_token[name]:6.1f} us/token"
            f" {statistics.median(f.per_request_us for f in runs):7.0f} us/request"
            f"  first token {statistics.median(f.first_ms for f in runs):6.1f} ms",
            flush=True,
        )
    print(f"{streams:5} streams  llorch / nginx {per_token['llorch'] / per_token['nginx']:.2f}")


def main() -> None:
    """Parse the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", default="32,128")
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--pyz", default=str(HERE.parent / "llorch.py"))
    options = parser.parse_args()
    if shutil.which("nginx") is None:
        raise SystemExit("nginx is not installed: apt-get install nginx-light")
    for streams in map(int, options.streams.split(",")):
        compare(streams, options, [sys.executable, options.pyz])


if __name__ == "__main__":
    main()
