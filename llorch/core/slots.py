"""Who may use a worker's slots: arrival order, and a bound to how many may wait."""

from __future__ import annotations

from llorch.errors import WorkerBusy


class SlotLine:
    """The running and the waiting tasks of a worker, by id. `bound`: most that may wait."""

    def __init__(self, slots: int, bound: int) -> None:
        self.slots = slots
        self.bound = bound
        self.running: set[str] = set()
        self.waiting: list[str] = []

    @property
    def slots_free(self) -> int:
        """Slots that nobody uses."""
        return self.slots - len(self.running)

    def enter(self, task_id: str) -> int | None:
        """Take a slot (None) or a place in the line (tasks ahead). Raises WorkerBusy."""
        if self.slots_free > 0 and not self.waiting:
            self.running.add(task_id)
            return None
        if len(self.waiting) >= self.bound:
            raise WorkerBusy(
                f"all {self.slots} slots are taken and {len(self.waiting)} requests wait",
                retry_after_ms=1000,
            )
        self.waiting.append(task_id)
        return len(self.waiting) - 1

    def leave(self, task_id: str) -> list[str]:
        """End a task, running or waiting; returns the tasks that have a slot now."""
        self.running.discard(task_id)
        if task_id in self.waiting:
            self.waiting.remove(task_id)
        admitted: list[str] = []
        while self.slots_free > 0 and self.waiting:
            admitted.append(self.waiting.pop(0))
            self.running.add(admitted[-1])
        return admitted
