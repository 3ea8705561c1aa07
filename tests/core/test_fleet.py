from __future__ import annotations

import pytest

from llorch.core.fleet import Fleet, Worker, WorkerStatus
from tests.core.driven import report


def fleet_of(*reports, now: float = 0.0) -> Fleet:
    fleet = Fleet(lease_seconds=15.0, lost_kept_seconds=300.0)
    for one in reports:
        fleet.report(one, now)
    return fleet


def test_a_lease_takes_a_slot_and_its_end_gives_it_back():
    fleet = fleet_of(report(slots=2))
    worker = fleet.workers["w1"]
    fleet.grant("w1", "t", 1)
    assert (worker.slots_free, worker.leases) == (1, {"t": 1})
    fleet.release("w1", "t")
    fleet.release("w1", "t")
    assert (worker.slots_free, worker.leases) == (2, {})


def test_releasing_on_a_worker_that_is_gone_does_nothing():
    fleet = fleet_of()
    fleet.release("w9", "t")
    fleet.release(None, "t")


def test_no_lease_is_granted_beyond_the_free_slots():
    fleet = fleet_of(report(slots=2, slots_elsewhere=1))
    fleet.grant("w1", "t", 1)
    with pytest.raises(AssertionError, match="no free slot on w1"):
        fleet.grant("w1", "u", 1)


def test_slots_used_elsewhere_are_not_free_and_never_make_less_than_none():
    assert Worker(report(slots=3, slots_elsewhere=1), 0.0).slots_free == 2
    assert Worker(report(slots=3, slots_elsewhere=9), 0.0).slots_free == 0


@pytest.mark.parametrize("status", ["loading", "draining", "failed"])
def test_a_worker_shows_the_status_that_it_reported(status):
    worker = Worker(report(status=WorkerStatus(status)), 0.0)
    assert worker.status.value == status
    assert not worker.open
    assert worker.hopeful is (status == "loading")


def test_a_worker_is_busy_while_every_slot_is_taken():
    fleet = fleet_of(report())
    worker = fleet.workers["w1"]
    assert (worker.status, worker.open) == (WorkerStatus.READY, True)
    fleet.grant("w1", "t", 1)
    assert (worker.status, worker.open, worker.hopeful) == (WorkerStatus.BUSY, False, True)


def test_a_worker_that_the_orchestrator_drains_is_draining_and_closed():
    worker = Worker(report(), 0.0, draining=True)
    assert (worker.status, worker.open, worker.closed) == (WorkerStatus.DRAINING, False, True)


def test_a_doubt_is_worth_more_than_the_report_before_it_and_less_than_the_next():
    fleet = fleet_of(report())
    worker = fleet.workers["w1"]
    worker.doubt = WorkerStatus.FAILED
    assert (worker.status, worker.open, worker.hopeful) == (WorkerStatus.FAILED, False, False)
    assert not worker.closed, "a doubt may pass"
    fleet.report(report(), 1.0)
    assert worker.status is WorkerStatus.READY


def test_a_worker_is_lost_when_its_report_is_older_than_the_lease():
    fleet = fleet_of(report())
    assert fleet.expire(15.0) == []
    (lost,) = fleet.expire(15.1)
    assert (lost.worker_id, lost.status, lost.closed) == ("w1", WorkerStatus.FAILED, True)


def test_a_worker_is_newly_lost_only_once():
    fleet = fleet_of(report())
    fleet.expire(16.0)
    assert fleet.expire(17.0) == []


def test_a_lost_worker_that_reports_again_is_back_with_its_leases():
    fleet = fleet_of(report())
    fleet.grant("w1", "t", 1)
    fleet.expire(16.0)
    worker = fleet.report(report(), 17.0)
    assert (worker.lost, worker.leases) == (False, {"t": 1})


def test_a_lost_worker_is_shown_for_a_while_and_then_forgotten():
    fleet = fleet_of(report())
    fleet.expire(315.0)
    assert list(fleet.workers) == ["w1"]
    fleet.expire(315.1)
    assert fleet.workers == {}


def test_a_worker_is_removed_once():
    fleet = fleet_of(report())
    removed = fleet.remove("w1")
    assert removed is not None
    assert fleet.remove("w1") is None


def test_serving_names_the_workers_of_a_model_in_any_state():
    fleet = fleet_of(report("a"), report("b", model="n"), report("c", status=WorkerStatus.FAILED))
    assert [w.worker_id for w in fleet.serving("m")] == ["a", "c"]


def test_the_id_of_a_live_worker_is_not_another_processes_at_another_address():
    ours = report(url="http://a:1", started=1)
    fleet = fleet_of(ours)
    assert fleet.rival(ours) is None
    assert fleet.rival(report(url="http://a:1", started=2)) is None, "it was restarted"
    assert fleet.rival(report(url="http://b:1", started=1)) is None, "it goes by two names"
    other = report(url="http://b:1", started=2)
    assert fleet.rival(other) is fleet.workers["w1"]
    fleet.expire(15.1)
    assert fleet.rival(other) is None, "it moved, and is not there any more"
