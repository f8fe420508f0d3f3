"""Percentiles and histograms, against sorted lists."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qtctl.analysis.distribution import Bar, Distribution
from qtctl.analysis.groups import OTHERS, Groups
from qtctl.records.columns import StringColumn

SIGNED = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-300, 300)
UNSIGNED = st.integers(0, (1 << 64) - 1) | st.integers(0, 600)
NUMBERS = st.lists(SIGNED, min_size=1).map(lambda values: (values, np.int64)) | st.lists(
    UNSIGNED, min_size=1
).map(lambda values: (values, np.uint64))


@given(given_=NUMBERS, cut=st.integers(0, 100), precision=st.sampled_from([3, 7, 14]))
def test_as_a_sorted_list_says(
    given_: tuple[list[int], type[np.int64] | type[np.uint64]], cut: int, precision: int
) -> None:
    values, kind = given_
    found = Distribution(precision)
    for part in (values[:cut], values[cut:]):
        found.add(np.array(part, kind))
    values = sorted(values)
    assert len(found) == 1
    spread = found.statistics()
    assert spread == found.statistics(0)
    assert spread.count == len(values)
    assert (spread.least, spread.most) == (values[0], values[-1])
    assert spread.mean == sum(values) / len(values)
    shares = [0, 0.01, 0.5, 0.9, 0.99, 1]
    for share, got in zip(shares, spread.percentiles(shares), strict=True):
        exact = values[max(1, math.ceil(share * len(values))) - 1]
        assert abs(got - exact) <= abs(exact) / 2**precision
        assert got in values
    for bars in (spread.bars, spread.log2(), spread.linear()):
        assert sum(bar.count for bar in bars) == len(values)
        for bar in bars:
            assert bar.count == sum(bar.low <= value < bar.high for value in values)
    for bars in (spread.log2(), spread.linear()):
        assert all(one.high == two.low for one, two in pairwise(bars))
    assert len(spread.linear()) <= 21


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-1000, 1 << 60)), min_size=1),
)
def test_groups_are_kept_apart(rows: list[tuple[int, int]]) -> None:
    found = Distribution()
    values = np.array([value for _, value in rows], np.int64)
    found.add(values, np.array([group for group, _ in rows], np.int32))
    for group in range(4):
        own = [value for which, value in rows if which == group]
        spread = found.statistics(group)
        assert spread.count == len(own)
        if own:
            assert (spread.least, spread.most, spread.total) == (min(own), max(own), sum(own))
    assert found.statistics().count == len(rows)
    assert found.statistics().total == sum(value for _, value in rows)


def test_the_bars_of_a_log2_histogram() -> None:
    found = Distribution()
    found.add(np.array([-5, -1, 0, 1, 3, 9], np.int64))
    bars = found.statistics().log2()
    assert [(bar.low, bar.high, bar.count) for bar in bars] == [
        (-8, -4, 1), (-4, -2, 0), (-2, -1, 0), (-1, 0, 1), (0, 1, 1), (1, 2, 1), (2, 4, 1),
        (4, 8, 0), (8, 16, 1),
    ]  # fmt: skip
    nothing = Distribution().statistics()
    assert nothing.log2() == nothing.linear() == []
    assert nothing.count == 0


def test_linear_bars_have_one_width() -> None:
    found = Distribution(14)
    found.add(np.arange(1000, 1100))
    bars = found.statistics().linear(most=10)
    assert bars[0] == Bar(992, 1008, 8)
    assert {bar.high - bar.low for bar in bars} == {16}


@given(st.lists(st.lists(st.integers(-3, 3))), st.integers(1, 8))
def test_values_keep_their_numbers(runs: list[list[int]], limit: int) -> None:
    groups = Groups(limit)
    known: dict[int, int] = {}
    for run in runs:
        for value, number in zip(run, groups.of(np.array(run, np.int64)).tolist(), strict=True):
            assert known.setdefault(value, number) == number
    values = groups.values
    assert values.pop() == OTHERS
    assert len(values) == min(limit, len(known))
    for value, number in known.items():
        assert number == limit if value not in values else values[number] == value


def test_texts_and_numbers_are_different_groups() -> None:
    groups = Groups(10)
    texts = StringColumn(np.array([0, 1, 0], np.int32), ("1", "b"))
    assert groups.of(texts).tolist() == [0, 1, 0]
    assert groups.of(np.array([1], np.int64)).tolist() == [2]
    assert groups.number(None) == 3
    assert groups.values == ["1", "b", 1, None, OTHERS]


def test_long_texts_are_cut() -> None:
    groups = Groups(10)
    assert groups.number("x" * 1_000_000) == groups.number("x" * 999) == 0
    assert groups.values == ["x" * 200, OTHERS]
