"""Requests that web pages send to a server that is only for its own machine."""

from __future__ import annotations

import pytest

from llorch.errors import Forbidden
from llorch.net.browsers import refuse_web_pages
from llorch.net.listener import HttpServer
from tests.net.looped import run
from tests.net.raw import Raw, a_server
from tests.net.test_server import mirror

OURS = {"box.example.org"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": ""},
        {"host": "127.0.0.1:8080"},
        {"host": "[::1]:8080"},
        {"host": "192.0.2.7:8080"},
        {"host": "LocalHost:8080"},
        {"host": "localhost.:8080"},
        {"host": "llorch"},
        {"host": "llorch.localhost"},
        {"host": "host.docker.internal:8080"},
        {"host": "Box.example.org"},
        {"host": "localhost:8080", "origin": "http://localhost:3000"},
        {"host": "localhost:8080", "origin": "http://127.0.0.1"},
        {"host": "box.example.org:1", "origin": "http://box.example.org:1"},
        {"host": "localhost:8080", "origin": "app://notes.example"},
        {"host": "localhost:8080", "origin": "file://"},
    ],
)
def test_programs_and_local_pages_are_answered(headers):
    refuse_web_pages(headers, OURS)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example:80",
        "127.evil.example",
        "x@evil.example",
        "[::1",
        ":80",
    ],
)
def test_a_public_name_made_to_lead_here_is_refused(host):
    with pytest.raises(Forbidden, match="is not called"):
        refuse_web_pages({"host": host}, OURS)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "https://evil.example",
        "http://127.0.0.1.evil.example",
        "http://192.0.2.7",
        "HTTP://intranet",
        "http://[::1",
        "nonsense",
    ],
)
def test_a_foreign_page_is_refused(origin):
    with pytest.raises(Forbidden, match="pages of"):
        refuse_web_pages({"host": "127.0.0.1:8080", "origin": origin}, OURS)


def test_a_refused_page_reads_why_with_403():
    async def main() -> None:
        async with a_server(mirror) as server:
            client = await Raw.to(server)
            reply = await client.get("/", "Origin: https://evil.example")
            assert reply.status == 403
            assert "https://evil.example" in reply.json()["error"]["message"]
            assert (await client.get("/")).status == 200
            await client.leave()

    run(main())


def test_a_server_for_other_machines_goes_by_any_name():
    async def main() -> None:
        server = HttpServer(mirror)
        await server.bind("0.0.0.0", 0)
        client = await Raw.to(server)
        reply = await client.get("/", "Origin: https://pages.example")
        assert reply.status == 200
        await client.leave()
        await server.close(0.5)

    run(main())
