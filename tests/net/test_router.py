"""Finding the one who answers."""

from __future__ import annotations

import pytest

from llorch.net.exchange import Request
from llorch.net.router import Router
from tests.net.looped import run
from tests.net.raw import Raw, a_server


def routes() -> Router:
    router = Router()

    def add(method: str, pattern: str) -> None:
        async def answer(request: Request) -> None:
            request.exchange.respond_json({"pattern": pattern, "parts": request.parts})

        router.add(method, pattern, answer)

    add("GET", "/tasks")
    add("POST", "/tasks")
    add("GET", "/tasks/{id}")
    add("DELETE", "/tasks/{id}")
    add("GET", "/tasks/{id}/events")
    add("GET", "/models/{name*}")
    return router


@pytest.mark.parametrize(
    "target, pattern, parts",
    [
        ("/tasks", "/tasks", {}),
        ("/tasks/a%2Eb:1", "/tasks/{id}", {"id": "a.b:1"}),
        ("/tasks/x/events", "/tasks/{id}/events", {"id": "x"}),
        ("/models/hf:org/repo:q4", "/models/{name*}", {"name": "hf:org/repo:q4"}),
    ],
)
def test_a_path_finds_its_pattern_and_parts(target, pattern, parts):
    async def main() -> None:
        async with a_server(routes()) as server:
            client = await Raw.to(server)
            assert (await client.get(target)).json() == {"pattern": pattern, "parts": parts}
            await client.leave()

    run(main())


@pytest.mark.parametrize("target", ["/", "/tasks/", "/tasks/a/b", "/Tasks", "/tasks/a/events/"])
def test_a_path_without_a_pattern_is_404(target):
    async def main() -> None:
        async with a_server(routes()) as server:
            client = await Raw.to(server)
            reply = await client.get(target)
            assert (reply.status, reply.json()["error"]["code"]) == (404, "NOT_FOUND")
            await client.leave()

    run(main())


def test_a_wrong_method_is_405_and_says_which_are_right():
    async def main() -> None:
        async with a_server(routes()) as server:
            client = await Raw.to(server)
            await client.send(b"PUT /tasks/1 HTTP/1.1\r\nHost: x\r\n\r\n")
            reply = await client.reply()
            assert reply.status == 405
            assert reply.json()["error"]["hint"] == "use DELETE or GET"
            await client.leave()

    run(main())
