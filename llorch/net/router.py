"""Finds the handler for a method and a path. Patterns name their variable parts: /v2/tasks/{id};
a part written {id*} takes the rest of the path, slashes included."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from llorch.errors import MethodNotAllowed, NotFound
from llorch.net.exchange import Request

Handle = Callable[[Request], Awaitable[None]]


class Router:
    """An application made of handlers. GET answers HEAD too."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handle]] = []

    def add(self, method: str, pattern: str, handle: Handle) -> None:
        """Serve a method and pattern."""
        regex = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.+)", pattern)
        regex = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", regex)
        self._routes.append((method, re.compile(regex), handle))

    async def __call__(self, request: Request) -> None:
        """Run the handler of a request. Raises NotFound or MethodNotAllowed."""
        method = "GET" if request.method == "HEAD" else request.method
        allowed = []
        for route_method, pattern, handle in self._routes:
            match = pattern.fullmatch(request.path)
            if match is None:
                continue
            if route_method == method:
                request.parts = match.groupdict()
                await handle(request)
                return
            allowed.append(route_method)
        if allowed:
            raise MethodNotAllowed(
                f"{request.method} is not served at {request.path}",
                hint=f"use {' or '.join(sorted(set(allowed)))}",
            )
        raise NotFound(f"there is nothing at {request.path}")
