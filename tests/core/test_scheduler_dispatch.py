"""Who gets a slot, in which order, and what its client is told while it waits."""

from __future__ import annotations

import pytest

from llorch.core import effects as do
from llorch.core import events as on
from llorch.core.fleet import WorkerStatus
from llorch.core.limits import Limits
from llorch.core.scheduler import Scheduler
from llorch.core.task import State
from tests.core.driven import BATCH, Driven, dispatched, kinds, only, spec


def busy(*, waiting: tuple[str, ...] = ()) -> Driven:
    """One slot that `r` holds, and tasks that wait for it."""
    d = Driven()
    d.worker()
    d.submit("r", *waiting)
    return d


def test_an_accepted_task_is_announced_and_then_given_a_free_slot():
    d = Driven()
    d.worker()
    effects = d.submit("t", seconds=60.0)
    assert kinds(effects) == ["Accept", "Announce", "Dispatch"]
    assert effects[1] == do.Announce("t", queue_position=0, predicted_start_ms=0)
    assert effects[2] == do.Dispatch("t", 1, "w1", "http://w1:1", 0, 60_000)
    assert (d.state("t"), d.leases()) == (State.RUNNING, {"t": 1})


def test_a_dispatch_says_how_long_the_task_waited_and_what_is_left_of_its_time():
    d = busy(waiting=())
    d.submit("t", seconds=60.0)
    d.now += 2.5
    (dispatch,) = only(d.ended("r"), do.Dispatch)
    assert (dispatch.queue_wait_ms, dispatch.deadline_ms) == (2500, 57_500)


def test_a_dispatch_always_leaves_a_millisecond():
    d = busy()
    d.submit("t", seconds=1.0)
    d.now += 1.0
    (dispatch,) = only(d.ended("r"), do.Dispatch)
    assert dispatch.deadline_ms == 1


def test_a_freed_slot_goes_to_the_first_in_line():
    d = busy(waiting=("a", "b"))
    assert dispatched(d.ended("r")) == [("a", 1, "w1")]
    assert d.line() == ["b"]


def test_interactive_is_served_before_batch_until_batch_waited_five_minutes():
    d = busy()
    d.submit("batch", priority=BATCH, seconds=1800)
    d.submit("first", seconds=1800)
    assert d.line() == ["first", "batch"]
    for _ in range(30):
        d.worker()
        d.tick(10)
    d.submit("late", seconds=1800)
    assert d.line() == ["batch", "first", "late"]


def test_slots_that_others_use_are_not_given_away():
    d = Driven()
    d.worker(slots=3, slots_elsewhere=2)
    assert dispatched(d.submit("a")) == [("a", 1, "w1")]
    assert dispatched(d.submit("b")) == []
    assert dispatched(d.worker(slots=3, slots_elsewhere=1)) == [("b", 1, "w1")]


def test_every_free_slot_is_filled_at_once_by_the_least_loaded_worker_first():
    d = Driven()
    d.worker("w1", slots=2, status=WorkerStatus.LOADING)
    d.submit("a", "b", "c", "d")
    assert dispatched(d.worker("w2", slots=1)) == [("a", 1, "w2")]
    assert dispatched(d.worker("w1", slots=2)) == [("b", 1, "w1"), ("c", 1, "w1")]
    assert d.line() == ["d"]


def test_another_policy_can_choose():
    scheduler = Scheduler(Limits(), policy=lambda workers: workers[-1])
    d = Driven()
    d.scheduler = scheduler
    d.worker("w1", slots=9)
    d.worker("w2")
    assert dispatched(d.submit("t")) == [("t", 1, "w2")]


def test_models_do_not_wait_for_each_other():
    d = busy(waiting=("a",))
    d.worker("w2", model="n")
    assert dispatched(d.submit("b", model="n")) == [("b", 1, "w2")]


def test_a_pinned_task_waits_for_its_worker_and_lets_others_pass():
    d = busy()
    d.submit("pinned", worker="w1")
    d.submit("free")
    assert dispatched(d.worker("w2")) == [("free", 1, "w2")]
    assert dispatched(d.ended("r")) == [("pinned", 1, "w1")]


def test_a_task_with_a_backend_or_an_avoid_list_goes_only_where_it_may():
    d = Driven()
    d.worker("w1", backend="cpu", slots=4)
    d.worker("w2", backend="cuda", slots=4)
    assert dispatched(d.submit("a", backend="cuda")) == [("a", 1, "w2")]
    assert dispatched(d.submit("b", avoid=("w2",))) == [("b", 1, "w1")]


@pytest.mark.parametrize("status", ["loading", "draining", "failed"])
def test_only_ready_workers_are_given_anything(status):
    d = busy(waiting=("a",))
    assert dispatched(d.worker("w2", status=WorkerStatus(status))) == []
    assert dispatched(d.worker("w2")) == [("a", 1, "w2")]


def test_a_worker_with_fewer_slots_than_before_finishes_what_it_has():
    d = Driven()
    d.worker(slots=2)
    d.submit("a", "b", "c")
    d.worker(slots=1)
    assert dispatched(d.ended("a")) == []
    assert dispatched(d.ended("b")) == [("c", 1, "w1")]


# -- places in the queue -------------------------------------------------------------------------


def test_a_place_is_announced_again_only_when_it_has_changed():
    d = busy(waiting=("a", "b", "c"))
    assert only(d.tick(), do.Announce) == []
    d.ended("r")
    assert [(e.task_id, e.queue_position) for e in only(d.tick(), do.Announce)] == [
        ("b", 0),
        ("c", 1),
    ]
    assert only(d.tick(), do.Announce) == []


def test_a_promotion_moves_the_places_of_those_behind():
    d = busy()
    d.submit("batch", priority=BATCH, seconds=1800)
    d.now += 299
    d.worker()
    d.submit("later", seconds=1800)
    assert [(e.task_id, e.queue_position) for e in only(d.tick(), do.Announce)] == [("batch", 1)]
    places = {e.task_id: e.queue_position for e in only(d.tick(1), do.Announce)}
    assert places == {"batch": 0, "later": 1}


def test_the_predicted_start_counts_the_slots_and_the_measured_service_time():
    d = Driven()
    d.worker(slots=2)
    d.submit("a", "b")
    d.now += 3.0
    d.ended("a")
    d.submit("c")
    (announced,) = only(d.submit("x"), do.Announce)
    assert announced == do.Announce("x", 0, predicted_start_ms=1500)  # 3 s over 2 slots
    (announced,) = only(d.submit("y"), do.Announce)
    assert announced == do.Announce("y", 1, predicted_start_ms=3000)


def test_only_complete_answers_teach_the_forecast():
    d = busy(waiting=("a", "b"))
    d.now += 60.0
    d.cancel("r")
    d.lost("r")
    assert d.scheduler.forecast.service_seconds("m") == 5.0


def test_an_id_that_is_in_use_is_never_opened_twice():
    d = busy()
    with pytest.raises(AssertionError, match="r is known"):
        d.tell(on.TaskSubmitted(spec("r", d.now)))
