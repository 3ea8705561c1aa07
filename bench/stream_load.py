"""Reads many streams at once and counts what arrives; the load of bench/relay.py.

    python bench/stream_load.py URL STREAMS BODY

Prints a JSON line when every stream has its first token, when the first one ends, and when all have
ended: the tokens so far, and at the end the seconds and the median time to the first token.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit


class Stream(asyncio.BufferedProtocol):
    """One request. `ended`: done when the server closes; tokens are counted by their event name."""

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.started: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.buffer = bytearray(65536)
        self.tokens = 0
        self.complete = False
        self.first: float | None = None
        self.sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        assert isinstance(transport, asyncio.Transport)
        self.sent = time.perf_counter()
        transport.write(self.request)
        self.transport = transport

    def get_buffer(self, _sizehint: int) -> bytearray:
        """Where the next bytes go."""
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Count tokens; every frame is small and arrives whole."""
        data = bytes(memoryview(self.buffer)[:nbytes])
        self.tokens += data.count(b"event: token")
        if self.first is None and self.tokens:
            self.first = time.perf_counter() - self.sent
            self.started.set_result(None)
        if b"event: end" in data:
            self.complete = True
            self.transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        """The stream is over."""
        for future in (self.started, self.ended):
            if not future.done():
                future.set_result(None)


async def main(url: str, count: int, body: str) -> None:
    """Open all streams, wait for their ends, print what was seen."""
    parts = urlsplit(url)
    request = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()
    loop = asyncio.get_running_loop()
    streams: list[Stream] = []
    began = time.perf_counter()

    def say(word: str) -> None:
        """The relay's CPU is read when a line appears."""
        line = {"at": word, "tokens": sum(s.tokens for s in streams)}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    for _ in range(count):
        stream = Stream(request)
        await loop.create_connection(lambda s=stream: s, parts.hostname, parts.port)
        streams.append(stream)
    await asyncio.wait_for(asyncio.gather(*(s.started for s in streams)), 120)
    say("steady")
    await asyncio.wait([s.ended for s in streams], return_when=asyncio.FIRST_COMPLETED)
    say("ending")
    await asyncio.wait_for(asyncio.gather(*(s.ended for s in streams)), 120)
    firsts = sorted(s.first for s in streams if s.first is not None)
    result = {
        "at": "end",
        "tokens": sum(s.tokens for s in streams),
        "complete": sum(s.complete for s in streams),
        "seconds": time.perf_counter() - began,
        "ttft_p50_ms": 1000 * firsts[len(firsts) // 2],
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
