"""Following a log that grows, is emptied, is replaced, ends."""

from __future__ import annotations

import pytest

from llorch.cli.follow import log_blocks
from llorch.errors import NotFound


def steps(*actions):
    """A `still_running` that does one thing at each question and is False after the last."""
    left = list(actions)

    def still_running():
        if not left:
            return False
        left.pop(0)()
        return True

    return still_running


def test_without_follow_what_is_there_is_shown(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"a\n" * 100_000)
    assert b"".join(log_blocks(log, None)) == b"a\n" * 100_000


def test_what_is_added_is_shown_and_the_last_words_too(tmp_path):
    log = tmp_path / "log"
    log.write_text("one\n")

    def add(text):
        with log.open("a") as stream:
            stream.write(text)

    running = steps(lambda: add("two\n"), lambda: None, lambda: add("three\n"))
    assert b"".join(log_blocks(log, running)) == b"one\ntwo\nthree\n"


def test_a_log_that_was_emptied_is_shown_from_its_start(tmp_path):
    log = tmp_path / "log"
    log.write_text("long old text\n")
    running = steps(lambda: None, lambda: log.write_text("new\n"))
    assert b"".join(log_blocks(log, running)) == b"long old text\nnew\n"


def test_a_log_that_was_replaced_is_shown_from_its_start(tmp_path):
    log = tmp_path / "log"
    log.write_text("old\n")

    def replace():
        (tmp_path / "other").write_text("longer than before\n")
        (tmp_path / "other").replace(log)

    assert b"".join(log_blocks(log, steps(lambda: None, replace))) == b"old\nlonger than before\n"


def test_no_log_is_an_error(tmp_path):
    with pytest.raises(NotFound):
        list(log_blocks(tmp_path / "none", None))
