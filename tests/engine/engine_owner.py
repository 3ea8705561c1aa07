"""A stand-in for a worker: owns one engine and obeys lines on stdin. Run as a program by tests.

engine_owner.py MODEL COMMAND...    stdout: "pid N" once the engine process runs, "ready" when
                                    it is loaded, then one line for every answer
stdin: "answer" gives a text, "endless" starts an answer without end
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from llorch.engine.llamacpp import LlamaCppEngine  # noqa: E402
from tests.engine.http_transport import http_transport  # noqa: E402
from tests.engine.subjects import ask, collect, tiny_choice  # noqa: E402


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(model: str, command: list[str]) -> None:
    engine = LlamaCppEngine(Path(model), tiny_choice(2), http_transport, command)
    loading = asyncio.create_task(engine.load())
    while engine.pid is None:
        await asyncio.sleep(0.001)
    say(f"pid {engine.pid}")
    await loading
    say("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip() == "answer":
            say((await collect(engine, ask("now one"))).text)
        else:
            say(type(await anext(engine.generate(ask("now one", max_tokens=None)))).__name__)
    await engine.close()


if __name__ == "__main__":
    # A handler, not SIG_IGN: that would be inherited, and prove nothing. It writes past the stream,
    # which it may have interrupted in the middle of a write.
    signal.signal(signal.SIGINT, lambda *_: os.write(1, b"interrupted\n"))
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
