from __future__ import annotations

import pytest

from llorch.core.queue import TaskQueue
from llorch.core.task import Task
from llorch.core.types import Priority
from tests.core.driven import BATCH, spec


def task(task_id: str, accepted_at: float = 0.0, **more) -> Task:
    return Task(spec(task_id, **more), accepted_at=accepted_at)


def queue_of(*tasks: Task, capacity: int = 100, now: float = 0.0) -> TaskQueue:
    queue = TaskQueue(capacity, promote_after_seconds=300.0)
    for one in tasks:
        queue.add(one, now)
    return queue


def names(queue: TaskQueue, model: str = "m") -> list[str]:
    return [one.spec.task_id for one in queue.line(model)]


def test_tasks_are_served_in_the_order_of_their_arrival():
    assert names(queue_of(task("a", 1), task("b", 2), task("c", 2))) == ["a", "b", "c"]


def test_interactive_goes_before_batch():
    queue = queue_of(task("a", priority=BATCH), task("b"), task("c", priority=BATCH), task("d"))
    assert names(queue) == ["b", "d", "a", "c"]


def test_a_batch_task_that_waited_long_enough_goes_with_the_interactive_ones():
    queue = queue_of(task("old", 0, priority=BATCH), task("young", 10, priority=BATCH))
    queue.add(task("before", -1), 10)
    queue.add(task("after", 10), 10)
    queue.promote(299.9)
    assert names(queue) == ["before", "after", "old", "young"]
    queue.promote(300.0)
    assert names(queue) == ["before", "old", "after", "young"]


def test_a_task_that_comes_back_gets_the_place_of_its_arrival():
    a, b, c = task("a"), task("b"), task("c")
    queue = queue_of(a, b, c)
    queue.remove("b")
    assert names(queue) == ["a", "c"]
    queue.add(b, 50.0)
    assert names(queue) == ["a", "b", "c"]


def test_a_promoted_task_that_comes_back_stays_promoted():
    batch, later = task("batch", 0, priority=BATCH), task("later", 10)
    queue = queue_of(batch, later)
    queue.promote(300.0)
    queue.remove("batch")
    queue.add(batch, 301.0)
    assert names(queue) == ["batch", "later"]


def test_a_promoted_task_can_be_removed():
    queue = queue_of(task("a", priority=BATCH))
    queue.promote(300.0)
    queue.remove("a")
    assert len(queue) == 0


def test_removing_a_task_that_does_not_wait_is_a_bug():
    with pytest.raises(KeyError):
        queue_of().remove("a")


def test_each_model_has_a_line_of_its_own_while_tasks_wait_for_it():
    queue = queue_of(task("a"), task("b", model="n"))
    assert queue.models() == ("m", "n")
    assert (names(queue), names(queue, "n"), names(queue, "x")) == (["a"], ["b"], [])
    queue.remove("a")
    assert queue.models() == ("n",)


def test_the_capacity_counts_all_lines_together():
    queue = queue_of(task("a"), task("b", model="n"), capacity=2)
    assert queue.full
    queue.remove("a")
    assert not queue.full


def test_the_position_is_the_number_of_tasks_ahead_in_its_line():
    a, b, c = task("a"), task("b", priority=BATCH), task("c")
    queue = queue_of(a, b, c, task("other", model="n"))
    assert [queue.position(t) for t in (a, c, b)] == [0, 1, 2]
    queue.remove("c")
    with pytest.raises(KeyError, match="c"):
        queue.position(c)


def test_the_depths_count_each_class():
    queue = queue_of(task("a"), task("b", priority=BATCH), task("c", priority=BATCH, model="n"))
    assert queue.depths() == {Priority.INTERACTIVE: 1, Priority.BATCH: 2}
    assert (len(queue), "a" in queue, "x" in queue) == (3, True, False)


def test_the_turn_of_a_final_task_is_forgotten():
    first = task("a")
    queue = queue_of(first, task("b"))
    queue.remove("a")
    queue.forget("a")
    queue.forget("never seen")
    queue.add(first, 0.0)  # as a new one that arrived in the same instant
    assert names(queue) == ["b", "a"]
