"""Deadlines and retention."""

from __future__ import annotations

from llorch.core import effects as do
from llorch.core.limits import Limits
from llorch.core.task import State
from llorch.core.types import StopReason
from tests.core.driven import Driven, kinds, only

DEADLINE = StopReason.DEADLINE


def running(**more) -> Driven:
    d = Driven()
    d.worker()
    d.submit("t", seconds=10, **more)
    return d


def test_a_waiting_task_ends_at_its_deadline():
    d = running()
    d.submit("u", seconds=10)
    assert d.tick(9.9) == []
    assert d.tick(0.1) == [do.ConcludeEnd("u", DEADLINE), do.Settle("u")]
    assert d.state("u") is State.FINISHED


def test_a_running_task_is_left_to_its_worker_s_own_end_for_a_while():
    d = running()
    assert d.tick(14.9) == []
    assert d.tick(0.1) == [do.Sever("t", 1), do.ConcludeEnd("t", DEADLINE), do.Settle("t")]
    assert (d.state("t"), d.leases()) == (State.FINISHED, {})


def test_the_deadline_cuts_a_task_that_is_being_cancelled_too():
    d = running()
    d.now += 14
    d.cancel("t")
    assert d.tick(1) == [do.Sever("t", 1), do.ConcludeEnd("t", DEADLINE), do.Settle("t")]


def test_what_a_cut_attempt_reports_afterwards_is_ignored():
    d = running()
    d.tick(15)
    assert d.lost("t") == []
    assert d.ended("t") == []
    assert d.state("t") is State.FINISHED


def test_a_jump_of_time_ends_everything_once():
    d = running()
    d.submit("u", "v")
    effects = d.tick(1e6)
    assert sorted(s.task_id for s in only(effects, do.Settle)) == ["t", "u", "v"]
    assert d.scheduler.book.live == {}
    assert d.scheduler.fleet.workers == {}


def test_a_final_task_is_kept_for_its_retention_and_then_forgotten_once():
    d = Driven(Limits(retention_seconds=60))
    d.worker()
    d.submit("t")
    d.ended("t")
    assert only(d.tick(59.9), do.Forget) == []
    assert only(d.tick(0.1), do.Forget) == [do.Forget("t")]
    assert only(d.tick(60), do.Forget) == []
    assert d.scheduler.book.find("t") is None


def test_only_so_many_final_tasks_are_kept():
    d = Driven(Limits(max_retained=2))
    d.worker(slots=3)
    d.submit("a", "b", "c")
    for task_id in ("b", "a", "c"):
        d.ended(task_id)
    assert only(d.tick(), do.Forget) == [do.Forget("b")]


def test_a_forgotten_id_may_be_used_again():
    d = Driven(Limits(retention_seconds=0))
    d.worker()
    d.submit("t")
    d.ended("t")
    d.tick()
    assert kinds(d.submit("t")) == ["Accept", "Announce", "Dispatch"]
