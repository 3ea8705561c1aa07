"""The streaming client in the shape that engines take it: JSON in, an answer out."""

from __future__ import annotations

from typing import Any

from llorch.net.client import Answer, open_stream
from llorch.wire import sse


async def engine_transport(
    method: str, url: str, *, body: dict[str, Any] | None = None, api_key: str = ""
) -> Answer:
    """Send one request, return when the answer's head is here. See `engine.protocol.Transport`."""
    headers = [("content-type", "application/json")]
    if api_key:
        headers.append(("authorization", f"Bearer {api_key}"))
    encoded = b"" if body is None else sse.encode(body)
    return await open_stream(method, url, headers=headers, body=encoded)
