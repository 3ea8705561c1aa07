"""A daemon that says what the test wrote: real HTTP, real event streams, no engine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, final


def answer_of(*texts: str, **end):
    """The events of an answer that ends well."""
    events = [("queued", {"queue_position": 0}), ("started", {"model": "m"})]
    events += [("token", {"t": text, "i": place}) for place, text in enumerate(texts)]
    facts = {"tokens_out": len(texts), "tokens_per_second": 12.5, "stop_reason": "length"}
    return [*events, ("end", facts | end)]


class _Server(ThreadingHTTPServer):
    daemon: FakeDaemon
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    @property
    def daemon(self) -> FakeDaemon:
        assert isinstance(self.server, _Server)
        return self.server.daemon

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.daemon.requests.append(("GET", self.path, {}))
        known = {"/health": self.daemon.health, "/v2/models": (200, self.daemon.models)}
        self._json(*known.get(self.path, (404, {"error": {"code": "NOT_FOUND"}})))

    def do_DELETE(self) -> None:
        self.daemon.requests.append(("DELETE", self.path, {}))
        self.send_response(204)
        self.end_headers()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.daemon.requests.append(("POST", self.path, body))
        self.daemon.headers.append({k.lower(): v for k, v in self.headers.items()})
        if self.path.endswith("/cancel"):
            self.daemon.cancelled.set()
            self._json(202, {})
        elif self.daemon.refusal is not None:
            self._json(*self.daemon.refusal)
        else:
            self._stream()

    def _json(self, status: int, body: object) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.end_headers()
        try:
            for number, event in enumerate(self.daemon.events):
                self._send(number, event)
        except OSError:
            return  # the client left
        self.daemon.sent.set()

    def _send(self, number: int, event: Any) -> None:
        if isinstance(event, threading.Event):
            event.wait(30)
        elif isinstance(event, bytes):
            self.wfile.write(event)
        else:
            name, data = event
            text = json.dumps(data, ensure_ascii=False)
            frame = f"id: {number}\nevent: {name}\ndata: {text}\n\n"
            self.wfile.write(frame.encode())


@final
class FakeDaemon:
    """Listens on a free port. What it is asked is in `requests` as (method, path, body).

    events: what a task is answered with; a threading.Event among them is waited for, bytes are sent
    as they are. refusal: (status, body) instead of an answer. cancelled: set when a cancel comes.
    sent: set when a whole answer went out.
    """

    def __init__(self) -> None:
        self.events: list = answer_of("Hello", " world")
        self.refusal: tuple[int, object] | None = None
        self.health: tuple[int, object] = (200, {"status": "ready", "model": "only"})
        self.models: object = {"models": [{"id": "only"}]}
        self.requests: list[tuple[str, str, dict]] = []
        self.headers: list[dict[str, str]] = []
        self.cancelled = threading.Event()
        self.sent = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.daemon = self
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> FakeDaemon:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def task(self) -> dict:
        """The body of the only task that was sent."""
        (body,) = [b for m, p, b in self.requests if p in {"/execute", "/v2/tasks"}]
        return body
