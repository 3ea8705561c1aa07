from __future__ import annotations

import pytest

from llorch.core.slots import SlotLine
from llorch.errors import WorkerBusy


def test_whoever_comes_takes_a_slot_while_one_is_free():
    line = SlotLine(slots=2, bound=1)
    assert [line.enter("a"), line.enter("b")] == [None, None]
    assert (line.running, line.slots_free) == ({"a", "b"}, 0)


def test_others_wait_in_the_order_of_their_arrival():
    line = SlotLine(slots=1, bound=3)
    assert [line.enter(i) for i in "abc"] == [None, 0, 1]
    assert line.leave("a") == ["b"]
    assert (line.running, line.waiting) == ({"b"}, ["c"])


def test_beyond_the_bound_nobody_may_wait():
    line = SlotLine(slots=1, bound=1)
    line.enter("a")
    line.enter("b")
    with pytest.raises(WorkerBusy, match="1 slots are taken and 1 requests wait") as refused:
        line.enter("c")
    assert refused.value.retry_after_ms == 1000
    assert line.leave("c") == []


def test_one_who_leaves_the_line_gives_nobody_a_slot():
    line = SlotLine(slots=1, bound=2)
    for task_id in "abc":
        line.enter(task_id)
    assert line.leave("b") == []
    assert line.leave("a") == ["c"]
    assert line.leave("c") == []
    assert line.slots_free == 1
