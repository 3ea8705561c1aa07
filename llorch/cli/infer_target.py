"""Who answers: an orchestrator or a worker, how a task is sent there, and for which model."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llorch.errors import LlorchError, NotFound, UsageError
from llorch.net.address import is_loopback, normalise_url, place_of
from llorch.net.control import Control
from llorch.store.catalog import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llorch.net.control import StreamedEvent

CANCEL_SECONDS = 3.0
_USUAL_PORT = {"worker": ":8001", "orchestrator": ":8080"}


@dataclass(frozen=True, slots=True)
class Target:
    """A daemon that takes tasks. url: as `normalise_url` gives it."""

    kind: Literal["orchestrator", "worker"]
    url: str

    @classmethod
    def at(cls, kind: Literal["orchestrator", "worker"], address: str) -> Target:
        """The daemon at an address as people type it. Raises UsageError."""
        return cls(kind, normalise_url(address))

    def stream(self, body: dict[str, Any]) -> Iterator[StreamedEvent]:
        """Send a task and yield its events. Raises what the daemon answers, and Unreachable."""
        path = "/v2/tasks" if self.kind == "orchestrator" else "/execute"
        with self._control() as control, _other_servers_told(self):
            yield from control.stream(path, body | {"stream": True})

    def cancel(self, task_id: str) -> bool:
        """Ask for the end of a task, from any thread. False where that came too late or failed:
        the caller is leaving either way, and a daemon frees what belongs to a closed connection."""
        try:
            with self._control(CANCEL_SECONDS) as control:
                if self.kind == "orchestrator":
                    control.post_json(f"/v2/tasks/{task_id}/cancel")
                else:
                    control.post_json("/cancel", {"task_id": task_id})
        except LlorchError:
            return False
        return True

    def choose_model(self) -> str:
        """The model to ask for when the user named none. Raises UsageError naming the choice."""
        return self._only_model() if self.kind == "orchestrator" else self._worker_model()

    def _control(self, seconds: float = 30.0) -> Control:
        return Control(self.url, hint=self._how_to_start(), seconds=seconds)

    def _how_to_start(self) -> str:
        if not is_loopback(self.url):
            return f"is the {self.kind} running there, and does its --bind let this machine in?"
        place = place_of(self.url)
        bind = "" if place.endswith(_USUAL_PORT[self.kind]) else f" --bind {place}"
        model = f" --model {DEFAULT_MODEL}" if self.kind == "worker" else ""
        return f"start it with `llorch serve-{self.kind}{model}{bind}`"

    def _worker_model(self) -> str:
        with self._control() as control, _other_servers_told(self):
            health = control.get_json("/health", accept=(503,))
        if not isinstance(health.get("model"), str):
            raise _not_ours(self)
        return str(health["model"])

    def _only_model(self) -> str:
        with self._control() as control, _other_servers_told(self):
            answer = control.get_json("/v2/models")
        if not isinstance(answer.get("models"), list):
            raise _not_ours(self)
        names = [_name_of(entry) for entry in answer["models"]]
        return pick_model(names, place_of(self.url))


def pick_model(names: list[str], place: str) -> str:
    """The only model, else the default one. Raises UsageError that lists them."""
    if len(names) == 1:
        return names[0]
    if DEFAULT_MODEL in names:
        return DEFAULT_MODEL
    if not names:
        raise UsageError(
            f"{place} has no worker yet, so a model must be named",
            hint=f"llorch serve-worker --model {DEFAULT_MODEL} --orchestrator {place}",
        )
    raise UsageError(f"{place} has several models", hint=f"--model with one of {', '.join(names)}")


def _name_of(entry: Any) -> str:
    if isinstance(entry, dict):
        return str(entry.get("id") or entry.get("model") or entry.get("name") or "")
    return str(entry)


@contextmanager
def _other_servers_told(target: Target) -> Iterator[None]:
    """A path that is not there means that another program listens, or our other daemon."""
    try:
        yield
    except NotFound as error:
        raise (_not_ours(target) if type(error) is NotFound else error) from error


def _not_ours(target: Target) -> LlorchError:
    place = place_of(target.url)
    other = "orchestrator" if target.kind == "worker" else "worker"
    return UsageError(
        f"{place} does not speak as an llorch {target.kind} does",
        hint=f"if the {other} listens there: --{other} {place}",
    )
