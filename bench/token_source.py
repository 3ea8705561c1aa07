"""A token source that costs nothing: a worker whose frames were rendered beforehand.

    python bench/token_source.py PORT STREAMS TOKENS TOKENS_PER_SECOND

It answers /health like a llorch worker, so that an orchestrator adopts it, and POST /execute with
TOKENS frames at an even pace. Each tick writes one frame to every stream that runs, so a relay gets
every token in a packet of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def rendered(tokens: int) -> list[bytes]:
    """The frames of one answer, ready to be written."""
    started = json.dumps(
        {"task_id": "x", "worker": "source", "model": "m", "attempt": 1, "seed": 1}
    )
    frames = [b"id: s1\nevent: started\ndata: %b\n\n" % started.encode()]
    for i in range(tokens):
        data = json.dumps({"t": " token", "i": i}, separators=(",", ":"))
        frames.append(b"id: t%d:%d\nevent: token\ndata: %b\n\n" % (i, 1000 + i, data.encode()))
    end = json.dumps({"tokens_out": tokens, "stop_reason": "length"})
    last = chunk(b"id: end\nevent: end\ndata: %b\n\n" % end.encode()) + b"0\r\n\r\n"
    return [HEAD + chunk(frames[0]), *map(chunk, frames[1:]), last]


class Source:
    """All running streams, written to by one clock."""

    def __init__(self, port: int, slots: int, tokens: int, rate: float) -> None:
        self.port, self.slots, self.rate = port, slots, rate
        self.frames = rendered(tokens)
        self.streams: dict[asyncio.Transport, int] = {}

    def health(self) -> bytes:
        """What an orchestrator asks for."""
        body = json.dumps(
            {
                "status": "ready",
                "worker_id": f"source-{self.port}",
                "model": "m",
                "engine": "source",
                "slots": self.slots,
                "ctx": 1_000_000,
            }
        ).encode()
        head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        return head + body

    async def tick(self) -> None:
        """Write the next frame of every stream, at the pace that was asked for."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            for transport, place in list(self.streams.items()):
                transport.write(self.frames[place])
                if place + 1 == len(self.frames):
                    del self.streams[transport]
                    transport.close()
                else:
                    self.streams[transport] = place + 1
            due = max(due + 1 / self.rate, loop.time())
            await asyncio.sleep(due - loop.time())


class Peer(asyncio.Protocol):
    """One connection of a relay."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer when the head and the body (of a size that is told) are here."""
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        if head.startswith(b"GET"):
            self.transport.write(self.source.health())
            self.transport.close()
        elif len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            self.source.streams[self.transport] = 0

    def connection_lost(self, _exc: Exception | None) -> None:
        """The relay left."""
        self.source.streams.pop(self.transport, None)


async def main(port: int, slots: int, tokens: int, rate: float) -> None:
    """Serve for ever."""
    source = Source(port, slots, tokens, rate)
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Peer(source), "127.0.0.1", port, backlog=2048)
    await source.tick()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
