"""Foreign words into ours: httpx exceptions and error answers become classes of `llorch.errors`.

An error body that a daemon sent becomes the very class that the daemon raised, found by its `code`
in a table made of the tree itself, so a new class needs no change here.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llorch.errors import (
    BodyTooLarge,
    Fault,
    LlorchError,
    NotFound,
    Unauthorised,
    Unreachable,
    UsageError,
    WorkerLost,
)
from llorch.net.address import bad_address, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

_OWN_KEYS = {"code", "message", "type", "param", "retriable", "retry_after_ms", "details", "hint"}
_NO_SUCH_NAME = "no machine is called"


def import_httpx() -> Any:
    """The module httpx without its own command line, which would cost a third of the import."""
    if "httpx" not in sys.modules:
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    import httpx

    return httpx


def _tree(root: type[LlorchError] = LlorchError) -> Iterator[type[LlorchError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def error_of(status: int, body: Any) -> LlorchError:
    """The exception behind an error answer or an `error` event, found by its `code`.

    body: the decoded JSON; both `{"error": {...}}` and the inner object are understood. A code of
    another version of llorch becomes the most general class of its HTTP status.
    """
    inner = body.get("error", body) if isinstance(body, dict) else {}
    if not isinstance(inner, dict):
        inner = {"message": inner}
    known = {kind.code: kind for kind in _tree()}
    kind = known.get(str(inner.get("code", ""))) or _class_of_status(status)
    retry = inner.get("retry_after_ms")
    return kind(
        str(inner.get("message") or f"the server answered with status {status}"),
        hint=str(inner.get("hint") or ""),
        faults=_faults_of(inner.get("details")),
        retry_after_ms=retry if isinstance(retry, int) else None,
        extra={key: value for key, value in inner.items() if key not in _OWN_KEYS},
    )


def _class_of_status(status: int) -> type[LlorchError]:
    matching = (kind for kind in _tree() if kind.status == status)
    return next((kind for kind in matching if kind not in {LlorchError, UsageError}), LlorchError)


def _faults_of(details: Any) -> list[Fault]:
    """The faults in a list of them; what some other server calls details is passed over."""
    items = details if isinstance(details, list) else []
    return [_fault_of(item) for item in items if isinstance(item, dict)]


def _fault_of(item: dict[str, Any]) -> Fault:
    return Fault(
        str(item.get("field", "")), str(item.get("constraint", "")), str(item.get("message", ""))
    )


@contextmanager
def translated(url: str, hint: str, *, streaming: bool = False) -> Iterator[None]:
    """Turn each httpx exception into the class of ours that says it.

    streaming: the answer had begun, so what broke is the answer and not the address.
    """
    httpx = import_httpx()
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise bad_address(url) from error
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        why = _why_unreachable(url, error)
        unknown = why.startswith(_NO_SUCH_NAME)
        raise Unreachable(why, hint="check the name" if unknown else hint) from error
    except httpx.HTTPError as error:
        if streaming:
            raise WorkerLost(f"{place_of(url)} broke off in the middle of its answer") from error
        said = "took too long" if isinstance(error, httpx.TimeoutException) else "broke off"
        raise Unreachable(f"the answer of {place_of(url)} {said}", hint=hint) from error


def _why_unreachable(url: str, error: Exception) -> str:
    text = str(error).lower()
    if "timed out" in text or "timeout" in type(error).__name__.lower():
        return f"{place_of(url)} does not answer"
    if any(part in text for part in ("name or service", "resolution", "nodename", "no address")):
        return f"{_NO_SUCH_NAME} {urlsplit(url).hostname}"
    if "refused" in text:
        return f"nothing answers at {place_of(url)}"
    return f"{place_of(url)} cannot be reached: {str(error) or type(error).__name__}"


def decoded(url: str, response: httpx.Response, accept: tuple[int, ...] = ()) -> dict[str, Any]:
    """The JSON object of an answer; raises what the answer says if it is an error.

    accept: error statuses whose body is an answer all the same.
    """
    if response.is_success and not response.content:
        return {}
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise foreign_answer(url, response.status_code)
    if response.is_success or response.status_code in accept:
        return body
    raise error_of(response.status_code, body)


def foreign_answer(url: str, status: int) -> LlorchError:
    """The error for an answer that is not JSON: some other program listens there, or a proxy."""
    kinds: dict[int, type[LlorchError]] = {
        401: Unauthorised,
        403: Unauthorised,
        404: NotFound,
        413: BodyTooLarge,
    }
    return kinds.get(status, Unreachable)(
        f"{place_of(url)} answers with status {status}, but not as llorch does",
        hint="check the address; another program may listen there",
    )
