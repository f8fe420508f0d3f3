"""Heat maps: what is counted in which cell, how it is drawn, and what a screen shows of it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.analysis.heat import BUCKETS, EDGES, SECONDS, HeatMap, bucket_of, ends_of
from qtctl.records.columns import Int64Array
from qtctl.text.cells import plain, width_of
from qtctl.text.style import Style
from qtctl.text.theme import HEAT, theme
from qtctl.ui.heat_picture import Frame, axis, edge_words, legend, levels, picture
from qtctl.ui.timeline import Timeline

SECOND = 1_000_000_000
BEGAN = 1_795_000_000


def column(*numbers: int) -> Int64Array:
    return np.array(numbers, np.int64)


def filled(*spans: tuple[float, int]) -> HeatMap:
    """Return a map of spans: the second in which each ended, from 0, and its length in ns."""
    heat = HeatMap()
    ends = column(*(int((BEGAN + second) * SECOND) for second, _ in spans))
    heat.add(ends - column(*(length for _, length in spans)), ends)
    return heat


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1))
def test_a_length_is_within_its_bucket(lengths: list[int]) -> None:
    for length, bucket in zip(lengths, bucket_of(column(*lengths)).tolist(), strict=True):
        low, high = ends_of(bucket)
        assert low <= length
        assert high is None or length < high


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_longer_is_no_lower(one: int, two: int) -> None:
    low, high = sorted((one, two))
    first, second = bucket_of(column(low, high)).tolist()
    assert first <= second


def test_edges_are_words_that_people_use() -> None:
    assert len(set(EDGES.tolist())) == BUCKETS - 1  # 1.5 ns is 2 ns
    assert [edge_words(int(one)) for one in EDGES[24:30]] == [
        "10 us", "15 us", "20 us", "30 us", "50 us", "70 us",
    ]  # fmt: skip
    assert edge_words(ends_of(0)[0]) == "0 ns"
    assert edge_words(1_500_000_000) == "1.5 s"


@given(
    st.lists(
        st.tuples(st.integers(0, 2 * SECONDS), st.integers(0, 10**12)), min_size=1, max_size=50
    ),
    st.integers(1, 7),
)
def test_the_same_is_counted_in_however_many_pieces(
    spans: list[tuple[int, int]], size: int
) -> None:
    spans = sorted(spans)
    ends = column(*((BEGAN + second) * SECOND for second, _ in spans))
    starts = ends - column(*(length for _, length in spans))
    heat = HeatMap()
    for begin in range(0, len(spans), size):
        heat.add(starts[begin : begin + size], ends[begin : begin + size])
    kept = [(s, n) for s, n in spans if s > spans[-1][0] - SECONDS]
    cells = heat.cells(heat.newest - SECONDS + 1, SECONDS)
    assert cells.sum() == len(kept)
    for second, length in kept:
        bucket = int(bucket_of(column(length))[0])
        assert heat.cells(BEGAN + second, 1)[0, bucket] > 0
        assert heat.last_end(BEGAN + second, bucket) == (BEGAN + second) * SECOND
        assert heat.low <= bucket <= heat.high
    assert heat.newest == BEGAN + spans[-1][0]


def test_a_clock_that_steps_back_begins_anew() -> None:
    heat = filled((0, 1000), (1, 1000))
    early = column((BEGAN - 2 * SECONDS) * SECOND)
    heat.add(early - 5, early)
    assert heat.newest == heat.first == BEGAN - 2 * SECONDS
    assert heat.cells(BEGAN, 2).sum() == 0


def test_losses_are_marked_in_their_second() -> None:
    heat = filled((0, 1000))
    heat.lose()
    heat.advance(BEGAN + 3)
    assert heat.lost(BEGAN - 1, 5) == [False, True, False, False, False]
    heat.advance(BEGAN + SECONDS)
    assert not any(heat.lost(BEGAN, SECONDS))


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 2**62)), min_size=1, max_size=40),
    st.integers(1, 50),
    st.integers(1, 200),
)
def test_every_span_is_in_the_picture_of_any_size(
    spans: list[tuple[int, int]], height: int, width: int
) -> None:
    heat = filled(*spans)
    frame = Frame.fit(heat, heat.newest, height, width)
    cells = frame.cells(heat)
    assert frame.rows <= height
    assert cells.shape == (frame.rows, frame.columns)
    assert cells.sum() == heat.cells(frame.first, frame.columns).sum()
    lines = list(picture(Style(width), frame, cells, (0, 0)))
    lines.append(axis(Style(width), frame, [False] * frame.columns, Timeline(), 0))
    assert all(width_of(line) == frame.label + frame.columns for line in lines)
    assert frame.label + frame.columns <= max(width, 1)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=20))
def test_more_is_no_paler_and_only_nothing_is_blank(counts: list[int]) -> None:
    counts = sorted(counts)
    found = levels(np.array(counts, np.uint32), counts[-1]).tolist()
    assert found == sorted(found)
    assert [one == 0 for one in found] == [one == 0 for one in counts]
    assert found[-1] in (0, 8)


def test_shades_need_no_colour() -> None:
    heat = filled(*[(0, 120_000)] * 100, *[(1, 120_000)] * 10, (2, 250_000))
    frame = Frame.fit(heat, heat.newest, 4, 30)
    cells = frame.cells(heat)
    drawn = list(picture(Style(30), frame, cells, None))
    assert [line.split()[:2] for line in drawn] == [
        ["200", "us"],
        ["150", "us"],
        ["100", "us"],
        ["70", "us"],
    ]
    assert drawn[0].endswith("  ░")
    assert drawn[2].endswith("█▓ ")
    plainer = list(picture(Style(30, unicode=False), frame, cells, None))
    assert plainer[2].endswith("#= ")
    assert legend(Style(30), 100) == "░1 ▒3 ▓10 █31"
    assert legend(Style(30), 1) == "█1"
    coloured = Style(30, True, theme=theme(256, "dark"))
    assert [plain(line) for line in picture(coloured, frame, cells, None)] == drawn
    assert "\x1b[38;5;" in "".join(picture(coloured, frame, cells, None))
    sixteen = Style(30, True, theme=theme(16, "dark"))
    assert "\x1b[38" not in "".join(picture(sixteen, frame, cells, None))


@pytest.mark.parametrize("background", ["dark", "light"])
def test_intensities_differ_in_lightness(background: str) -> None:
    def lightness(colour: str) -> float:
        parts = (value / 255 for value in bytes.fromhex(colour[1:]))
        return float(sum(w * p**2.2 for w, p in zip((0.2126, 0.7152, 0.0722), parts, strict=True)))

    found = [lightness(colour) for colour in HEAT[background]]  # type: ignore[index]
    assert found == sorted(found, reverse=background == "light")


def test_the_axis_has_times_and_marks() -> None:
    heat = filled((0, 1000), (29, 1000))
    frame = Frame.fit(heat, heat.newest, 3, 40)
    line = axis(Style(40), frame, [place == 4 for place in range(frame.columns)], Timeline(), 7)
    assert len(re.findall(r"\d\d:\d\d:\d0", line)) >= 2
    assert (line[frame.label + 4], line[frame.label + 7]) == ("!", "^")
