"""Streams on raw sockets, whose tokens are counted and timed; the client of bench/engine.py."""

from __future__ import annotations

import json
import selectors
import socket
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Dialect:
    """How to see in a stream's bytes that a token came, and that the answer ended by its length."""

    token: bytes
    end: bytes
    ended_by_length: bytes


TASKS = Dialect(b"event: token", b"event: end", b'"stop_reason":"length"')
LLAMA = Dialect(b'"stop":false', b'"stop":true', b'"stop_type":"limit"')


class Stream:
    """One request on a socket of its own, and when its tokens came (seconds since the request)."""

    def __init__(self, port: int, request: bytes, dialect: Dialect) -> None:
        self.began = time.perf_counter()
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(request)
        self.dialect = dialect
        self.first = self.last = 0.0
        self.ended = self.complete = False

    def read(self) -> None:
        """Take what has arrived; every frame is small and arrives whole."""
        data = self.socket.recv(65536)
        if self.dialect.token in data:
            self.last = time.perf_counter() - self.began
            self.first = self.first or self.last
        if self.dialect.end in data or not data:
            self.ended = True
            self.complete = self.dialect.ended_by_length in data
            self.socket.close()


def read_all(streams: list[Stream]) -> float:
    """Read to the ends of all; returns the seconds from the first token to the last."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream.socket, selectors.EVENT_READ, stream)
        while selector.get_map():
            for key, _ in selector.select():
                fd = key.fd
                key.data.read()
                if key.data.ended:
                    selector.unregister(fd)
    if not all(stream.complete for stream in streams):
        raise SystemExit(f"a stream at {streams[0].socket} did not end by its length")
    firsts = [stream.began + stream.first for stream in streams]
    return max(stream.began + stream.last for stream in streams) - min(firsts)


def post(port: int, path: str, body: dict[str, Any], api_key: str = "") -> bytes:
    """The bytes of a request."""
    encoded = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {api_key}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(encoded)}\r\n\r\n"
    return head.encode() + encoded
