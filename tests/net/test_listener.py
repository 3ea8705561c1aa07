"""Opening a port, and saying why it cannot be opened."""

from __future__ import annotations

import socket

import pytest

from llorch.errors import BindFailed
from llorch.net.listener import HttpServer
from tests.net.looped import run
from tests.net.raw import Raw, a_server
from tests.net.test_server import mirror


def test_port_0_takes_a_free_one_and_says_which():
    async def main() -> None:
        async with a_server(mirror) as server:
            assert server.port > 0
            assert server.url == f"http://127.0.0.1:{server.port}"

    run(main())


def test_a_port_in_use_is_told_with_what_to_try():
    async def main() -> None:
        async with a_server(mirror) as server:
            with pytest.raises(BindFailed, match=f"127.0.0.1:{server.port} is in use") as raised:
                await HttpServer(mirror).bind("127.0.0.1", server.port)
            assert "--bind" in raised.value.hint

    run(main())


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_a_foreign_address_is_told(host):
    async def main() -> None:
        with pytest.raises(BindFailed, match="is no address of this machine"):
            await HttpServer(mirror).bind(host, 0)

    run(main())


def test_a_port_is_free_again_at_once_after_the_close():
    async def main() -> None:
        async with a_server(mirror) as server:
            client = await Raw.to(server)
            await client.get()
            port = server.port
        again = HttpServer(mirror)
        await again.bind("127.0.0.1", port)
        await again.close(0)
        await client.leave()

    run(main())


def test_closing_what_was_never_opened_is_harmless():
    async def main() -> None:
        await HttpServer(mirror).close(0)

    run(main())


def test_ipv6_urls_have_brackets():
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return  # this machine has no IPv6

    async def main() -> None:
        server = HttpServer(mirror)
        await server.bind("::1", 0)
        assert server.url == f"http://[::1]:{server.port}"
        await server.close(0)

    run(main())
