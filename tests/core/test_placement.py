from __future__ import annotations

import pytest

from llorch.core.fleet import Worker, WorkerStatus
from llorch.core.placement import allowed, candidates, least_loaded
from tests.core.driven import report, spec


def worker(worker_id: str = "w1", *, running: int = 0, **more) -> Worker:
    leases = {f"t{i}": 1 for i in range(running)}
    return Worker(report(worker_id, **more), 0.0, leases)


@pytest.mark.parametrize(
    "wish, may",
    [
        ({}, True),
        ({"worker": "w1"}, True),
        ({"worker": "w2"}, False),
        ({"pool": "box"}, True),
        ({"pool": "other"}, False),
        ({"backend": "cpu"}, True),
        ({"backend": "cuda"}, False),
        ({"avoid": ("w2", "w3")}, True),
        ({"avoid": ("w2", "w1")}, False),
        ({"worker": "w1", "avoid": ("w1",)}, False),
        ({"worker": "w1", "backend": "cuda"}, False),
    ],
)
def test_pins_and_the_avoid_list_are_obeyed_together(wish, may):
    assert allowed(spec("t", **wish), worker("w1", backend="cpu", pool="box")) is may


def test_only_open_workers_with_the_model_are_candidates_in_the_order_of_their_ids():
    workers = [
        worker("d"),
        worker("a", model="other"),
        worker("b", running=1),
        worker("c", status=WorkerStatus.LOADING),
        worker("a1"),
    ]
    assert [w.worker_id for w in candidates(spec("t"), workers)] == ["a1", "d"]
    assert candidates(spec("t", avoid=("d", "a1")), workers) == []


def test_the_least_loaded_worker_has_the_smallest_share_of_its_slots_in_use():
    chosen = least_loaded([worker("a", slots=2, running=1), worker("b", slots=4, running=1)])
    assert chosen.worker_id == "b"


def test_among_equally_loaded_workers_more_free_slots_win_and_then_the_id():
    assert least_loaded([worker("a"), worker("b", slots=8)]).worker_id == "b"
    assert least_loaded([worker("b"), worker("a")]).worker_id == "a"


def test_slots_used_elsewhere_count_as_load():
    chosen = least_loaded(
        [worker("a", slots=4, slots_elsewhere=2), worker("b", slots=4, running=1)]
    )
    assert chosen.worker_id == "b"
