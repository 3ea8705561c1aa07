"""The waiting tasks: one line per model, two classes in a line, first come first served.

Interactive goes before batch; a batch task that has waited `promote_after_seconds` goes with the
interactive ones, at the place its arrival gives it. A task that was dispatched and comes back goes
to the place of its arrival too, so it keeps its turn. The capacity counts all lines together.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from llorch.core.task import Task
from llorch.core.types import Priority

Entry = tuple[float, int, Task]  # arrival in seconds, serial number, task


@dataclass(slots=True)
class Line:
    """The tasks that wait for one model, each class ordered by arrival."""

    interactive: list[Entry] = field(default_factory=list)
    batch: list[Entry] = field(default_factory=list)

    def of(self, priority: Priority) -> list[Entry]:
        """The entries of one class."""
        return self.interactive if priority is Priority.INTERACTIVE else self.batch

    def __len__(self) -> int:
        return len(self.interactive) + len(self.batch)

    def __iter__(self) -> Iterator[Task]:
        for _, _, task in (*self.interactive, *self.batch):
            yield task


class TaskQueue:
    """All lines. `capacity` bounds what may wait in total (tasks)."""

    def __init__(self, capacity: int, promote_after_seconds: float = 300.0) -> None:
        self.capacity = capacity
        self.promote_after_seconds = promote_after_seconds
        self._lines: dict[str, Line] = {}
        self._entries: dict[str, Entry] = {}
        self._serials: dict[str, int] = {}
        self._next_serial = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._entries

    @property
    def full(self) -> bool:
        """True when nothing more may wait."""
        return len(self._entries) >= self.capacity

    def add(self, task: Task, now: float) -> None:
        """Put a task at the place that its arrival gives it, whether new or come back: a promoted
        batch task stays promoted."""
        serial = self._serials.setdefault(task.spec.task_id, self._next_serial)
        self._next_serial = max(self._next_serial, serial + 1)
        entry = (task.accepted_at, serial, task)
        line = self._lines.setdefault(task.spec.model, Line())
        aged = now - task.accepted_at >= self.promote_after_seconds
        entries = line.interactive if aged else line.of(task.spec.priority)
        insort(entries, entry, key=lambda e: e[:2])
        self._entries[task.spec.task_id] = entry

    def remove(self, task_id: str) -> None:
        """Take a waiting task out of its line."""
        entry = self._entries.pop(task_id)
        task = entry[2]
        line = self._lines[task.spec.model]
        for entries in (line.of(task.spec.priority), line.interactive):  # promoted ones moved
            if entry in entries:
                entries.remove(entry)
                break
        if not len(line):
            del self._lines[task.spec.model]

    def forget(self, task_id: str) -> None:
        """Drop the memory of a final task's turn."""
        self._serials.pop(task_id, None)

    def promote(self, now: float) -> None:
        """Move batch tasks that waited too long in with the interactive ones."""
        for line in self._lines.values():
            while line.batch and now - line.batch[0][0] >= self.promote_after_seconds:
                insort(line.interactive, line.batch.pop(0), key=lambda e: e[:2])

    def depths(self) -> dict[Priority, int]:
        """How many tasks of each class wait."""
        waiting = [task.spec.priority for _, _, task in self._entries.values()]
        return {priority: waiting.count(priority) for priority in Priority}

    def models(self) -> tuple[str, ...]:
        """The models that tasks wait for."""
        return tuple(self._lines)

    def line(self, model: str) -> Line:
        """The tasks that wait for a model, in the order in which they will be served."""
        return self._lines.get(model) or Line()

    def position(self, task: Task) -> int:
        """How many tasks of its line go before this one (0 means next)."""
        for place, waiting in enumerate(self.line(task.spec.model)):
            if waiting is task:
                return place
        raise KeyError(task.spec.task_id)
