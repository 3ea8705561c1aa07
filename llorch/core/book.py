"""Every task that the scheduler knows: live ones, and ended ones while they are retained."""

from __future__ import annotations

from llorch.core.task import Task


class TaskBook:
    """Live and retained tasks by id. A final task is kept `retention_seconds`, and only the newest
    `max_retained` of them."""

    def __init__(self, retention_seconds: float, max_retained: int) -> None:
        self._retention_seconds = retention_seconds
        self._max_retained = max_retained
        self.live: dict[str, Task] = {}
        self.ended: dict[str, Task] = {}  # in the order in which they ended

    def find(self, task_id: str) -> Task | None:
        """A live or retained task."""
        return self.live.get(task_id) or self.ended.get(task_id)

    def open(self, task: Task) -> None:
        """A task was accepted, under an id that no task we remember has."""
        assert self.find(task.spec.task_id) is None, f"task {task.spec.task_id} is known"
        self.live[task.spec.task_id] = task

    def end(self, task: Task, now: float) -> None:
        """A task became final."""
        task.ended_at = now
        self.ended[task.spec.task_id] = self.live.pop(task.spec.task_id)

    def forget_old(self, now: float) -> list[str]:
        """Delete what is past its retention or beyond the bound; returns the ids."""
        forgotten: list[str] = []
        for task_id, task in self.ended.items():
            ended_at = now if task.ended_at is None else task.ended_at
            young = now - ended_at < self._retention_seconds
            if young and len(self.ended) - len(forgotten) <= self._max_retained:
                break
            forgotten.append(task_id)
        for task_id in forgotten:
            del self.ended[task_id]
        return forgotten
