from __future__ import annotations

import random

import pytest

from llorch.core.types import TextMade
from llorch.engine.stop import StopCutter


def run(pieces: list[str], *stops: str) -> tuple[str, str | None, list[str]]:
    """(text that went out, the stop string that was found, the pieces that went out)."""
    cutter, out = StopCutter(stops), list[TextMade]()
    for index, text in enumerate(pieces):
        out += cutter.push(TextMade(text, (index,), index))
        if cutter.found is not None:
            break
    else:
        out += cutter.rest()
    assert [token for piece in out for token in piece.ids] == list(
        range(len([token for piece in out for token in piece.ids]))
    )
    return "".join(piece.text for piece in out), cutter.found, [piece.text for piece in out]


@pytest.mark.parametrize(
    "pieces,stops,expected",
    [
        (["a", "b", "c"], (), ("abc", None)),
        (["Hello", " wor", "ld!"], ("world",), ("Hello ", "world")),
        (["Hello", " wor", "k"], ("world",), ("Hello work", None)),
        (["ab", "ab", "ac"], ("abac",), ("ab", "abac")),
        (["x", "\n", "\n", "y"], ("\n\n", "y"), ("x", "\n\n")),
        (["one two"], ("two", "one"), ("", "one")),
        (["ab"], ("a", "ab"), ("", "ab")),
        (["a", "b"], ("", "b"), ("a", "b")),
        (["the en"], ("end",), ("the en", None)),
        (["stop", "stop"], ("stop",), ("", "stop")),
    ],
)
def test_text_ends_before_the_first_stop_string(
    pieces: list[str], stops: tuple[str, ...], expected: tuple[str, str | None]
) -> None:
    assert run(pieces, *stops)[:2] == expected


def test_pieces_go_out_as_soon_as_no_stop_string_can_begin_in_them() -> None:
    cutter = StopCutter(["END"])
    assert [p.text for p in cutter.push(TextMade("one ", (1,), 0))] == ["one "]
    assert cutter.push(TextMade("two E", (2,), 1)) == []
    assert [p.text for p in cutter.push(TextMade("x", (3,), 2))] == ["two E", "x"]


def test_pieces_stay_whole_so_that_ids_stay_in_step() -> None:
    assert run(["ab\n", "c", "\n\nd"], "\n\n") == ("ab\nc", "\n\n", ["ab\n", "c"])
    assert run(["abc", "d\n\n"], "\n\n") == ("abcd", "\n\n", ["abc", "d"])


def test_tokens_without_text_go_with_the_text_after_them() -> None:
    cutter = StopCutter([])
    assert cutter.push(TextMade("", (7,), 0)) == []
    assert cutter.push(TextMade("a", (8,), 1)) == [TextMade("a", (7, 8), 0)]
    assert cutter.push(TextMade("", (2,), 2)) == []
    assert cutter.rest() == []


def test_ids_that_are_unknown_make_the_joined_piece_inexact() -> None:
    cutter = StopCutter([])
    assert cutter.push(TextMade("", (), 0, exact=False)) == []
    assert cutter.push(TextMade("a", (8,), 1)) == [TextMade("a", (), 0, exact=False)]


def test_any_cutting_of_any_text_is_cut_as_if_it_came_in_one_piece() -> None:
    draw = random.Random(3)
    for _ in range(2000):
        text = "".join(draw.choices("ab\n", k=12))
        stops = tuple("".join(draw.choices("ab\n", k=draw.randint(1, 4))) for _ in range(2))
        cuts = sorted(draw.choices(range(13), k=4))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, 12], strict=True)]
        out, found, _ = run(pieces, *stops)
        ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
        if not ends:
            assert (out, found) == (text, None)
        else:
            assert found is not None
            assert text.startswith(out + found)
            assert not any(stop in out for stop in stops)
