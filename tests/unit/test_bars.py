"""Bars for people, numbers for programs; times in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.analysis.distribution import Bar
from qtctl.text.bars import histogram
from qtctl.text.style import Style
from qtctl.text.units import duration_words

BARS = [Bar(0, 1, 100), Bar(1, 2, 0), Bar(2, 4, 1), Bar(4, 8, 50)]


def test_bars_are_as_long_as_counts_are() -> None:
    assert list(histogram(Style(30), BARS)) == [
        "0 .. 1  100 ██████████████████",
        "1 .. 2    0",
        "2 .. 4    1 ▏",
        "4 .. 8   50 █████████",
    ]


def test_without_unicode_they_are_drawn_in_ascii() -> None:
    lines = list(histogram(Style(30, unicode=False), BARS))
    assert lines[0] == "0 .. 1  100 ##################"
    assert lines[2] == "2 .. 4    1 #"
    assert all(line.isascii() for line in lines)


def test_off_a_terminal_there_are_numbers() -> None:
    expected = ["0\t1\t100", "1\t2\t0", "2\t4\t1", "4\t8\t50"]
    assert list(histogram(Style(), BARS, duration_words)) == expected
    assert list(histogram(Style(80), [])) == list(histogram(Style(), [])) == []


@given(
    width=st.integers(1, 60),
    counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=5),
    unicode=st.booleans(),
)
def test_lines_fit_any_terminal(width: int, counts: list[int], unicode: bool) -> None:
    bars = [Bar(n * 100, (n + 1) * 100, count) for n, count in enumerate(counts)]
    for line in histogram(Style(width, unicode=unicode), bars, duration_words):
        assert len(line) <= width


@pytest.mark.parametrize(
    ("time_ns", "words"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1.00 us"),
        (52_149, "52.1 us"),
        (99_960, "100 us"),
        (999_400, "999 us"),
        (999_999, "1.00 ms"),
        (1_500_000_000, "1.50 s"),
        (123_456_000_000_000, "123456 s"),
        (-2_000_000, "-2.00 ms"),
    ],
)
def test_times_in_words(time_ns: int, words: str) -> None:
    assert duration_words(time_ns) == words
