"""Checks the fields of a JSON object and collects every fault, so that all are told at once."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from llorch.errors import Fault, InvalidRequest

T = TypeVar("T")
MAX_DEPTH = 64  # objects and lists within each other; what reads them recursively has room left
IDENTIFIER = frozenset(string.ascii_letters + string.digits + "-_.:")


def decode_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a request body. Raises InvalidRequest, with the place of a fault."""
    try:
        value = json.loads(body or b"null", parse_constant=_finite, parse_float=_finite)
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8", hint="send JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"the body is not JSON: {error.msg} (line {error.lineno} column {error.colno})",
            hint='send an object such as {"model": "smollm2-135m", "prompt": "Hello"}',
        ) from None
    except ValueError as error:  # a number that JSON or Python has no room for
        raise InvalidRequest(f"the body is not acceptable JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the body is nested too deeply") from None
    if _depth_exceeds(value, MAX_DEPTH):
        raise InvalidRequest("the body is nested too deeply")
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object", hint='for example {"model": "…"}')
    return value


def _finite(number: str) -> float:
    """JSON has no NaN and no infinity, so nothing that is passed on may hold them."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is no finite number")
    return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [v for outer in level for v in _inside(outer) if isinstance(v, (dict, list))]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class Fields:
    """Reads typed values out of an object. A faulty value reads as the default; `check()` then
    raises one InvalidRequest that names every fault."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self.values = values
        self.prefix = prefix
        self.faults: list[Fault] = []

    def fault(self, name: str, constraint: str, message: str) -> None:
        """Note a fault of a field."""
        self.faults.append(Fault(self.prefix + name, constraint, message))

    def check(self) -> None:
        """Raise InvalidRequest if any fault was noted."""
        if self.faults:
            names = ", ".join(dict.fromkeys(f.field for f in self.faults))
            raise InvalidRequest(f"invalid request: {names}", faults=self.faults)

    def _get(self, name: str, default: T, accept: Callable[[Any], bool], rule: str) -> T:
        value = self.values.get(name)
        if value is None:
            return default
        if not accept(value):
            self.fault(name, rule, f"{name} must be {rule}")
            return default
        return value  # type: ignore[no-any-return]

    def text(self, name: str, default: str | None = None, longest: int = 256) -> str | None:
        """A string of 1 to `longest` characters."""
        rule = f"a string of 1 to {longest} characters"
        return self._get(name, default, lambda v: _is_text(v) and 0 < len(v) <= longest, rule)

    def identifier(self, name: str, longest: int = 256) -> str | None:
        """A string that may stand in an address and in a header: letters, digits, - _ . :"""
        value = self.text(name, longest=longest)
        if value is not None and not IDENTIFIER.issuperset(value):
            rule = "letters, digits, - _ . :"
            self.fault(name, rule, f"{name} may hold only ASCII {rule}")
            return None
        return value

    def long_text(self, name: str) -> str | None:
        """A string of any length but 0; a body's size is bounded elsewhere."""
        return self._get(name, None, lambda v: _is_text(v) and len(v) > 0, "a non-empty string")

    def integer(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """A whole number from low to high; JSON's true is none, 3.0 is one."""
        rule = f"a whole number from {low} to {high}"
        value = self._get(name, default, lambda v: _is_whole(v) and low <= v <= high, rule)
        return None if value is None else int(value)

    def number(
        self, name: str, default: float | None, low: float, high: float, *, open_low: bool = False
    ) -> float | None:
        """A number from low (or above it) to high."""
        rule = f"a number {'above' if open_low else 'from'} {low:g} to {high:g}"

        def fits(value: Any) -> bool:
            return _is_number(value) and low <= value <= high and not (open_low and value == low)

        value = self._get(name, default, fits, rule)
        return None if value is None else float(value)

    def flag(self, name: str, default: bool) -> bool:
        """A JSON boolean."""
        return self._get(name, default, lambda v: isinstance(v, bool), "true or false")

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        """One of a few words."""
        rule = "one of " + ", ".join(choices)
        return self._get(name, default, lambda v: isinstance(v, str) and v in choices, rule)

    def texts(self, name: str, most: int, longest: int) -> tuple[str, ...]:
        """A string or a list of strings."""
        value = self.values.get(name)
        items = [value] if isinstance(value, str) else value
        if items is None or items == []:
            return ()
        good = isinstance(items, list) and len(items) <= most
        if not good or not all(_is_text(i) and 0 < len(i) <= longest for i in items):
            rule = f"a string, or a list of up to {most} strings, of 1 to {longest} characters each"
            self.fault(name, rule, f"{name} must be {rule}")
            return ()
        return tuple(items)

    def inner(self, name: str) -> Fields:
        """The fields of an object inside this one; their faults count here too."""
        value: dict[str, Any] = self._get(name, {}, lambda v: isinstance(v, dict), "an object")
        inner = Fields(value, f"{self.prefix}{name}.")
        inner.faults = self.faults
        return inner


def _is_text(value: Any) -> bool:
    """A string that UTF-8 can carry: JSON may smuggle lone surrogates in by escapes."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _is_whole(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())
