"""Workers that fall silent, say goodbye, drain and return."""

from __future__ import annotations

import pytest

from llorch.core import effects as do
from llorch.core import events as on
from llorch.core.fleet import WorkerStatus
from llorch.core.task import State
from llorch.errors import PoolUnavailable
from tests.core.driven import Driven, dispatched, error_of, kinds, only


def running(*more: str, slots: int = 1) -> Driven:
    d = Driven()
    d.worker(slots=slots)
    d.submit("t", *more, seconds=1800)
    return d


def test_what_a_silent_worker_ran_is_severed_after_fifteen_seconds():
    d = running("u", slots=2)
    assert d.tick(15.0) == []
    silent = "no report for 15 s"
    assert d.tick(0.1) == [do.Sever("t", 1, silent), do.Sever("u", 1, silent)]
    assert d.tick(0.1) == [], "once is enough"


def test_a_heartbeat_renews_the_leases():
    d = running()
    for _ in range(5):
        d.now += 10
        d.worker()
        assert d.tick() == []


def test_a_severed_attempt_is_reported_as_lost_and_tried_elsewhere():
    d = running()
    d.tick(15.1)
    d.worker("w2")
    assert dispatched(d.lost("t")) == [("t", 2, "w2")]


def test_a_lost_worker_that_returns_is_used_again():
    d = running()
    d.tick(15.1)
    d.lost("t")
    assert dispatched(d.worker()) == [("t", 2, "w1")]


def test_a_lost_worker_is_forgotten_five_minutes_later():
    d = Driven()
    d.worker()
    d.tick(315.0)
    assert "w1" in d.scheduler.fleet.workers
    d.tick(0.1)
    assert d.scheduler.fleet.workers == {}


def test_what_a_worker_ran_that_said_goodbye_is_severed():
    d = running("u", slots=2)
    left = "it left the fleet"
    assert d.tell(on.WorkerLeft("w1")) == [do.Sever("t", 1, left), do.Sever("u", 1, left)]
    assert d.scheduler.fleet.workers == {}


def test_a_second_goodbye_and_one_of_a_stranger_change_nothing():
    d = running()
    d.tell(on.WorkerLeft("w1"))
    assert d.tell(on.WorkerLeft("w1")) == []
    assert d.tell(on.WorkerLeft("stranger")) == []


def test_a_task_whose_worker_left_without_any_further_report_ends_by_its_deadline():
    d = Driven()
    d.worker()
    d.submit("t", seconds=60)
    d.tell(on.WorkerLeft("w1"))
    assert kinds(d.tick(65)) == ["Sever", "ConcludeEnd", "Settle"]


def test_a_draining_worker_finishes_what_it_runs_and_takes_nothing_new():
    d = running("next")
    d.tell(on.DrainRequested("w1"))
    assert d.state("t") is State.RUNNING
    assert dispatched(d.ended("t")) == []
    assert dispatched(d.worker()) == [], "its report does not undo the drain"
    assert dispatched(d.worker("w2")) == [("next", 1, "w2")]


def test_a_worker_that_was_started_again_is_not_drained_any_more():
    d = Driven()
    d.worker(started=1)
    d.tell(on.DrainRequested("w1"))
    d.worker(started=1)
    assert kinds(d.submit("early")) == ["Refuse"]
    d.worker(started=2)
    assert dispatched(d.submit("t")) == [("t", 1, "w1")]


def test_draining_a_stranger_changes_nothing():
    assert Driven().tell(on.DrainRequested("stranger")) == []


def test_a_worker_that_left_and_came_back_is_not_drained_any_more():
    d = Driven()
    d.worker()
    d.tell(on.DrainRequested("w1"), on.WorkerLeft("w1"))
    d.worker()
    assert dispatched(d.submit("t")) == [("t", 1, "w1")]


# -- pins ----------------------------------------------------------------------------------------


def pinned() -> Driven:
    d = running()
    d.submit("p", worker="w1", seconds=1800)
    d.worker("w2", slots=8)
    return d


def left(d: Driven) -> None:
    d.tell(on.WorkerLeft("w1"))


def fell_silent(d: Driven) -> None:
    d.now += 15.1
    d.worker("w2", slots=8)


def drains(d: Driven) -> None:
    d.tell(on.DrainRequested("w1"))


def drains_itself(d: Driven) -> None:
    d.worker(status=WorkerStatus.DRAINING)


def failed(d: Driven) -> None:
    d.worker(status=WorkerStatus.FAILED)


def serves_another_model(d: Driven) -> None:
    d.worker(model="n")


@pytest.mark.parametrize(
    "fate", [left, fell_silent, drains, drains_itself, failed, serves_another_model]
)
def test_a_pin_that_cannot_be_met_any_more_fails_and_never_falls_back(fate):
    d = pinned()
    fate(d)
    effects = d.tick()
    error = error_of(effects)
    assert isinstance(error, PoolUnavailable)
    assert error.message == "no worker that the task is pinned to takes more"
    assert [s.task_id for s in only(effects, do.Settle)] == ["p"]
    assert d.state("p") is State.FAILED


def test_a_pin_survives_a_broken_connection_to_its_worker():
    d = pinned()
    d.lost("t", delivered=True)
    assert kinds(d.tick()) == []
    assert dispatched(d.worker()) == [("p", 1, "w1")]
