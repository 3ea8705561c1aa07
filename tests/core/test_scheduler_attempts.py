"""How an attempt can end, and what follows."""

from __future__ import annotations

import pytest

from llorch.core import effects as do
from llorch.core import events as on
from llorch.core.fleet import WorkerStatus
from llorch.core.limits import Limits
from llorch.core.task import Fact, State
from llorch.core.types import StopReason
from llorch.errors import InvalidRequest, ModelLoading, WorkerBusy, WorkerLost
from tests.core.driven import BATCH, Driven, dispatched, error_of, kinds


def running(*more: str, workers: int = 1, limits: Limits | None = None) -> Driven:
    """Task `t` in its first attempt on w1; the other tasks wait."""
    d = Driven(limits)
    d.worker()
    d.submit("t", *more)
    for number in range(2, workers + 1):
        d.worker(f"w{number}")
    return d


@pytest.mark.parametrize(
    "outcome, state",
    [
        (Fact.ENDED, State.FINISHED),
        (Fact.CANCELLED, State.CANCELLED),
        (Fact.FAILED, State.FAILED),
    ],
)
def test_a_worker_s_last_frame_settles_the_task(outcome, state):
    d = running()
    assert d.ended("t", 1, outcome) == [do.Settle("t")]
    assert (d.state("t"), d.leases()) == (state, {})


@pytest.mark.parametrize(
    "late",
    [
        on.AttemptEnded("t", 1, Fact.ENDED),
        on.AttemptRefused("t", 1, WorkerBusy("busy")),
        on.AttemptLost("t", 1, "broke", delivered=True),
    ],
)
def test_a_late_report_of_an_earlier_attempt_changes_nothing(late):
    d = running(workers=2)
    d.lost("t", 1)
    assert d.leases("w2") == {"t": 2}
    assert d.tell(late) == []
    assert (d.state("t"), d.leases("w2")) == (State.RUNNING, {"t": 2})


@pytest.mark.parametrize(
    "report",
    [
        on.AttemptEnded("t", 1, Fact.ENDED),
        on.AttemptRefused("t", 1, WorkerBusy("busy")),
        on.AttemptLost("t", 1, "broke", delivered=False),
    ],
)
def test_a_report_for_a_task_that_waits_or_is_final_or_unknown_changes_nothing(report):
    assert Driven().tell(report) == []
    waits = running()
    waits.lost("t", 1)
    assert waits.tell(report) == []
    assert (waits.state("t"), waits.line()) == (State.QUEUED, ["t"])
    final = running()
    final.ended("t")
    assert final.tell(report) == []
    assert final.state("t") is State.FINISHED


def test_a_retriable_refusal_queues_the_task_again_and_waits_for_the_next_report():
    d = running()
    assert kinds(d.refused("t")) == ["Announce"]
    assert d.scheduler.fleet.workers["w1"].status is WorkerStatus.BUSY
    assert dispatched(d.worker()) == [("t", 2, "w1")]


def test_a_refused_task_goes_to_another_worker_at_once():
    d = running(workers=2)
    assert dispatched(d.refused("t")) == [("t", 2, "w2")]


def test_a_task_that_comes_back_keeps_its_turn():
    d = running("a", "b")
    d.refused("t")
    assert d.line() == ["t", "a", "b"]


def test_a_promoted_task_that_comes_back_keeps_its_turn():
    d = Driven()
    d.worker()
    d.submit("r", seconds=1800)
    d.submit("batch", priority=BATCH, seconds=1800)
    d.now += 10
    d.submit("later", seconds=1800)
    d.now += 300
    d.worker()
    d.tick()
    assert dispatched(d.ended("r")) == [("batch", 1, "w1")]
    d.refused("batch")
    assert d.line() == ["batch", "later"]


def test_a_refusal_that_trying_again_cannot_help_ends_the_task_with_it():
    d = running(workers=2)
    error = InvalidRequest("too long")
    assert d.refused("t", error=error) == [do.ConcludeError("t", error), do.Settle("t")]
    assert d.state("t") is State.FAILED
    assert d.scheduler.fleet.workers["w1"].open, "the worker did nothing wrong"


def test_an_attempt_lost_before_its_client_saw_anything_is_tried_elsewhere():
    d = running(workers=2)
    effects = d.lost("t")
    assert kinds(effects) == ["Announce", "Dispatch"]
    assert dispatched(effects) == [("t", 2, "w2")]


def test_an_attempt_lost_after_its_client_saw_something_fails():
    d = running(workers=2)
    effects = d.lost("t", delivered=True)
    assert kinds(effects) == ["ConcludeError", "Settle"]
    error = error_of(effects)
    assert isinstance(error, WorkerLost)
    assert error.message == "worker w1 was lost: it broke"
    assert d.state("t") is State.FAILED


def test_a_worker_whose_connection_broke_gets_nothing_until_it_reports():
    d = running("a")
    assert dispatched(d.lost("t")) == []
    assert d.scheduler.fleet.workers["w1"].status is WorkerStatus.FAILED
    assert dispatched(d.worker()) == [("t", 2, "w1")]


def test_no_task_has_more_attempts_than_the_limit():
    d = running(limits=Limits(max_attempts=3))
    d.lost("t", 1)
    d.worker()
    d.refused("t", 2, ModelLoading("loading"))
    d.worker()
    effects = d.lost("t", 3)
    assert kinds(effects) == ["ConcludeError", "Settle"]
    assert d.state("t") is State.FAILED
    task = d.scheduler.book.find("t")
    assert task is not None
    assert task.failures == [
        "attempt 1 on w1: worker w1 was lost: it broke",
        "attempt 2 on w1: loading",
        "attempt 3 on w1: worker w1 was lost: it broke",
    ]


def test_a_cancelled_attempt_that_is_lost_or_refused_ends_as_cancelled():
    for report in (
        on.AttemptLost("t", 1, "severed", False),
        on.AttemptRefused("t", 1, WorkerBusy("b")),
    ):
        d = running(workers=2)
        d.cancel("t")
        assert d.tell(report) == [do.ConcludeEnd("t", StopReason.CANCELLED), do.Settle("t")]
        assert d.state("t") is State.CANCELLED


def test_a_connection_that_we_closed_for_a_cancel_casts_no_doubt_on_the_worker():
    d = running("next")
    d.cancel("t")
    assert dispatched(d.lost("t")) == [("next", 1, "w1")]


def test_a_loss_on_a_worker_that_left_and_came_back_casts_no_doubt_on_the_new_one():
    d = running("next")
    d.tell(on.WorkerLeft("w1"))
    d.worker()
    d.ended("next")
    assert dispatched(d.lost("t")) == [("t", 2, "w1")]
