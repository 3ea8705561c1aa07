"""A web server on loopback that serves bytes, honours Range, and misbehaves on request."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Content:
    """A file: its bytes and the validator it is sent with ("" for none)."""

    data: bytes
    etag: str = ""
    ranges: bool = True


@dataclass
class Fault:
    """What goes wrong in one answer.

    cut_after: the connection breaks after so many body bytes. corrupt: one byte is changed.
    stall_after: after so many bytes nothing comes until `go` is set. status: answered instead.
    """

    cut_after: int | None = None
    corrupt: bool = False
    stall_after: int | None = None
    status: int | None = None
    go: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]


class Web:
    """The server. `files` and `faults` by path; a path's faults are used up one per GET."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.files: dict[str, Content] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.requests: list[Request] = []
        self.stalled = threading.Event()
        self._started: list[Fault] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.web = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self._server.server_address[1]}"

    def serve(self, path: str, data: bytes, etag: str = "", ranges: bool = True) -> str:
        """Put a file at a path; returns its URL."""
        self.files[path] = Content(data, etag, ranges)
        return self.url + path

    def gets(self, path: str) -> list[Request]:
        return [r for r in self.requests if r.method == "GET" and r.path.split("?")[0] == path]

    def close(self) -> None:
        for fault in self._started:
            fault.go.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, handler: _Handler) -> None:
        """Answer one request; what a subclass overrides."""
        path = handler.path.split("?")[0]
        content = self.files.get(path)
        if content is None:
            handler.reply(404, {}, b"")
        else:
            self.send(handler, content, path)

    def send(self, handler: _Handler, content: Content, path: str) -> None:
        """Send the file, or the part asked for, with the next fault of its path."""
        is_get = handler.command == "GET"
        fault = self.faults[path].pop(0) if is_get and self.faults[path] else Fault()
        self._started.append(fault)
        if fault.status:
            handler.reply(fault.status, {}, b"")
            return
        status, headers, body = _ranged(content, handler.headers)
        if content.etag:
            headers["ETag"] = content.etag
        if fault.corrupt:
            body = body[:-1] + bytes([body[-1] ^ 1])
        handler.begin(status, {**headers, "Content-Length": str(len(body))})
        if is_get:
            self._send_body(handler, body, fault)

    def _send_body(self, handler: _Handler, body: bytes, fault: Fault) -> None:
        if fault.cut_after is not None:
            handler.wfile.write(body[: fault.cut_after])
            handler.wfile.flush()
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
        elif fault.stall_after is not None:
            handler.wfile.write(body[: fault.stall_after])
            handler.wfile.flush()
            self.stalled.set()
            fault.go.wait(60)
            handler.wfile.write(body[fault.stall_after :])
        else:
            handler.wfile.write(body)


class _Server(ThreadingHTTPServer):
    web: Web
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in mid-answer is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.web.requests.append(Request(self.command, self.path, headers))
        self.server.web.answer(self)

    do_HEAD = do_GET  # noqa: N815

    def begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.begin(status, {**headers, "Content-Length": str(len(body))})
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _ranged(content: Content, headers) -> tuple[int, dict[str, str], bytes]:
    data, wanted = content.data, headers.get("Range")
    match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
    condition = headers.get("If-Range")
    if match is None or not content.ranges or (condition and condition != content.etag):
        return 200, {}, data
    start = int(match[1])
    if start >= len(data):
        return 416, {"Content-Range": f"bytes */{len(data)}"}, b""
    return 206, {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}, data[start:]
