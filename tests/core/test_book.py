from __future__ import annotations

import pytest

from llorch.core.book import TaskBook
from llorch.core.task import Task
from tests.core.driven import spec


def book_with_ended(*ended_at: float, max_retained: int = 100) -> TaskBook:
    book = TaskBook(retention_seconds=60.0, max_retained=max_retained)
    for number, now in enumerate(ended_at):
        task = Task(spec(f"t{number}"), accepted_at=0.0)
        book.open(task)
        book.end(task, now)
    return book


def test_a_task_is_found_while_it_lives_and_while_it_is_retained():
    book = TaskBook(60.0, 10)
    task = Task(spec("t"), accepted_at=0.0)
    assert book.find("t") is None
    book.open(task)
    assert book.find("t") is task
    book.end(task, 5.0)
    assert book.find("t") is task
    assert (book.live, task.ended_at) == ({}, 5.0)


def test_an_id_cannot_stand_for_two_tasks():
    book = book_with_ended(0.0)
    with pytest.raises(AssertionError, match="t0 is known"):
        book.open(Task(spec("t0"), accepted_at=1.0))


def test_a_final_task_is_forgotten_when_its_retention_ends():
    book = book_with_ended(0.0, 30.0)
    assert book.forget_old(59.9) == []
    assert book.forget_old(60.0) == ["t0"]
    assert book.forget_old(90.0) == ["t1"]
    assert book.find("t0") is None


def test_only_the_newest_final_tasks_are_retained():
    book = book_with_ended(0.0, 1.0, 2.0, max_retained=2)
    assert book.forget_old(3.0) == ["t0"]
    assert list(book.ended) == ["t1", "t2"]
