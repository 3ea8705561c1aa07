"""Addresses as people type them, as URLs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from llorch.errors import Unreachable, UsageError


def normalise_url(address: str) -> str:
    """`localhost:8001`, `[::1]:8001`, `::1`, `https://host/` -> a URL without a slash at its end.

    Raises UsageError where the address can be no HTTP address.
    """
    text = address.strip()
    if "://" not in text:
        text = f"http://[{text}]" if _is_bare_ipv6(text) else f"http://{text}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise bad_address(address) from error
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise bad_address(address)
    if parts.username is not None:
        raise UsageError(
            "an address must not contain a user or a password",
            hint="put the API key into LLORCH_API_KEY",
        )
    place = netloc(parts.hostname, port) if port else bracketed(parts.hostname)
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def bracketed(host: str) -> str:
    """A host as it stands in a URL: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def netloc(host: str, port: int) -> str:
    """HOST:PORT as it stands in a URL and as people read it."""
    return f"{bracketed(host)}:{port}"


def _is_bare_ipv6(text: str) -> bool:
    return text.count(":") >= 2 and not text.startswith("[")


def bad_address(address: str) -> UsageError:
    """The error for text that is no address, with an example of one."""
    return UsageError(
        f"{address!r} is no address", hint="host:port, for example localhost:8001, or a http:// URL"
    )


def is_loopback(url: str) -> bool:
    """Whether a URL points at this very machine by its name or number."""
    return is_loopback_host(urlsplit(url).hostname or "")


def is_loopback_host(host: str) -> bool:
    """Whether a host is this very machine; 127.example.org is a name like any other."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def place_of(url: str) -> str:
    """The `host:port` of a URL, for messages."""
    return urlsplit(url).netloc


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect and what to ask for there."""

    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str) -> Address:
        """The address in an http:// URL."""
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError as error:
            raise Unreachable(f"{url!r} is no URL: {error}") from None
        if parts.scheme != "http" or not parts.hostname:
            raise Unreachable(f"cannot connect to {url!r}", hint="use http://HOST:PORT")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port, target)

    @property
    def netloc(self) -> str:
        """HOST:PORT for the Host header and for people."""
        return netloc(self.host, self.port)
