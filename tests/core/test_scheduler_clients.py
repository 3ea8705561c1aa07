"""Cancels, and clients that leave and return."""

from __future__ import annotations

import pytest

from llorch.core import effects as do
from llorch.core import events as on
from llorch.core.task import Fact, State
from llorch.core.types import StopReason
from tests.core.driven import Driven, dispatched, kinds

CANCELLED = StopReason.CANCELLED


def running(**more) -> Driven:
    d = Driven()
    d.worker()
    d.submit("t", **more)
    return d


def waiting(**more) -> Driven:
    d = Driven()
    d.worker()
    d.submit("r")
    d.submit("t", **more)
    return d


def left(d: Driven) -> list[str]:
    return kinds(d.tell(on.ClientLeft("t")))


def test_a_waiting_task_is_cancelled_at_once():
    d = waiting()
    assert d.cancel("t") == [do.ConcludeEnd("t", CANCELLED), do.Settle("t")]
    assert (d.state("t"), d.line()) == (State.CANCELLED, [])


def test_a_running_task_is_aborted_on_its_worker_and_ends_by_the_worker_s_last_frame():
    d = running()
    assert d.cancel("t") == [do.Abort("t", 1, "http://w1:1")]
    assert (d.state("t"), d.leases()) == (State.CANCELLING, {"t": 1})
    assert d.ended("t", 1, Fact.CANCELLED) == [do.Settle("t")]
    assert (d.state("t"), d.leases()) == (State.CANCELLED, {})


def test_an_answer_that_was_complete_before_the_cancel_stays_an_answer():
    d = running()
    d.cancel("t")
    d.ended("t", 1, Fact.ENDED)
    assert d.state("t") is State.FINISHED


def test_a_second_cancel_does_no_harm_in_any_state():
    d = waiting()
    d.cancel("t")
    assert d.cancel("t") == []
    d = running()
    d.cancel("t")
    assert d.cancel("t") == []
    d.ended("t", 1, Fact.CANCELLED)
    assert d.cancel("t") == []
    assert d.cancel("unknown") == []


def test_a_cancelled_task_frees_its_slot_for_the_next():
    d = running()
    d.submit("next")
    d.cancel("t")
    assert dispatched(d.ended("t", 1, Fact.CANCELLED)) == [("next", 1, "w1")]


def test_a_cancel_that_the_worker_does_not_act_on_is_cut():
    d = running()
    d.cancel("t")
    assert d.tick(4.9) == []
    assert d.tick(0.1) == [
        do.Sever("t", 1),
        do.ConcludeEnd("t", CANCELLED),
        do.Settle("t"),
    ]
    assert (d.state("t"), d.leases()) == (State.CANCELLED, {})


def test_a_cancel_of_a_task_whose_worker_left_closes_its_connection():
    d = running()
    d.tell(on.WorkerLeft("w1"))
    assert d.cancel("t") == [do.Sever("t", 1)]
    assert kinds(d.lost("t")) == ["ConcludeEnd", "Settle"]


# -- clients that leave --------------------------------------------------------------------------


def test_without_grace_a_task_is_cancelled_when_its_client_leaves():
    assert left(waiting(leave_grace_seconds=0.0)) == ["ConcludeEnd", "Settle"]
    assert left(running(leave_grace_seconds=0.0)) == ["Abort"]


@pytest.mark.parametrize("start", [waiting, running])
def test_with_grace_a_task_goes_on_until_it_is_over(start):
    d = start(leave_grace_seconds=10.0)
    assert left(d) == []
    assert d.tick(9.9) == []
    assert kinds(d.tick(0.1))[0] in ("ConcludeEnd", "Abort")


@pytest.mark.parametrize("start", [waiting, running])
def test_a_client_that_returns_in_time_keeps_its_task(start):
    d = start(leave_grace_seconds=10.0)
    left(d)
    d.now += 9
    assert d.tell(on.ClientReturned("t")) == []
    d.worker()
    assert d.tick(9) == []
    assert not d.state("t").final


def test_a_client_that_leaves_again_gets_the_whole_grace_again():
    d = running(leave_grace_seconds=10.0)
    left(d)
    d.now += 9
    d.worker()
    d.tell(on.ClientReturned("t"))
    left(d)
    assert d.tick(9.9) == []
    assert kinds(d.tick(0.1)) == ["Abort"]


@pytest.mark.parametrize("start", [waiting, running])
def test_a_task_without_a_limit_goes_on_without_its_client(start):
    d = start(leave_grace_seconds=None, seconds=1800)
    assert left(d) == []
    for _ in range(10):
        d.worker()
        d.tick(10)
    assert not d.state("t").final


def test_a_client_that_leaves_or_returns_after_the_end_changes_nothing():
    d = running(leave_grace_seconds=0.0)
    d.ended("t")
    assert left(d) == []
    assert d.tell(on.ClientReturned("t"), on.ClientLeft("unknown")) == []
    assert d.tell(on.ClientReturned("unknown")) == []


def test_the_grace_runs_on_when_the_task_is_tried_again():
    d = running(leave_grace_seconds=10.0)
    left(d)
    d.now += 5
    d.lost("t")
    assert kinds(d.tick(5)) == ["ConcludeEnd", "Settle"]
