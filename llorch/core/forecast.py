"""How long things take, learnt from what was seen: the base of honest waiting times.

The service time of a model is a moving average over finished attempts (weight `ALPHA` for the
newest). Until one has finished, a prior of a short chat answer on a slow machine is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from llorch.core.fleet import Worker

ALPHA = 0.2
PRIOR_SECONDS = 5.0


def moving_average(mean: float | None, newest: float) -> float:
    """The mean with the newest value taken in; the first value is the mean."""
    return newest if mean is None else mean + ALPHA * (newest - mean)


class Forecast:
    """Mean service seconds per model."""

    def __init__(self) -> None:
        self._mean: dict[str, float] = {}

    def observe(self, model: str, seconds: float) -> None:
        """Take in how long an attempt of the model ran."""
        self._mean[model] = moving_average(self._mean.get(model), seconds)

    def service_seconds(self, model: str) -> float:
        """Expected duration of one attempt of the model."""
        return self._mean.get(model, PRIOR_SECONDS)

    def start_ms(self, model: str, ahead: int, workers: Iterable[Worker]) -> int:
        """When the task with `ahead` tasks before it will start, in milliseconds from now.

        With s slots of which f are free the first f tasks start now; each further one waits for
        one of s slots, that come free every service/s seconds on average.
        """
        hopeful = [w for w in workers if w.hopeful]
        slots = sum(w.report.slots for w in hopeful)
        free = sum(w.slots_free for w in hopeful if w.open)
        waiting = max(0, ahead + 1 - free)
        return math.ceil(1000 * waiting * self.service_seconds(model) / max(1, slots))
