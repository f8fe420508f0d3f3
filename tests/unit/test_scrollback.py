"""The rows of a view: bounded, frozen, scrolled, searched, folded to any width."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.ui.scrollback import LINES, Scrollback, plain


def filled(count: int) -> Scrollback:
    rows = Scrollback()
    rows.add(f"row {number:04}" for number in range(count))
    return rows


def shown(rows: Scrollback, height: int = 3) -> list[int]:
    return [int(line.split()[1]) for line in rows.window(height, 80)]


def test_the_newest_rows_are_shown_and_old_ones_forgotten() -> None:
    assert shown(filled(10)) == [7, 8, 9]
    rows = filled(LINES + 10)
    rows.scroll(1 << 30)
    assert shown(rows) == [10, 11, 12]


def test_pausing_freezes_and_going_on_shows_the_newest() -> None:
    rows = filled(10)
    rows.pause(True)
    rows.add(["row 0010"])
    assert shown(rows) == [7, 8, 9]
    rows.scroll(2)
    assert (shown(rows), rows.scrolled, rows.paused) == ([5, 6, 7], True, True)
    rows.scroll(-5)
    assert shown(rows) == [7, 8, 9]
    rows.pause(False)
    assert shown(rows) == [8, 9, 10]


def test_scrolling_back_holds_still_until_the_end_is_reached() -> None:
    rows = filled(10)
    rows.scroll(1)
    rows.add(["row 0010", "row 0011"])
    assert (shown(rows), rows.paused) == ([6, 7, 8], False)
    rows.scroll(-1)
    assert (shown(rows), rows.scrolled) == ([9, 10, 11], False)


def test_a_search_goes_up_and_down_and_stays_where_nothing_is() -> None:
    rows = filled(10)
    assert rows.find("ROW 0004")
    assert shown(rows) == [2, 3, 4]
    assert not rows.find("row 0004")
    assert rows.find("row", up=True)
    assert rows.find("0006", up=False)
    assert shown(rows) == [4, 5, 6]
    assert not rows.find("nothing", up=False)


def test_only_rows_with_a_text() -> None:
    rows = filled(30)
    rows.only = "9"
    assert shown(rows) == [9, 19, 29]
    assert rows.find("0009")
    rows.only = ""
    rows.clear()
    assert rows.window(3, 80) == ()


def test_colours_are_no_text() -> None:
    rows = Scrollback()
    rows.add(["\x1b[1;36mevent\x1b[0m \x1b[33mkey\x1b[0m=1", "x"])
    assert plain(rows.window(9, 80)[0]) == "event key=1"
    assert not rows.find("[33m")
    assert rows.find("EVENT KEY")


def test_wide_characters_take_two_columns() -> None:
    rows = Scrollback()
    rows.add(["x", "漢" * 10])
    assert list(rows.window(2, 10)) == ["漢" * 10]
    assert len(rows.window(3, 10)) == 2


def test_a_row_without_end_is_cut() -> None:
    rows = Scrollback()
    rows.add(["x" * 10_000_000])
    assert len(rows.window(1, 80)[0]) < 3000


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 100), max_size=20),
    st.integers(1, 12),
    st.integers(1, 90),
    st.lists(st.integers(-30, 30), max_size=4),
)
def test_the_window_fits(lengths: list[int], height: int, width: int, steps: list[int]) -> None:
    rows = Scrollback()
    rows.add("x" * length for length in lengths)
    for step in steps:
        rows.scroll(step)
    window = rows.window(height, width)
    assert len(window) <= 1 or sum(max(1, -(-len(row) // width)) for row in window) <= height
    assert bool(window) == bool(lengths)
