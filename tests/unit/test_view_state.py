"""What keys do in a view: drilling, pivots, spans, searches, switching; without a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from prompt_toolkit.formatted_text import fragment_list_to_text

from qtctl.commands.registry import Options
from qtctl.records.filters import Filter
from qtctl.text.style import Style
from qtctl.ui.actions import ACTIONS
from qtctl.ui.scrollback import Scrollback, Stretch, VisibleRows
from qtctl.ui.stream_latency import StreamLatency, asked
from qtctl.ui.view_state import ViewState
from qtctl.writers.rows import RowFormatter
from tests.unit.test_records import HEX
from tests.unit.test_scrollback import DECLARED, decoded, numbered


class Guest:
    """A guest of a view that switches nothing."""

    def __init__(self) -> None:
        self.filter: Filter | None = None
        self.where = ""
        self.by = "event"
        self.switched: list[tuple[str, bool]] = []
        self.latency: StreamLatency | None = None
        self.rating = SimpleNamespace(prints_hex=True, by="event", group_by=lambda by: None)
        facts = SimpleNamespace(declaration=DECLARED.get, declarations_path="/declared")
        self.session = SimpleNamespace(facts=facts)

    def compiled(self, text: str) -> Filter:
        return Filter.compile(text, list(DECLARED.values()))

    def filter_by(self, text: str, kept: Sequence[Stretch]) -> str:
        self.filter = self.compiled(text) if text else None
        return ""

    def suggested_pairs(self) -> list[tuple[str, str]]:
        return [("other", "done"), ("start", "finish")]

    def pair_by(self, pair: str, kept: Sequence[Stretch]) -> None:
        question = asked(pair, list(DECLARED), DECLARED, "here", "")
        self.latency = StreamLatency(pair, question, kept)

    def group_by(self, by: str) -> None:
        self.by = by

    async def switch(self, pattern: str, on: bool) -> None:
        self.switched.append((pattern, on))

    def formatter(self, style: Style, times: str) -> RowFormatter:
        return RowFormatter(style, times, HEX, ["start", "finish"])


@pytest.fixture
def state() -> ViewState:
    """Return the state of a view with records of 100 requests, each twice, and an end of one."""
    made: Any = ViewState(Style(80), "stream", "rate", "abs")
    made.guest = Guest()
    made.lay_out()
    made.take(numbered(0, 200))
    made.take(decoded("8@0.000200:finish dev 0x10 req 0x5007 s ok"))
    state: ViewState = made
    return state


async def settled(state: ViewState) -> None:
    """Wait for what was begun, and search for all that is searched for."""
    while state.search.tasks:
        await asyncio.gather(*state.search.tasks)
    for finder in state.records.finders():
        while finder.step(tuple(state.records.kept.stretches)):
            pass


def answer(state: ViewState, text: str) -> None:
    """Answer what is asked."""
    state.input.widget.text = text
    state.input.widget.buffer.validate_and_handle()


def seen(state: ViewState) -> str:
    """Return which view is shown."""
    return state.shown


def shown(state: ViewState, height: int = 300) -> str:
    return fragment_list_to_text(state.records.body(height, 100))


async def test_every_action_of_the_table_does_something(state: ViewState) -> None:
    assert set(state.does) == {action.name for action in ACTIONS}


async def test_a_filter_counts_while_it_is_typed(state: ViewState) -> None:
    state.do("filter")
    state.input.widget.text = "n <"
    assert state.search.filter_question() == "filter"
    state.input.widget.text = "n < 10"
    [finder] = state.search.finders()
    finder.step(tuple(state.records.kept.stretches))
    assert state.search.filter_question() == "filter (10 of 201 stay)"
    answer(state, "n < 10")
    await settled(state)
    assert shown(state).count("n=") == 10
    assert "only records where n < 10 are kept from here" in shown(state)
    state.do("filter")
    answer(state, "nosuch < 10")
    assert "nosuch" in state.note


async def test_a_record_is_opened_filtered_by_and_pivoted(state: ViewState) -> None:
    state.do("open")
    assert "no record is selected" in state.note
    state.do("up")
    state.do("open")
    assert state.over.opened is not None
    state.do("down")
    state.do("filter")
    assert state.guest.filter is not None
    assert state.guest.filter.text == "req == 0x5007"
    await settled(state)
    assert shown(state).count("req=0x5007") == 3
    state.do("open")
    state.do("by")
    assert (state.shown, state.guest.by) == ("top", "dev")


async def test_the_records_of_a_request_follow_each_other(state: ViewState) -> None:
    state.do("up")
    places = []
    for _ in range(4):
        state.do("same")
        await settled(state)
        places.append(state.records.selected)
    assert places == [7, 107, 200, 7]
    state.do("open")
    state.do("same")
    await settled(state)
    assert state.over.opened is not None
    assert state.over.opened.number == 107


async def test_a_row_that_is_hidden_is_not_the_next_of_its_request(state: ViewState) -> None:
    state.do("only")
    answer(state, "start")
    await settled(state)
    state.records.select(107)
    state.do("same")
    await settled(state)
    assert state.records.selected == 7


async def test_an_opened_record_outlives_its_row(state: ViewState) -> None:
    state.do("up")
    state.do("open")
    opened = state.over.opened
    assert opened is not None
    assert opened.time.endswith(".000200")
    state.do("clear")
    assert state.over.opened is None
    state.over.opened = opened
    state.do("same")
    await settled(state)
    assert state.note == "no record of the request is kept"


async def test_in_rates_keys_do_not_reach_the_hidden_rows(state: ViewState) -> None:
    state.do("up")
    before = state.records.selected
    state.do("view")
    state.guest.by, state.rates.groups = "req", [0x5003, 0x5004, None]
    state.do("newest")
    assert state.rates.group == 2
    state.do("disable")
    assert "rates by event" in state.note
    for name in ("span-a", "bookmark", "same", "older-hit", "newer-hit"):
        state.do(name)
        assert "records" in state.note
    state.do("first")
    assert state.rates.group == 0
    await settled(state)
    assert (state.records.selected, state.records.bookmarks) == (before, set())
    assert not state.over.spans.ends
    assert not state.guest.switched  # type: ignore[attr-defined]


async def test_what_cannot_be_done_is_told(state: ViewState) -> None:
    state.do("bookmark")
    assert "no record is selected" in state.note
    state.do("older-hit")
    assert "nothing is searched for" in state.note
    state.do("palette")
    answer(state, "quot")
    assert state.note == "no action is named 'quot': quit"
    state.do("view")
    state.guest.by = "s"
    for group, words in ((None, "without s"), ("x" * 200, "only 200 characters")):
        state.rates.groups = [group]
        state.do("open")
        assert words in state.note
        assert state.shown == "top"


async def test_enter_opens_nothing_behind_help(state: ViewState) -> None:
    state.do("up")
    state.do("help")
    state.do("open")
    assert state.over.opened is None


async def test_a_row_of_rates_is_drilled_into_and_switched_off(state: ViewState) -> None:
    state.do("view")
    state.rates.groups = ["start", "finish"]
    state.do("down")
    state.do("disable")
    await settled(state)
    assert state.guest.switched == [("finish", False)]  # type: ignore[attr-defined]
    state.do("open")
    await settled(state)
    assert state.shown == "stream"
    assert "finish" in shown(state)
    assert "start " not in shown(state)
    state.show("top")
    state.guest.by, state.rates.groups, state.rates.group = "req", [0x5003], 0
    state.do("open")
    assert state.guest.filter is not None
    assert state.guest.filter.text == "req == 0x5003"


async def test_a_suggested_pair_is_measured_and_its_end_is_shown(state: ViewState) -> None:
    state.do("view")
    state.do("view")
    assert seen(state) == "latency"
    # Of what came first.
    assert state.heat.suggestion == "start,finish"
    state.do("down")
    assert state.heat.suggestion == "other,done"
    state.do("up")
    state.do("open")
    await settled(state)
    latency = state.guest.latency
    assert latency is not None
    assert latency.sums().pairs == 1
    state.heat.draw(latency, 10, 40, still=False, again=True)
    state.do("open")
    assert "no pair is in the selected cell" in state.note
    state.heat.second = 0
    state.heat.draw(latency, 10, 40, still=False, again=True)
    for name in ("search", "bookmark", "disable"):
        state.do(name)
        assert "records" in state.note
    state.do("open")
    assert state.records.selected == 200
    assert seen(state) == "stream"
    state.do("pair")
    assert state.input.widget.text == "start,finish"
    answer(state, "nonsense")
    assert "not two events" in state.note
    state.do("pair")
    answer(state, "start,finish,req")
    assert seen(state) == "latency"
    state.do("rates")
    state.do("rates")
    assert seen(state) == "stream"
    assert state.options(Options()).pair == "start,finish,req"
    state.do("clear")
    assert latency is not state.guest.latency
    assert state.guest.latency is not None
    assert state.guest.latency.sums().pairs == 0


async def test_another_record_of_the_request_is_chosen(state: ViewState) -> None:
    state.do("up")
    state.do("open")
    opened = state.over.opened
    assert opened is not None
    assert opened.others is not None
    while opened.others.step(tuple(state.records.kept.stretches)):
        pass
    opened.listed = [7, 107, 200]
    for name in ("down", "down", "down", "down"):
        state.do(name)
    assert opened.other == 107
    state.do("open")
    assert state.over.opened is not None
    assert (state.over.opened.number, state.records.selected) == (107, 107)
    state.over.opened.other = 7
    state.do("same")
    await settled(state)
    assert state.over.opened.number == 7


async def test_the_mouse_selects_and_scrolls(state: ViewState) -> None:
    shown(state, 10)
    state.click(2, 0)
    assert state.records.selected == 193
    state.wheel(1)
    assert state.records.selected == 190
    state.do("help")
    state.click(1, 0)
    state.wheel(1)
    assert state.records.selected == 190


async def test_two_spans_are_compared(state: ViewState) -> None:
    for row, name in ((0, "a"), (99, "a"), (150, "b"), (200, "b")):
        state.records.select(row)
        state.do(f"span-{name}")
    assert state.over.comparing
    lines = list(state.over.spans.lines(Style(60)))
    assert lines[0] == "A lasts 99.0 us, B 50.0 us"
    assert [line.split()[:3] for line in lines[2:]] == [
        ["finish", "0", "1"],
        ["start", "100", "50"],
    ]
    state.do("back")
    assert not state.over.comparing


async def test_spans_whose_rows_are_gone_are_not_compared(state: ViewState) -> None:
    state.records.select(5)
    state.do("span-a")
    state.do("span-a")
    assert state.note == "A at another row ends it"
    spans = state.over.spans
    spans.ends = {"A": [0, 10], "B": [150, 160]}
    kept = Scrollback()
    kept.add(numbered(0, 1))
    kept.clear()
    kept.add(numbered(1, 200))
    spans.compare(VisibleRows(kept.stretches))
    assert list(spans.lines(Style(60))) == ["A: rows of it are no longer kept; mark it again"]


async def test_what_comes_while_rows_hold_still_is_not_drawn(state: ViewState) -> None:
    drawn: list[None] = []
    state.changed = lambda: drawn.append(None)
    state.take(numbered(0, 1))
    state.write(["a message"])
    assert len(drawn) == 2
    state.do("pause")
    state.take(numbered(0, 1))
    state.write(["a message"])
    assert len(drawn) == 2


async def test_a_search_selects_the_nearest_and_tells_when_there_is_no_more(
    state: ViewState,
) -> None:
    state.do("search")
    answer(state, "n=150")
    await settled(state)
    assert state.records.selected == 150
    state.do("older-hit")
    await settled(state)
    assert state.note == "no other row above has 'n=150'"
    state.do("context")
    assert shown(state).count("n=") == 7
    state.do("back")
    assert state.records.search == ""


async def test_the_palette_and_wrong_words(state: ViewState) -> None:
    state.do("palette")
    answer(state, "wr")
    assert state.records.formatter.wrap
    state.do("palette")
    answer(state, "nonsense")
    assert "no action is named 'nonsense'" in state.note
    state.do("enable")
    answer(state, "virtio_*")
    await settled(state)
    assert state.guest.switched == [("virtio_*", True)]  # type: ignore[attr-defined]


async def test_the_command_line_of_the_view_is_told_and_copied(state: ViewState) -> None:
    copied: list[str] = []
    state.copy = copied.append
    state.command = lambda: ["qtctl", "pane", "--where=n < 10"]
    state.do("command")
    assert copied == [state.over.told] == ["qtctl pane '--where=n < 10'"]


async def test_the_background_searches_when_something_was_drawn(state: ViewState) -> None:
    found = asyncio.Event()
    state.changed = found.set
    searching = asyncio.ensure_future(state.search.run())
    try:
        await asyncio.sleep(0)
        state.records.look_for("finish")
        state.search.drawn()
        async with asyncio.timeout(60):
            await found.wait()
    finally:
        searching.cancel()
    assert state.records.hit_words() == "1 with 'finish'"
