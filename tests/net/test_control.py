"""The control client against a real HTTP server."""

from __future__ import annotations

import asyncio
import socket

import pytest

from llorch import errors
from llorch.net.address import is_loopback, normalise_url
from llorch.net.control import AsyncControl, Control, StreamedEvent, events_of
from llorch.net.control_errors import error_of
from tests.cli.fake_daemon import FakeDaemon, answer_of


@pytest.fixture
def daemon():
    with FakeDaemon() as running:
        yield running


@pytest.fixture
def control(daemon):
    with Control(f"http://{daemon.address}", key="", hint="start it") as client:
        yield client


@pytest.mark.parametrize(
    "typed,url",
    [
        ("localhost:8001", "http://localhost:8001"),
        (" http://host/ ", "http://host"),
        ("https://host:443/prefix/", "https://host:443/prefix"),
        ("[::1]:8001", "http://[::1]:8001"),
        ("::1", "http://[::1]"),
        ("HTTP://Host:1", "http://host:1"),
    ],
)
def test_an_address_as_people_type_it_becomes_a_url(typed, url):
    assert normalise_url(typed) == url


@pytest.mark.parametrize(
    "typed", ["", "ftp://x", "http://", "host:x", "host:99999", "a:b@host:1", "host:1?x=1", "[::1"]
)
def test_what_can_be_no_address_is_a_usage_error(typed):
    with pytest.raises(errors.UsageError):
        normalise_url(typed)


@pytest.mark.parametrize(
    "url,expected",
    [
        ("http://localhost:1", True),
        ("http://127.3.4.5", True),
        ("http://[::1]:1", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
    ],
)
def test_loopback_is_told_from_the_rest(url, expected):
    assert is_loopback(url) is expected


def test_json_goes_out_and_comes_back(daemon, control):
    assert control.get_json("/health") == {"status": "ready", "model": "only"}
    assert control.post_json("/x/cancel", {"a": 1}) == {}
    assert ("POST", "/x/cancel", {"a": 1}) in daemon.requests
    assert control.delete("/v2/workers/w") == {}


def test_an_error_status_is_an_answer_where_it_is_expected(daemon, control):
    daemon.health = (503, {"status": "loading"})
    assert control.get_json("/health", accept=(503,)) == {"status": "loading"}
    with pytest.raises(errors.Refused):
        control.get_json("/health")


def _tree(root):
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


@pytest.mark.parametrize("kind", list(_tree(errors.LlorchError)), ids=lambda kind: kind.__name__)
def test_every_error_comes_back_as_its_own_class_with_all_it_said(kind):
    sent = kind(
        "why",
        hint="what",
        faults=[errors.Fault("f", "rule", "sentence")],
        retry_after_ms=1500,
        extra={"n_ctx": 5},
    )
    got = error_of(kind.status, {"error": sent.as_dict()})
    assert type(got) is kind
    assert (got.message, got.hint, got.faults) == (sent.message, sent.hint, sent.faults)
    assert (got.retry_after_ms, got.extra) == (sent.retry_after_ms, sent.extra)


@pytest.mark.parametrize(
    "status,body,kind",
    [
        (404, {"error": {"code": "NEW"}}, errors.NotFound),
        (429, {"error": "text"}, errors.AdmissionReject),
        (418, {}, errors.LlorchError),
        (500, {"error": {"details": [1], "message": None}}, errors.LlorchError),
        (500, {"error": {"details": 1}}, errors.LlorchError),
    ],
)
def test_a_code_that_is_not_known_is_judged_by_its_status(status, body, kind):
    got = error_of(status, body)
    assert isinstance(got, kind)
    assert got.message


def test_nobody_there_is_unreachable_with_place_and_hint():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        Control(f"http://127.0.0.1:{port}", hint="start it") as control,
        pytest.raises(errors.Unreachable, match=f"nothing answers at 127.0.0.1:{port}") as caught,
    ):
        control.get_json("/health")
    assert caught.value.hint == "start it"


def test_a_server_that_accepts_and_is_silent_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with (
            Control(url, seconds=0.2) as control,
            pytest.raises(errors.Unreachable, match="took too long"),
        ):
            control.get_json("/health")


def test_a_name_that_does_not_exist_says_so():
    with (
        Control("http://no-such-host.invalid:1", hint="start it") as control,
        pytest.raises(errors.Unreachable, match=r"no-such-host\.invalid") as caught,
    ):
        control.get_json("/health")
    assert caught.value.hint == "check the name"


def test_an_answer_that_is_not_json_is_named_as_another_program(daemon, control):
    daemon.health = (200, b"<html>hello</html>")
    with pytest.raises(errors.Unreachable, match="not as llorch does"):
        control.get_json("/health")


def test_events_are_streamed_in_order(daemon, control):
    daemon.events = [b": ping\n\n", *answer_of("a"), b"retry: 5\n\n"]
    names = [event.event for event in control.stream("/execute", {})]
    assert names == ["queued", "started", "token", "end"]


def test_a_refused_stream_raises_what_the_daemon_said(daemon, control):
    daemon.refusal = (503, {"error": {"code": "WORKER_BUSY", "message": "full"}})
    with pytest.raises(errors.WorkerBusy, match="full"):
        list(control.stream("/execute", {}))


def test_a_connection_that_breaks_in_the_answer_is_a_lost_worker():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 999\r\n\r\n"

        async def drive():
            await asyncio.to_thread(read_all)

        def read_all():
            with Control(url) as control:
                seen.extend(control.stream("/execute", {}))

        def serve():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(head + b'event: token\ndata: {"t":"a"}\n\n')

        async def both():
            await asyncio.gather(drive(), asyncio.to_thread(serve))

        seen: list[StreamedEvent] = []
        with pytest.raises(errors.WorkerLost, match="broke off"):
            asyncio.run(both())
    assert [event.data for event in seen] == [{"t": "a"}]


def test_events_are_found_however_the_bytes_are_cut():
    stream = 'id: 1\nevent: token\ndata: {"t":"日\u2028本"}\n\n: ping\n\nevent: end\ndata: {}\n\n'
    data = stream.encode()
    expected = [StreamedEvent("1", "token", {"t": "日\u2028本"}), StreamedEvent("", "end", {})]
    for step in range(1, len(data)):
        chunks = [data[place : place + step] for place in range(0, len(data), step)]
        assert list(events_of(chunks, "here")) == expected


@pytest.mark.parametrize("data", ["[1]", "{", "text"])
def test_an_event_that_is_no_object_is_an_error(data):
    with pytest.raises(errors.WorkerLost, match="no JSON object"):
        list(events_of([f"event: x\ndata: {data}\n\n".encode()], "here"))


@pytest.mark.parametrize("key", ["a\nb", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(key):
    with pytest.raises(errors.UsageError) as refused:
        Control("http://127.0.0.1:1", key=key)
    assert key not in str(refused.value)


def test_the_daemons_client_does_the_same_in_coroutines(daemon):
    async def talk():
        async with AsyncControl(f"http://{daemon.address}", key="k") as control:
            assert (await control.get_json("/health"))["status"] == "ready"
            assert await control.post_json("/x/cancel", {"a": 1}) == {}
            assert await control.delete("/v2/workers/w") == {}
            daemon.refusal = (409, {"error": {"code": "CONFLICT", "message": "taken"}})
            with pytest.raises(errors.Conflict, match="taken"):
                await control.post_json("/v2/workers/register", {})
        assert daemon.headers[0]["authorization"] == "Bearer k"

    asyncio.run(talk())


def test_the_daemons_client_tells_that_nobody_is_there():
    async def talk():
        async with AsyncControl("http://127.0.0.1:1") as control:
            await control.get_json("/health")

    with pytest.raises(errors.Unreachable):
        asyncio.run(talk())
