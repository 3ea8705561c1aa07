from __future__ import annotations

import json

import pytest

from llorch.errors import InvalidRequest
from llorch.wire.fields import MAX_DEPTH, Fields, decode_object


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "must be a JSON object"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{", "not JSON: .*line 1 column 2"),
        (b"\xff{}", "not UTF-8|not JSON"),
        (b'{"a": "\xe9"}', "not UTF-8"),
        (b'{"a": NaN}', "NaN is no finite number"),
        (b'{"a": -Infinity}', "-Infinity is no finite number"),
        (b'{"a": 1e999}', "1e999 is no finite number"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested too deeply"),
    ],
)
def test_a_body_that_is_no_acceptable_object_is_refused_in_words(body, message):
    with pytest.raises(InvalidRequest, match=message):
        decode_object(body)


def test_a_body_may_be_nested_as_deep_as_the_limit():
    nested = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
    assert json.dumps(decode_object(nested)).count("{") == MAX_DEPTH


def test_a_refused_body_is_not_repeated_in_the_message():
    with pytest.raises(InvalidRequest) as refused:
        decode_object(b'{"prompt": "my secret", oops}')
    assert "secret" not in str(refused.value) + refused.value.hint


def test_missing_and_null_fields_read_as_the_default():
    for values in ({}, {"a": None}):
        fields = Fields(values)
        assert fields.text("a", "x") == "x"
        assert fields.integer("a", 7, 1, 9) == 7
        assert fields.number("a", None, 0, 1) is None
        assert fields.flag("a", True) is True
        assert fields.choice("a", "x", ["x"]) == "x"
        assert fields.texts("a", 2, 2) == ()
        assert fields.identifier("a") is None
        assert fields.inner("a").text("b") is None
        fields.check()


READERS = {
    "text": lambda f: f.text("a", longest=3),
    "long_text": lambda f: f.long_text("a"),
    "identifier": lambda f: f.identifier("a"),
    "integer": lambda f: f.integer("a", None, 1, 9),
    "number": lambda f: f.number("a", None, 0, 1, open_low=True),
    "flag": lambda f: f.flag("a", False),
    "choice": lambda f: f.choice("a", "x", ["x", "y"]),
    "texts": lambda f: f.texts("a", 2, 3),
}


@pytest.mark.parametrize(
    "reader, value",
    [
        ("text", ""),
        ("text", "long"),
        ("text", 1),
        ("text", "\ud800"),
        ("long_text", ""),
        ("long_text", "a\udfff"),
        ("identifier", "a b"),
        ("identifier", "é"),
        ("identifier", "a/b"),
        ("identifier", "a\n"),
        ("integer", 0),
        ("integer", 10),
        ("integer", 1.5),
        ("integer", True),
        ("integer", "1"),
        ("integer", 10**400),
        ("integer", float("nan")),
        ("integer", float("inf")),
        ("number", 0),
        ("number", 1.1),
        ("number", False),
        ("number", float("nan")),
        ("number", -(10**400)),
        ("flag", 1),
        ("flag", "true"),
        ("choice", "z"),
        ("choice", []),
        ("texts", ["a", "b", "c"]),
        ("texts", ["", "b"]),
        ("texts", ["long"]),
        ("texts", [None]),
        ("texts", {"a": 1}),
        ("texts", ""),
    ],
)
def test_a_faulty_value_is_named_with_its_rule(reader, value):
    fields = Fields({"a": value}, "outer.")
    READERS[reader](fields)
    (fault,) = fields.faults
    assert fault.field == "outer.a"
    assert fault.constraint in fault.message
    with pytest.raises(InvalidRequest, match=r"^invalid request: outer\.a$"):
        fields.check()


@pytest.mark.parametrize(
    "reader, value, read",
    [
        ("text", "abc", "abc"),
        ("text", "é中🦙", "é中🦙"),
        ("identifier", "Aa0-_.:", "Aa0-_.:"),
        ("integer", 9.0, 9),
        ("number", 1, 1.0),
        ("flag", True, True),
        ("choice", "y", "y"),
        ("texts", "abc", ("abc",)),
        ("texts", [], ()),
        ("texts", ["a", "b"], ("a", "b")),
    ],
)
def test_a_good_value_is_read(reader, value, read):
    fields = Fields({"a": value})
    got = READERS[reader](fields)
    assert (got, type(got)) == (read, type(read))
    fields.check()


def test_faults_of_inner_objects_count_outside():
    fields = Fields({"a": {"b": 1}})
    fields.inner("a").text("b")
    assert [f.field for f in fields.faults] == ["a.b"]
