"""Decoding bodies, cut wherever a network may cut them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llorch.net.body import BadBody, Chunked, KnownLength, UntilClose, decoder

CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def chunked(chunks: list[bytes], extension: bytes = b"", trailer: bytes = b"") -> bytes:
    body = b"".join(b"%X%b\r\n%b\r\n" % (len(c), extension, c) for c in chunks)
    return body + b"0%b\r\n%b\r\n" % (extension, trailer)


def fed(machine, raw: bytes, cuts: list[int]) -> bytes:
    places = sorted({min(cut, len(raw)) for cut in cuts} | {0, len(raw)})
    return b"".join(machine.feed(raw[a:b]) for a, b in pairwise(places))


@given(
    CHUNKS, CUTS, st.sampled_from([b"", b";a=b", b' ;q="x"']), st.sampled_from([b"", b"A: b\r\n"])
)
def test_chunks_give_their_data_wherever_they_are_cut(chunks, cuts, extension, trailer):
    machine = Chunked()
    assert fed(machine, chunked(chunks, extension, trailer), cuts) == b"".join(chunks)
    assert machine.done
    assert machine.close()


def test_chunks_survive_a_cut_at_every_single_place():
    raw = chunked([b"hello", b"\r\n0\r\n\r\n", b"x" * 300], trailer=b"A: b\r\nC: d\r\n")
    for place in range(len(raw) + 1):
        machine = Chunked()
        body = machine.feed(raw[:place]) + machine.feed(raw[place:])
        assert body == b"hello\r\n0\r\n\r\n" + b"x" * 300
        assert machine.done


@given(CHUNKS, st.data())
def test_a_body_that_breaks_off_is_not_complete(chunks, data):
    raw = chunked(chunks)
    place = data.draw(st.integers(0, len(raw) - 1))
    machine = Chunked()
    assert b"".join(chunks).startswith(machine.feed(raw[:place]))
    assert not machine.done
    assert not machine.close()


@pytest.mark.parametrize("head", [b"zz", b"", b"-1", b"+1", b"0x1", b"1 2", b"1_0", b"\xd9\xa1"])
def test_a_bad_chunk_head_is_an_error(head):
    with pytest.raises(BadBody):
        Chunked().feed(head + b"\r\nabc")


def test_an_endless_chunk_head_is_an_error():
    with pytest.raises(BadBody):
        Chunked().feed(b"1" * 5000)


def test_an_endless_trailer_is_an_error():
    machine = Chunked()
    machine.feed(b"0\r\nA: b")
    with pytest.raises(BadBody):
        machine.feed(b"\r\nA: b" * 100_000)


def test_data_that_does_not_end_with_its_chunk_is_an_error():
    with pytest.raises(BadBody):
        Chunked().feed(b"3\r\nabcde\r\n0\r\n\r\n")


def test_bytes_after_the_body_are_not_body():
    machine = Chunked()
    assert machine.feed(chunked([b"abc"]) + b"HTTP/1.1 200 OK\r\n") == b"abc"
    assert machine.done


@given(st.binary(max_size=100), CUTS)
def test_a_known_length_takes_that_much(body, cuts):
    machine = KnownLength(len(body))
    assert fed(machine, body, cuts) == body
    assert machine.done
    assert machine.feed(b"more") == b""


def test_a_known_length_that_breaks_off_is_not_complete():
    machine = KnownLength(3)
    machine.feed(b"ab")
    assert not machine.close()


def test_a_body_until_close_is_complete_by_the_close():
    machine = UntilClose()
    assert machine.feed(b"abc") == b"abc"
    assert not machine.done
    assert machine.close()


@pytest.mark.parametrize(
    "method, status, headers, kind",
    [
        ("GET", 200, [], UntilClose),
        ("GET", 200, [(b"content-length", b"3")], KnownLength),
        ("GET", 200, [(b"transfer-encoding", b"Chunked")], Chunked),
        ("GET", 200, [(b"content-length", b"3"), (b"transfer-encoding", b"chunked")], Chunked),
        ("HEAD", 200, [(b"content-length", b"3")], KnownLength),
        ("GET", 204, [], KnownLength),
        ("GET", 304, [(b"content-length", b"3")], KnownLength),
    ],
)
def test_the_head_says_how_the_body_is_framed(method, status, headers, kind):
    machine = decoder(method, status, headers)
    assert type(machine) is kind
    if method == "HEAD" or status != 200:
        assert machine.done
