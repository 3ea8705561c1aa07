"""Sizes, ages and tables."""

from __future__ import annotations

import pytest

from llorch.cli.render import age, size, table_lines


@pytest.mark.parametrize(
    "byte_count,text",
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (98_362_432, "98.4 MB"),
        (271_000_000_000, "271 GB"),
        (999_999, "1.00 MB"),
        (5_000_000_000_000_000, "5000 TB"),
    ],
)
def test_a_size_has_three_digits_and_a_decimal_unit(byte_count, text):
    assert size(byte_count) == text


@pytest.mark.parametrize(
    "seconds,text",
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (7300, "2 h"), (200_000, "2 d")],
)
def test_an_age_is_told_in_its_largest_unit(seconds, text):
    assert age(seconds) == text


def test_columns_line_up_and_lines_have_no_blanks_at_their_end():
    assert table_lines(("ID", "NAME"), [("a", "long name"), ("bcd", "x")], None) == [
        "ID   NAME",
        "a    long name",
        "bcd  x",
    ]


def test_a_table_fits_the_terminal_by_cutting_the_widest_column_but_never_the_id():
    rows = [("x" * 30, "y" * 70, "z" * 10)]
    lines = table_lines(("ID", "NAME", "N"), rows, 80)
    assert max(map(len, lines)) == 80
    assert lines[1].startswith("x" * 30)
    assert "…" in lines[1]
    assert lines[1].endswith("z" * 10)


def test_a_pipe_gets_whole_cells():
    assert "y" * 200 in table_lines(("A", "B"), [("a", "y" * 200)], None)[1]


def test_a_cell_cannot_steer_the_terminal_or_break_the_table():
    assert table_lines(("A",), [("a\x1b[2Jb\nc",)], None)[1] == "a [2Jb c"


def test_letters_that_take_two_places_do_not_shift_the_columns():
    wide, plain = table_lines(("ID", "N"), [("模型", "1"), ("abcdé", "2")], None)[1:]
    assert (wide, plain) == ("模型   1", "abcdé  2")
    assert table_lines(("A", "NAME", "N"), [("a", "数据模型数据", "1")], 14)[1] == "a  数据模…   1"


def test_an_address_or_a_path_at_the_end_is_never_cut():
    url = "http://127.0.0.1:8001"
    line = table_lines(("ID", "MODEL", "URL"), [("cpu-8001", "m" * 90, url)], 60)[1]
    assert line.endswith(url)
    assert len(line) == 60
    path = "/" + "x" * 100
    rows = [("a", "98.4 MB", path)]
    assert table_lines(("ID", "SIZE", "PATH"), rows, 60)[1] == f"a   98.4 MB  {path}"
