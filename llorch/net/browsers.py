"""Keeps web pages away from a server that is only for its own machine.

A loopback bind keeps other machines out, but not the browser on this one: any page it shows can
post to 127.0.0.1, unasked if it calls its JSON text/plain, and so register a worker of its own; and
a page whose name is made to resolve to 127.0.0.1 ("DNS rebinding") can read the answers too. The
browser tells on both: the first comes with a foreign `Origin`, the second with a `Host` that is a
public name. Other clients send no `Origin`, and reach this machine under a number or a local name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from llorch.errors import Forbidden
from llorch.net.address import is_loopback_host

# No public name ends like this: RFC 6761, RFC 6762 and what ICANN keeps for private use.
LOCAL_ENDINGS = (".localhost", ".local", ".internal")


def refuse_web_pages(headers: Mapping[str, str], names: Collection[str]) -> None:
    """Raise Forbidden for a request that a page of somewhere else sent. names: further host names,
    in lower case, that are ours. Header names are in lower case."""
    host, origin = headers.get("host", ""), headers.get("origin", "")
    name = _host_name(f"//{host}")
    if host and not _is_number(name) and not _is_local(name, names):
        raise Forbidden(
            f"this server is only for its own machine, which is not called {name[:100]!r}",
            hint="ask for it as 127.0.0.1, or let the proxy before it send that as Host",
        )
    if origin and not _is_ours(origin, host):
        raise Forbidden(
            f"pages of {origin[:100]!r} may not use this server, which is only for its own machine",
            hint="open the page from localhost, or send no Origin",
        )


def _host_name(address: str) -> str:
    """The host in a URL in lower case, "" where there is none."""
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_number(name: str) -> bool:
    """Such a host needs no resolving, so nobody can have made it resolve to us."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_local(name: str, names: Collection[str]) -> bool:
    """A name without a dot is looked up on this machine and its own network only."""
    return name in names or name.endswith(LOCAL_ENDINGS) or (name != "" and "." not in name)


def _is_ours(origin: str, host: str) -> bool:
    """A page of this server or of another one here, or a program's own window (app://, file://);
    "null" is what a page says that hides where it is from."""
    scheme, separator, place = origin.partition("://")
    if scheme.lower() not in ("http", "https"):
        return separator != ""
    return place == host or is_loopback_host(_host_name(origin))
