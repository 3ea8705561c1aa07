from __future__ import annotations

import pytest

from llorch.core import events as on
from llorch.core.fleet import WorkerStatus
from llorch.core.limits import Limits
from llorch.errors import (
    AdmissionReject,
    ModelNotFound,
    PoolUnavailable,
    ShuttingDown,
    WorkerNotFound,
)
from tests.core.driven import Driven, dispatched, kinds, refusal_of


def full(*, slots: int = 1) -> Driven:
    """A queue of one place with a task in it, and a fleet without a free slot."""
    d = Driven(Limits(queue_capacity=1))
    d.worker(slots=slots)
    d.submit(*[f"running{i}" for i in range(slots)], "waiting")
    return d


def test_1_nothing_is_taken_while_shutting_down_whatever_else_is_wrong():
    d = full()
    d.tell(on.ShutdownRequested())
    error = refusal_of(d.submit("t", model="unknown"))
    assert isinstance(error, ShuttingDown)
    assert error.retry_after_ms == 5000


def test_2_without_any_worker_the_pool_is_unavailable_and_the_hint_says_how_to_start_one():
    error = refusal_of(Driven().submit("t", worker="w9"))
    assert isinstance(error, PoolUnavailable)
    assert "serve-worker" in error.hint
    assert error.retry_after_ms == 5000


def test_3_a_model_that_nobody_serves_is_not_found_and_the_hint_names_the_others():
    d = full()
    d.worker("w2", model="n")
    error = refusal_of(d.submit("t", model="x", worker="w9"))
    assert isinstance(error, ModelNotFound)
    assert "'x'" in error.message
    assert error.hint == "one of: m, n"


def test_4_a_pin_to_a_worker_that_is_not_here_is_not_found():
    error = refusal_of(full().submit("t", worker="w9"))
    assert isinstance(error, WorkerNotFound)
    assert error.hint == "one of: w1"


@pytest.mark.parametrize("status", ["draining", "failed"])
def test_5_without_a_hopeful_worker_the_pool_is_unavailable_and_each_state_is_named(status):
    d = Driven()
    d.worker(status=WorkerStatus(status))
    error = refusal_of(d.submit("t"))
    assert isinstance(error, PoolUnavailable)
    assert f"w1 is {status}" in error.message


@pytest.mark.parametrize("placement", [{"worker": "w2"}, {"backend": "cuda"}, {"avoid": ("w1",)}])
def test_5_a_placement_that_no_worker_of_the_model_meets_is_refused_and_not_relaxed(placement):
    d = Driven()
    d.worker(backend="cpu")
    d.worker("w2", model="n", backend="cuda")
    error = refusal_of(d.submit("t", **placement))
    assert isinstance(error, PoolUnavailable)
    assert "w1 is excluded by the task's placement" in error.message


def test_5_a_lost_worker_gives_no_hope_but_its_model_is_still_known():
    d = Driven()
    d.worker()
    d.tick(16)
    assert isinstance(refusal_of(d.submit("t")), PoolUnavailable)


def test_a_loading_worker_is_worth_waiting_for():
    d = Driven()
    d.worker(status=WorkerStatus.LOADING)
    assert kinds(d.submit("t")) == ["Accept", "Announce"]
    assert dispatched(d.worker()) == [("t", 1, "w1")]


def test_6_a_full_queue_refuses_with_the_time_until_the_next_place_is_free():
    d = full(slots=2)
    error = refusal_of(d.submit("t"))
    assert isinstance(error, AdmissionReject)
    assert "1 tasks wait" in error.message
    assert error.retry_after_ms == 2500  # two slots, 5 seconds each until something was measured


def test_6_the_waiting_time_is_worked_out_from_the_measured_service_rate():
    d = full()
    d.now += 3.0
    d.ended("running0")
    error = refusal_of(d.submit("refill", "t"))
    assert error.retry_after_ms == 3000


def test_a_full_queue_takes_a_task_that_a_free_slot_waits_for():
    d = full()
    d.worker("w2", model="n")
    assert dispatched(d.submit("t", model="n")) == [("t", 1, "w2")]


def test_a_queue_without_places_still_fills_the_slots():
    d = Driven(Limits(queue_capacity=0))
    d.worker()
    assert dispatched(d.submit("t")) == [("t", 1, "w1")]
    assert isinstance(refusal_of(d.submit("u")), AdmissionReject)


def test_a_refused_task_leaves_no_trace():
    d = full()
    d.submit("t")
    assert d.scheduler.book.find("t") is None
    assert d.line() == ["waiting"]
