"""Leaving: what waits fails, what runs may finish, and then the process ends, once."""

from __future__ import annotations

from llorch.core import effects as do
from llorch.core import events as on
from llorch.core.task import State
from llorch.errors import ShuttingDown
from tests.core.driven import Driven, dispatched, kinds, only, refusal_of


def running_and_waiting() -> Driven:
    d = Driven()
    d.worker()
    d.submit("r", "a", "b")
    return d


def shutdown(d: Driven) -> list[do.Effect]:
    return d.tell(on.ShutdownRequested())


def grace_ended(d: Driven) -> list[do.Effect]:
    return d.tell(on.GraceEnded())


def test_without_anything_alive_a_shutdown_leaves_at_once():
    assert shutdown(Driven()) == [do.Leave()]


def test_what_waits_fails_and_can_be_sent_to_another_orchestrator():
    d = running_and_waiting()
    effects = shutdown(d)
    assert kinds(effects) == ["ConcludeError", "Settle", "ConcludeError", "Settle"]
    errors = [e.error for e in only(effects, do.ConcludeError)]
    assert all(isinstance(e, ShuttingDown) and e.retriable and e.retry_after_ms for e in errors)
    assert d.state("r") is State.RUNNING


def test_nothing_new_is_admitted():
    d = running_and_waiting()
    shutdown(d)
    assert isinstance(refusal_of(d.submit("new")), ShuttingDown)


def test_what_runs_may_finish_and_then_the_process_leaves():
    d = running_and_waiting()
    shutdown(d)
    assert d.ended("r") == [do.Settle("r"), do.Leave()]


def test_what_is_lost_within_the_grace_is_still_tried_elsewhere():
    d = running_and_waiting()
    shutdown(d)
    d.worker("w2")
    assert dispatched(d.lost("r")) == [("r", 2, "w2")]


def test_when_the_grace_ends_what_still_runs_is_severed_and_fails():
    d = running_and_waiting()
    shutdown(d)
    effects = grace_ended(d)
    assert kinds(effects) == ["Sever", "ConcludeError", "Settle", "Leave"]
    assert d.state("r") is State.FAILED


def test_a_task_that_waits_again_when_the_grace_ends_has_nothing_to_sever():
    d = running_and_waiting()
    shutdown(d)
    d.lost("r")
    assert kinds(grace_ended(d)) == ["ConcludeError", "Settle", "Leave"]


def test_leaving_is_asked_for_exactly_once():
    d = running_and_waiting()
    shutdown(d)
    shutdown(d)
    grace_ended(d)
    grace_ended(d)
    d.tick()
    d.lost("r")
    assert len(only(d.done, do.Leave)) == 1
