"""What a request's head says: from h11's event to the request that an application sees."""

from __future__ import annotations

import uuid
from urllib.parse import parse_qsl, unquote

import h11

from llorch.errors import HeadersTooLarge, InvalidRequest, LlorchError
from llorch.net.exchange import Exchange, Outlet, Request

CORRELATION_CHARACTERS = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
)
HEADERS_TOO_LARGE = 431  # the status that h11 suggests for them


def new_request(head: h11.Request, body: bytes, outlet: Outlet) -> Request:
    """A complete request, with the exchange that answers it through `outlet`."""
    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in head.headers}
    correlation = correlation_id(headers.get("x-correlation-id", ""))
    method = head.method.decode("ascii")
    path, query = _path_and_query(head.target.decode("latin-1"))
    return Request(
        method=method,
        path=unquote(path),
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers=headers,
        body=body,
        correlation_id=correlation,
        exchange=Exchange(outlet, correlation, bodiless=method == "HEAD"),
    )


def correlation_id(sent: str) -> str:
    """The client's own, where it is harmless, else a new one."""
    if 1 <= len(sent) <= 64 and CORRELATION_CHARACTERS.issuperset(sent):
        return sent
    return str(uuid.uuid4())


def _path_and_query(target: str) -> tuple[str, str]:
    """The parts of a request's target, in its usual form or in the absolute one that clients use
    towards a proxy (RFC 9112 section 3.2)."""
    if not target.startswith("/"):
        target = "/" + target.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    return path, query


def declared_bytes(head: h11.Request) -> int:
    """The content length that a request announces, 0 where it does not; h11 has checked it."""
    return int(dict(head.headers).get(b"content-length", b"0"))


def translated(error: h11.RemoteProtocolError) -> LlorchError:
    """What is wrong with the bytes of a request, in our words."""
    if error.error_status_hint == HEADERS_TOO_LARGE:
        return HeadersTooLarge("the request line and headers are too large")
    return InvalidRequest(f"malformed HTTP: {error}")
