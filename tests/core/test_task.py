from __future__ import annotations

from itertools import product

import pytest

from llorch.core.task import FINAL, TRANSITIONS, Fact, IllegalTransition, State, Task
from tests.core.driven import spec


def task_in(state: State) -> Task:
    return Task(spec("t"), accepted_at=0.0, state=state)


@pytest.mark.parametrize("state, fact", sorted(product(State, Fact)))
def test_a_task_moves_as_the_table_says_and_in_no_other_way(state, fact):
    task = task_in(state)
    after = TRANSITIONS.get((state, fact))
    if after is None:
        with pytest.raises(IllegalTransition, match=f"t is {state.value}: it cannot be"):
            task.move(fact)
        assert task.state is state
    else:
        task.move(fact)
        assert task.state is after


def test_a_final_state_has_no_exit():
    assert {state for state in State if state.final} == FINAL
    assert not [entry for entry in TRANSITIONS if entry[0].final]


def test_every_state_can_be_reached_and_every_other_one_be_left():
    assert {State.QUEUED, *TRANSITIONS.values()} == set(State)
    assert {state for state, _ in TRANSITIONS} | FINAL == set(State)


def test_a_task_has_no_orphan_deadline_while_its_client_is_there():
    task = Task(spec("t", leave_grace_seconds=10.0), accepted_at=0.0)
    assert task.orphan_deadline is None
    task.orphaned_at = 5.0
    assert task.orphan_deadline == 15.0


def test_a_cancel_is_overdue_only_after_it_was_asked_for():
    task = task_in(State.CANCELLING)
    assert not task.cancel_overdue(1e9, 5.0)
    task.cancel_requested_at = 100.0
    assert not task.cancel_overdue(104.9, 5.0)
    assert task.cancel_overdue(105.0, 5.0)
