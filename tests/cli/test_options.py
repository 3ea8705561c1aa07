"""Addresses to listen on."""

from __future__ import annotations

import pytest

from llorch.cli.options import host_and_port
from llorch.cli.serve import require_loopback
from llorch.errors import BindFailed, UsageError
from llorch.net.address import netloc


@pytest.mark.parametrize(
    "text,host,port",
    [
        ("127.0.0.1:9000", "127.0.0.1", 9000),
        ("9000", "127.0.0.1", 9000),
        (":9000", "127.0.0.1", 9000),
        ("0", "127.0.0.1", 0),
        ("localhost", "localhost", 8080),
        ("[::1]:9000", "::1", 9000),
        ("[::1]", "::1", 8080),
        ("::", "::", 8080),
        ("fe80::1", "fe80::1", 8080),
        ("gpu.example.org:80", "gpu.example.org", 80),
    ],
)
def test_an_address_may_leave_out_what_has_a_default(text, host, port):
    assert host_and_port(text, default_host="127.0.0.1", default_port=8080) == (host, port)


@pytest.mark.parametrize(
    "text", ["host:", "host:x", "host:70000", "[::1", "[::1]9", "h:-1", "h:²", "a:b:c"]
)
def test_what_is_no_address_is_a_usage_error(text):
    with pytest.raises(UsageError):
        host_and_port(text, default_host="h", default_port=1)


def test_an_ipv6_host_is_written_in_brackets():
    assert netloc("::1", 80) == "[::1]:80"
    assert netloc("h", 80) == "h:80"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_permission(host):
    require_loopback(host, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gpu.example.org"])
def test_an_address_that_others_reach_is_refused_unless_asked_for_loudly(host):
    with pytest.raises(BindFailed) as refused:
        require_loopback(host, insecure=False)
    assert "--insecure" in refused.value.hint
    require_loopback(host, insecure=True)
