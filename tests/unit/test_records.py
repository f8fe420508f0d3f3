"""The records of a view, drawn to strings: selected, scrolled, searched, filtered, opened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.formatted_text import fragment_list_to_text

from qtctl.errors import UsageError
from qtctl.model import Clock
from qtctl.records.filters import Filter
from qtctl.text.style import Style
from qtctl.ui.actions import ACTIONS, action_of, help_lines, key_table, with_keys
from qtctl.ui.opened import Opened
from qtctl.ui.painting import MATCH, SELECTED, fragments
from qtctl.ui.records import Records
from qtctl.ui.sidebar import sidebar
from qtctl.writers.rows import RowFormatter
from tests.running import TOP
from tests.unit.test_scrollback import DECLARED, decoded, numbered

HEX = {name: frozenset({"dev", "req"}) for name in DECLARED}


def view(*counts: int, colour: bool = False, width: int = 80) -> Records:
    style = Style(width, colour)
    records = Records(style)
    records.lay_out_by(
        RowFormatter(style, "none", HEX, ["start", "finish"]),
        RowFormatter(Style(), "none", HEX, []),
    )
    for count in counts:
        records.add(numbered(records.kept.total, count))
    return records


def shown(records: Records, height: int = 3, width: int = 80) -> list[int]:
    text = fragment_list_to_text(records.body(height, width))
    return [int(line.split("n=")[1]) for line in text.split("\n") if "n=" in line]


def found(records: Records) -> None:
    for finder in records.finders():
        while finder.step(tuple(records.kept.stretches)):
            pass


def test_the_newest_rows_are_shown_until_one_is_selected() -> None:
    records = view(10)
    assert shown(records) == [7, 8, 9]
    records.move(1)
    assert records.selected == 9
    records.add(numbered(10, 5))
    assert shown(records) == [7, 8, 9]
    records.move(2)
    assert (shown(records), records.selected) == ([7, 8, 9], 7)
    records.move(1)
    assert shown(records) == [6, 7, 8]
    records.move(-2)
    assert (shown(records), records.selected) == ([6, 7, 8], 8)
    records.move(-1)
    assert shown(records) == [7, 8, 9]
    records.move(-1)
    assert not records.kept.still
    assert shown(records) == [12, 13, 14]


def test_the_first_and_the_newest_row() -> None:
    records = view(10)
    records.first()
    assert (shown(records), records.selected) == ([0, 1, 2], 0)
    records.move(1)
    assert records.selected == 0
    records.follow()
    assert shown(records) == [7, 8, 9]


def test_a_page_is_scrolled_and_a_line_is_clicked() -> None:
    records = view(100)
    assert shown(records, 10) == list(range(90, 100))
    records.move(9)
    assert shown(records, 10)[0] <= (records.selected or 0)
    records.select_line(2)
    assert shown(records, 10)[2] == records.selected


def test_pausing_holds_still_and_going_on_shows_the_newest() -> None:
    records = view(10)
    records.pause(True)
    records.add(numbered(10, 1))
    assert shown(records) == [7, 8, 9]
    records.move(1)
    records.follow()
    assert shown(records) == [7, 8, 9]
    records.pause(False)
    assert shown(records) == [8, 9, 10]


def test_the_selected_row_is_marked_over_the_whole_width() -> None:
    records = view(3)
    records.move(1)
    parts = [part for part in records.body(3, 40) if SELECTED in part[0]]
    assert len(fragment_list_to_text(parts)) == 40


def test_a_search_marks_only_the_match_and_finds_up_and_down() -> None:
    records = view(30)
    records.look_for("N=2")
    found(records)
    assert records.next_hit(up=True)
    assert records.selected == 29
    for expected in (28, 27):
        assert records.next_hit(up=True)
        found_at = records.selected
        assert found_at == expected
    records.next_hit(up=False)
    assert records.selected == 28
    marked = [part[1] for part in records.body(3, 80) if MATCH in part[0]]
    assert marked == ["n=2"] * 3
    records.look_for("nothing")
    found(records)
    assert not records.next_hit(up=True)


def test_colours_are_no_text_and_matches_keep_theirs() -> None:
    parts = fragments("\x1b[1;36mstart\x1b[0m n=1", match="T N")
    assert [part[1] for part in parts if MATCH in part[0]] == ["t", " n"]
    assert "ansicyan" in parts[0][0]
    assert fragment_list_to_text(fragments("a\x1b[38;5;208mb\x1b[0m")) == "ab"


def test_hits_with_their_context() -> None:
    records = view(20, *[1] * 10)
    assert not records.around_hits()
    records.look_for("n=20")
    found(records)
    records.around_hits()
    assert shown(records, 30) == list(range(17, 24))
    records.around_hits()
    assert len(shown(records, 30)) == 30


def test_only_rows_with_a_text_or_where_an_expression_holds() -> None:
    records = view(30)
    records.show_only("n=2")
    found(records)
    assert shown(records, 20) == [2, *range(20, 30)]
    records.show_where(Filter.compile("n < 23", list(DECLARED.values())).mask)
    found(records)
    assert shown(records) == [20, 21, 22]
    records.show_only("")
    records.show_where(None)
    assert shown(records) == [27, 28, 29]


def test_rows_are_scrolled_sideways_and_wrapped() -> None:
    records = view(2)

    def text() -> list[str]:
        return fragment_list_to_text(records.body(9, 30)).split("\n")

    assert text() == ["start  dev=0x10 req=0x5000 n=0", "start  dev=0x10 req=0x5001 n=1"]
    narrow = fragment_list_to_text(records.body(9, 20)).split("\n")
    assert narrow == ["start  dev=0x10 req…"] * 2
    records.sideways(1)
    narrow = fragment_list_to_text(records.body(9, 20)).split("\n")
    assert narrow == ["start  …req=0x5000 …", "start  …req=0x5001 …"]
    records.sideways(-1)
    records.wrap()
    assert fragment_list_to_text(records.body(9, 20)).split("\n") == [
        *("start  dev=0x10", "     req=0x5000 n=0"),
        *("start  dev=0x10", "     req=0x5001 n=1"),
    ]
    records.move(2)
    assert fragment_list_to_text(records.body(2, 20)).split("\n")[0].startswith("start")


def test_times_go_round_and_deltas_are_to_the_row_above() -> None:
    records = view(30)
    forms = [records.next_times() for _ in range(4)]
    assert forms == ["abs", "rel", "delta", "none"]
    records.next_times()
    records.next_times()
    records.next_times()
    assert all(
        "+0.000001" in line for line in fragment_list_to_text(records.body(3, 80)).split("\n")
    )


def test_notes_wrap_and_stand_in_the_bar() -> None:
    records = view(8)
    records.note("--- 5 records lost here ---", "bad")
    records.note("--- mark: x ---", "note")
    records.move(1)
    records.move(3)
    records.bookmark()
    lines = fragment_list_to_text(records.body(10, 20)).split("\n")
    assert "--- 5 records lost" in lines
    assert "    here ---" in lines
    bar = fragment_list_to_text(records.bar(10)).split("\n")
    assert (bar[6], bar[8], bar[9]) == ("*", "!", "+")


def test_the_bar_shows_where_in_all_rows_one_is() -> None:
    bar = sidebar(4, (100, 200), (150, 175), {"hit": [np.array([110, 111])]}, unicode=True)
    assert fragment_list_to_text(bar) == "-\n│\n┃\n│"
    bar = sidebar(2, (0, 0), (0, 0), {}, unicode=False)
    assert fragment_list_to_text(bar) == "#\n|"


def test_a_record_is_opened_with_the_others_of_its_request() -> None:
    records = view(150)
    records.add(decoded("8@0.000170:finish dev 0x10 req 0x5000 s ok"))
    records.move(1)
    record = records.record()
    assert record is not None
    moment = records.moment(150)
    opened = Opened(record, 150, DECLARED["finish"], "/trace-events-all", HEX["finish"], moment)
    assert opened.others is not None
    while opened.others.step(tuple(records.kept.stretches)):
        pass
    found = records.lines_found(opened.others, 150, 9, 80)
    others = [line for _, line in found]
    text = "\n".join(opened.lines(Style(80), "8 vCPU 0"))
    for part in (
        ".000170 (realtime, 170000 ns)",
        "8 vCPU 0",
        "> dev      void *        0x10",
        "req      void *        0x5000",
        "s        const char *  'ok'",
        "declared in /trace-events-all:2",
        "the same request (req=0x5000):",
    ):
        assert part in text
    assert [line.split()[-1] for line in others] == ["n=0", "n=100", "s='ok'"]
    assert [line for _, line in records.lines_found(opened.others, 150, 2, 80)] == others[1:]
    assert opened.filter == "dev == 0x10"
    rows = records.rows_found(opened.others)
    opened.move(2, rows)
    assert opened.filter == "s == 'ok'"
    opened.move(9, rows)
    assert (opened.selected, opened.other) == (("s", "ok"), None)
    opened.listed = [number for number, _ in found]
    places = []
    for down in (1, 1, 9, -1, 1, -9, -1):
        opened.move(down, rows)
        places.append(opened.other)
    assert places == [0, 100, 150, 100, 150, 0, None]
    assert opened.selected == ("s", "ok")
    opened.record = replace(record, args={"tid": 5, "from": None})
    opened.argument = 0
    assert opened.filter == "tid_ == 5"
    opened.listed = ()
    opened.move(1, rows)
    assert opened.filter == "from_ == None"


def test_a_record_that_was_not_read_and_a_note_are_opened_as_they_are() -> None:
    records = view()
    records.add(decoded("9@1.000000:unknown some text"))
    records.note("--- mark ---", "note")
    records.move(1)
    assert records.record() is None
    records.move(1)
    record = records.record()
    assert record is not None
    opened = Opened(record, 0, None, "", frozenset(), "1.000000")
    assert opened.others is None
    lines = opened.lines(Style(80), "9")
    assert any("some text" in line for line in lines)
    assert (opened.selected, opened.filter) == (None, "")


def test_matches_are_marked_at_their_place_behind_letters_that_grow_in_lower_case() -> None:
    marked = [part[1] for part in fragments("\u0130\u0130 Req", match="req") if MATCH in part[0]]
    assert marked == ["Req"]


@given(
    height=st.integers(1, 60),
    first=st.integers(0, 1000),
    rows=st.integers(1, 500),
    hits=st.lists(st.integers(0, 2000)),
)
def test_a_bar_shows_each_hit_at_its_place(
    height: int, first: int, rows: int, hits: list[int]
) -> None:
    span = (first, first + rows)
    parts = sidebar(height, span, span, {"hit": sorted(hits)}, unicode=False)
    places = {place for place, part in enumerate(parts) if part[1].startswith("-")}
    inside = (hit - first for hit in hits if 0 <= hit - first < rows)
    assert places == {hit * height // rows for hit in inside}


def timed(records: Records, height: int) -> list[str]:
    """Return the times of the shown rows."""
    text = fragment_list_to_text(records.body(height, 80))
    return [line.split()[0] for line in text.split("\n") if "n=" in line]


def test_a_drawing_does_not_depend_on_the_one_before() -> None:
    records = view()
    records.formatter.times.form = "delta"
    for first in range(0, 30, 10):
        records.add(numbered(first, 10))
        records.note("---", "note")
    whole = timed(records, 40)
    assert whole == ["+0.000000", *["+0.000001"] * 29]
    assert timed(records, 40) == whole
    assert timed(records, 11) == whole[-10:]


def test_times_since_the_first_count_from_the_first_that_came() -> None:
    records = view(1000)
    records.formatter.times.form = "rel"
    assert timed(records, 2) == ["+0.000998", "+0.000999"]
    formatter = RowFormatter(Style(80), "rel", HEX, [])
    records.lay_out_by(formatter, formatter)
    assert timed(records, 1) == ["+0.000999"]


@pytest.mark.parametrize("form", ["rel", "delta"])
def test_spans_are_between_times_of_one_kind_of_clock(form: str) -> None:
    records = view()
    records.formatter.times.form = form
    records.add(numbered(0, 2))
    records.add(replace(numbered(2, 2), clock=Clock.MONOTONIC))
    assert timed(records, 9) == ["+0.000000", "+0.000001"] * 2


def test_another_layout_is_searched_anew() -> None:
    records = view(10)
    records.look_for("req=20480")
    records.show_only("req=20480")
    found(records)
    assert shown(records) == []
    decimal = RowFormatter(Style(80), "none", {}, [])
    records.lay_out_by(decimal, decimal)
    found(records)
    assert shown(records) == [0]
    assert records.hit_words().startswith("1 with")


def test_every_action_has_a_key_a_word_and_no_other_s_key() -> None:
    keys = [key for action in ACTIONS for key in action.keys]
    assert len(set(keys)) == len(keys)
    assert len({action.name for action in ACTIONS}) == len(ACTIONS)
    assert len(help_lines()) == len(ACTIONS)
    assert action_of("wr").name == "wrap"
    with pytest.raises(UsageError, match="several actions begin 'pa'"):
        action_of("pa")
    with pytest.raises(UsageError, match="no action is named 'xyz'"):
        action_of("xyz")


def test_the_docs_have_the_table_of_actions() -> None:
    assert "\n".join(key_table()) in (TOP / "docs/keys.md").read_text()


def test_keys_can_be_changed_but_not_given_twice() -> None:
    [quit_] = [one for one in with_keys({"quit": ["Q"]}) if one.name == "quit"]
    assert quit_.keys == ("Q",)
    with pytest.raises(UsageError, match="the key 'w' is for wrap and for bookmark"):
        with_keys({"bookmark": ["w"]})
    with pytest.raises(UsageError, match="no action is named 'nonsense'"):
        with_keys({"nonsense": ["x"]})
