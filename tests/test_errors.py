from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from llorch import errors
from llorch.errors import ContextLengthExceeded, Fault, InvalidRequest, LlorchError

ROW = re.compile(
    r"^    (?P<indent>[│├└─ ]*)(?P<name>\w+) +(?P<code>\w+) +(?P<status>\d+) +(?P<exit>\d)$"
)


def drawn_tree() -> list[tuple[str, str, str, int, int]]:
    """Parent, name, code, status and exit code of each class in the module's docstring."""
    rows: list[tuple[str, str, str, int, int]] = []
    parents = ["LlorchError"]
    for line in (errors.__doc__ or "").splitlines():
        if row := ROW.match(line):
            depth = len(row["indent"]) // 3
            parents[depth:] = [row["name"]]
            numbers = int(row["status"]), int(row["exit"])
            rows.append((parents[depth - 1], row["name"], row["code"], *numbers))
    return rows


def subclasses(of: type[LlorchError]) -> Iterator[type[LlorchError]]:
    for child in of.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from subclasses(child)


CLASSES = list(subclasses(LlorchError))


def test_the_tree_in_the_docstring_is_the_real_one():
    real = [(c.__bases__[0].__name__, c.__name__, c.code, c.status, c.exit_code) for c in CLASSES]
    assert sorted(drawn_tree()) == sorted(real)


def test_codes_are_unique():
    codes = [LlorchError.code, *(c.code for c in CLASSES)]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_error_knows_what_its_clients_need(kind):
    assert kind.__doc__
    assert kind.kind.endswith("_error")
    assert 400 <= kind.status < 600
    assert kind.exit_code in {1, 2, 3, 4, 5, 6}
    own_fault = kind.status < 500 and kind.status not in (408, 429)
    assert not (kind.retriable and own_fault), "the same request would fail again"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_an_error_is_shown_in_the_shape_of_the_api(kind):
    shown = kind("it broke").as_dict()
    assert json.loads(json.dumps(shown)) == shown
    assert shown.pop("hint", kind.default_hint) == kind.default_hint
    assert shown == {
        "code": kind.code,
        "message": "it broke",
        "type": kind.kind,
        "param": None,
        "retriable": kind.retriable,
    }


def test_faults_hints_and_waiting_times_are_shown_when_there_are_any():
    faults = [Fault("a", "required", "a is required"), Fault("b", "short", "b is long")]
    error = InvalidRequest("bad", hint="look", faults=faults, retry_after_ms=0, extra={"n": 1})
    assert str(error) == "bad"
    assert error.as_dict() == {
        "code": "INVALID_REQUEST",
        "message": "bad",
        "type": "invalid_request_error",
        "param": "a",
        "retriable": False,
        "hint": "look",
        "retry_after_ms": 0,
        "details": [
            {"field": "a", "constraint": "required", "message": "a is required"},
            {"field": "b", "constraint": "short", "message": "b is long"},
        ],
        "n": 1,
    }


def test_a_hint_of_its_own_goes_before_the_default_one():
    assert ContextLengthExceeded("x").hint == ContextLengthExceeded.default_hint
    assert ContextLengthExceeded("x", hint="mine").hint == "mine"


def test_a_context_that_is_too_small_is_told_with_both_numbers():
    error = ContextLengthExceeded.of(9000, 4096)
    assert "9000" in error.message
    assert "4096" in error.message
    assert error.extra == {"n_prompt_tokens": 9000, "n_ctx": 4096}
