from __future__ import annotations

import math

import pytest

from llorch.core.fleet import Worker, WorkerStatus
from llorch.core.forecast import ALPHA, PRIOR_SECONDS, Forecast
from tests.core.driven import report


def forecast_of(seconds: float) -> Forecast:
    forecast = Forecast()
    forecast.observe("m", seconds)
    return forecast


def test_a_model_that_never_answered_is_expected_to_take_the_prior():
    assert Forecast().service_seconds("m") == PRIOR_SECONDS


def test_the_first_answer_replaces_the_prior_and_later_ones_move_the_mean():
    forecast = forecast_of(2.0)
    assert forecast.service_seconds("m") == 2.0
    forecast.observe("m", 12.0)
    assert math.isclose(forecast.service_seconds("m"), 2.0 + ALPHA * 10.0)
    assert forecast.service_seconds("other") == PRIOR_SECONDS


@pytest.mark.parametrize("ahead, start_ms", [(0, 0), (1, 0), (2, 1000), (3, 2000), (10, 9000)])
def test_the_first_tasks_take_the_free_slots_and_others_wait_for_one_of_all(ahead, start_ms):
    # 4 slots of which 2 are free, 4 seconds each: a slot comes free every second.
    workers = [Worker(report("a", slots=3), 0.0, {"x": 1}), Worker(report("b"), 0.0, {"y": 1})]
    assert forecast_of(4.0).start_ms("m", ahead, workers) == start_ms


def test_workers_without_hope_do_not_shorten_the_wait():
    workers = [
        Worker(report("a"), 0.0, {"x": 1}),
        Worker(report("b", slots=9, status=WorkerStatus.DRAINING), 0.0),
        Worker(report("c", slots=9), 0.0, lost=True),
    ]
    assert forecast_of(4.0).start_ms("m", 0, workers) == 4000


def test_a_loading_worker_counts_though_none_of_its_slots_is_free_yet():
    workers = [Worker(report("a", slots=2, status=WorkerStatus.LOADING), 0.0)]
    assert forecast_of(4.0).start_ms("m", 0, workers) == 2000


def test_without_any_worker_a_start_is_still_predicted():
    assert forecast_of(4.0).start_ms("m", 1, []) == 8000


def test_predictions_are_whole_milliseconds_rounded_up():
    assert forecast_of(0.0101).start_ms("m", 0, [Worker(report(), 0.0, {"x": 1})]) == 11
