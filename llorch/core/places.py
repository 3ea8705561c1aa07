"""What waiting tasks are told: how many go before them, and when they will probably start."""

from __future__ import annotations

from llorch.core.effects import Announce
from llorch.core.fleet import Fleet, Worker
from llorch.core.forecast import Forecast
from llorch.core.queue import TaskQueue
from llorch.core.task import Task


class Places:
    """Announces places in the queue, each again only when it has changed."""

    def __init__(self, queue: TaskQueue, fleet: Fleet, forecast: Forecast) -> None:
        self._queue = queue
        self._fleet = fleet
        self._forecast = forecast

    def announce(self, task: Task) -> Announce:
        """Tell a waiting task its place, whether it has changed or not."""
        serving = self._fleet.serving(task.spec.model)
        return self._announce(task, self._queue.position(task), serving)

    def moves(self) -> list[Announce]:
        """Tell all those whose place is not the one that they were told last."""
        return [move for model in self._queue.models() for move in self._moves_in(model)]

    def _moves_in(self, model: str) -> list[Announce]:
        moved = [
            (task, place)
            for place, task in enumerate(self._queue.line(model))
            if task.announced != place
        ]
        serving = self._fleet.serving(model) if moved else []
        return [self._announce(task, place, serving) for task, place in moved]

    def _announce(self, task: Task, place: int, serving: list[Worker]) -> Announce:
        task.announced = place
        start_ms = self._forecast.start_ms(task.spec.model, place, serving)
        return Announce(task.spec.task_id, place, start_ms)
