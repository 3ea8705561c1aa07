"""The control plane's HTTP client: JSON in and out, and event streams, for the CLI and the worker.

Theory of operation. httpx does the talking; every exception of its own and every error answer
becomes a class of `llorch.errors` (see control_errors). The token path of the orchestrator does not
come through here: httpx is too slow for it. Proxies of the environment are not used for loopback,
where they could only do harm.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from llorch.errors import UsageError, WorkerLost
from llorch.net.address import is_loopback, place_of
from llorch.net.control_errors import decoded, foreign_answer, import_httpx, translated
from llorch.wire import sse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import httpx

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
# A peer that vanished (power, cable) is noticed after 30 + 3 * 10 seconds of silence.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}

_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """One event of a stream: its `id:` (empty where it has none), its name and its data."""

    id: str
    event: str
    data: dict[str, Any]


def api_key() -> str:
    """The API key of this user's environment, or nothing."""
    return os.environ.get("LLORCH_API_KEY", "").strip()


def _headers(key: str) -> dict[str, str]:
    if not key:
        return {"User-Agent": "llorch"}
    if not key.isascii() or not key.isprintable():
        raise UsageError("the API key has characters that no header may carry")
    return {"User-Agent": "llorch", "Authorization": f"Bearer {key}"}


def _keep_alive(response: httpx.Response) -> None:
    """Ask TCP to notice a dead peer, since a stream has no time limit of its own."""
    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if not isinstance(connection, socket.socket):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _client_options(url: str, key: str | None, seconds: float) -> dict[str, Any]:
    timeout = import_httpx().Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
    return {
        "base_url": url,
        "headers": _headers(api_key() if key is None else key),
        "timeout": timeout,
        "trust_env": not is_loopback(url),
        # Reading the certificates of the world takes longer than a request that needs none.
        "verify": url.startswith("https:"),
    }


@final
class Control:
    """A client of one daemon for commands: blocking calls, usable from one thread at a time.

    url: as `address.normalise_url` gives it. key: the API key, by default the environment's.
    hint: what to try when nothing answers there. seconds: the longest wait for an answer.
    All calls raise Unreachable and whatever error the daemon answered with.
    """

    def __init__(
        self, url: str, *, key: str | None = None, hint: str = "", seconds: float = ANSWER_SECONDS
    ) -> None:
        self.url = url
        self._hint = hint
        self._client: httpx.Client = import_httpx().Client(**_client_options(url, key, seconds))

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get_json(self, path: str, *, accept: tuple[int, ...] = ()) -> dict[str, Any]:
        """The JSON object at `path`. accept: error statuses whose body is an answer all the same,
        as 503 is for the health of a worker that loads."""
        with translated(self.url, self._hint):
            return decoded(self.url, self._client.get(path), accept)

    def post_json(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a JSON object, return the JSON object of the answer."""
        with translated(self.url, self._hint):
            return decoded(
                self.url, self._client.post(path, content=sse.encode(body or {}), headers=_JSON)
            )

    def delete(self, path: str) -> dict[str, Any]:
        """Send a DELETE, return the JSON object of the answer."""
        with translated(self.url, self._hint):
            return decoded(self.url, self._client.delete(path))

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[StreamedEvent]:
        """Send a JSON object and yield the events of the answer until its body ends.

        There is no limit to the time between two events: a task may wait long in a queue. Raises
        WorkerLost when the connection breaks after the answer began.
        """
        streaming = False
        no_limit = import_httpx().Timeout(None, connect=CONNECT_SECONDS)
        try:
            with self._client.stream(
                "POST", path, content=sse.encode(body), headers=_JSON, timeout=no_limit
            ) as response:
                _keep_alive(response)
                _check_is_stream(self.url, response)
                streaming = True
                yield from events_of(response.iter_bytes(), place_of(self.url))
        except import_httpx().HTTPError:
            with translated(self.url, self._hint, streaming=streaming):
                raise


@final
class AsyncControl:
    """The same for a daemon: coroutines on its own loop, many at once."""

    def __init__(
        self, url: str, *, key: str | None = None, hint: str = "", seconds: float = ANSWER_SECONDS
    ) -> None:
        self.url = url
        self._hint = hint
        options = _client_options(url, key, seconds)
        self._client: httpx.AsyncClient = import_httpx().AsyncClient(**options)

    async def __aenter__(self) -> AsyncControl:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get_json(self, path: str, *, accept: tuple[int, ...] = ()) -> dict[str, Any]:
        """The JSON object at `path`; see `Control.get_json`."""
        with translated(self.url, self._hint):
            return decoded(self.url, await self._client.get(path), accept)

    async def post_json(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a JSON object, return the JSON object of the answer."""
        with translated(self.url, self._hint):
            return decoded(
                self.url,
                await self._client.post(path, content=sse.encode(body or {}), headers=_JSON),
            )

    async def delete(self, path: str) -> dict[str, Any]:
        """Send a DELETE, return the JSON object of the answer."""
        with translated(self.url, self._hint):
            return decoded(self.url, await self._client.delete(path))


def _check_is_stream(url: str, response: httpx.Response) -> None:
    if not response.is_success:
        response.read()
        decoded(url, response)
    if "text/event-stream" not in response.headers.get("content-type", ""):
        raise foreign_answer(url, response.status_code)


def events_of(chunks: Iterable[bytes], place: str) -> Iterator[StreamedEvent]:
    """The events in the bytes of a stream, however they are cut into chunks.

    place: who speaks, for errors. Raises WorkerLost for data that is no JSON object.
    """
    pending = b""
    for chunk in chunks:
        pending += chunk
        complete = pending.rfind(sse.END) + len(sse.END)
        if complete >= len(sse.END):
            for frame in sse.parse(pending[:complete]):
                yield _event_of(frame, place)
            pending = pending[complete:]


def _event_of(frame: sse.Frame, place: str) -> StreamedEvent:
    try:
        data = frame.json()
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise WorkerLost(f"{place} sent an event that is no JSON object")
    return StreamedEvent(frame.event_id, frame.event, data)
