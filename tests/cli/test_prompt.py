"""Where the prompt comes from, with stdin as each kind of thing it can be."""

from __future__ import annotations

import os
import pty
import socket
import threading
from contextlib import contextmanager

import pytest

from llorch.cli import infer_prompt
from llorch.cli.infer_prompt import assemble_prompt
from llorch.errors import UsageError


@pytest.fixture(autouse=True)
def _impatience(monkeypatch):
    monkeypatch.setattr(infer_prompt, "FIRST_BYTE_SECONDS", 0.05)


@contextmanager
def stdin_of(descriptor: int):
    with open(descriptor, encoding="utf-8") as stream:
        yield stream


@contextmanager
def pipe_with(data: bytes, *, closed: bool = True):
    reading, writing = os.pipe()
    os.write(writing, data)
    if closed:
        os.close(writing)
    with stdin_of(reading) as stream:
        yield stream
    if not closed:
        os.close(writing)


def prompt_of(parts, stdin):
    notes: list[str] = []
    return assemble_prompt(parts, stdin, notes.append), notes


def test_an_argument_alone_is_the_prompt():
    with open(os.devnull) as nothing:
        assert prompt_of(["Hello"], nothing) == ("Hello", [])


def test_a_dash_reads_stdin_to_its_end_and_drops_the_last_line_breaks():
    with pipe_with("Grüße\nzwei\n\n".encode()) as stdin:
        assert prompt_of(["-"], stdin) == ("Grüße\nzwei", [])


def test_piped_data_follows_the_argument_after_an_empty_line():
    with pipe_with(b"data\n") as stdin:
        assert prompt_of(["Summarise:"], stdin) == ("Summarise:\n\ndata", [])


def test_parts_stand_in_the_order_given_and_a_dash_is_the_place_of_stdin():
    with pipe_with(b"text") as stdin:
        assert prompt_of(["Text:", "-", "Summary:"], stdin)[0] == "Text:\n\ntext\n\nSummary:"


def test_piped_data_alone_is_the_prompt():
    with pipe_with(b"only this") as stdin:
        assert prompt_of([], stdin) == ("only this", [])


def test_a_file_on_stdin_is_read(tmp_path):
    (tmp_path / "notes").write_text("notes")
    with open(tmp_path / "notes") as stdin:
        assert prompt_of(["Sum:"], stdin) == ("Sum:\n\nnotes", [])


def test_an_idle_pipe_is_not_waited_for_and_the_user_is_told():
    with pipe_with(b"", closed=False) as stdin:
        prompt, notes = prompt_of(["Hello"], stdin)
    assert prompt == "Hello"
    assert len(notes) == 1
    assert "--prompt -" in notes[0]


def test_an_idle_socket_is_not_waited_for():
    ours, theirs = socket.socketpair()
    with ours, stdin_of(theirs.detach()) as stdin:
        assert prompt_of(["Hello"], stdin)[0] == "Hello"


def test_a_dash_waits_for_a_slow_writer():
    reading, writing = os.pipe()

    def write_late():
        os.write(writing, b"late")
        os.close(writing)

    with stdin_of(reading) as stdin:
        timer = threading.Timer(0.2, write_late)
        timer.start()
        assert prompt_of(["-"], stdin)[0] == "late"
        timer.join()


def test_an_empty_pipe_adds_nothing():
    with pipe_with(b"") as stdin:
        assert prompt_of(["Hello"], stdin) == ("Hello", [])


def test_a_terminal_is_never_read():
    leader, follower = pty.openpty()
    os.write(leader, b"typed ahead\n")
    with stdin_of(follower) as stdin:
        assert prompt_of(["Hello"], stdin) == ("Hello", [])
        with pytest.raises(UsageError, match="is a terminal"):
            prompt_of(["-"], stdin)
    os.close(leader)


def test_closed_stdin_is_no_stdin():
    assert prompt_of(["Hello"], None) == ("Hello", [])
    with pytest.raises(UsageError, match="closed"):
        prompt_of(["-"], None)


@pytest.mark.parametrize("parts", [[], [""], ["-"]])
def test_no_prompt_at_all_is_a_usage_error(parts):
    with pipe_with(b"\n") as stdin, pytest.raises(UsageError, match=r"no prompt|is empty"):
        prompt_of(parts, stdin)


def test_no_prompt_and_an_idle_pipe_is_a_usage_error_and_no_hang():
    with pipe_with(b"", closed=False) as stdin, pytest.raises(UsageError, match="no prompt"):
        prompt_of([], stdin)


def test_stdin_that_is_no_text_is_refused_with_the_place():
    with pipe_with(b"ab\xff\xfe") as stdin, pytest.raises(UsageError, match="byte 2"):
        prompt_of(["-"], stdin)


def test_stdin_can_be_only_one_part():
    with pipe_with(b"x") as stdin, pytest.raises(UsageError, match="only one part"):
        prompt_of(["-", "-"], stdin)
