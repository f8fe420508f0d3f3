"""Lines for the eye: all talk, of records what can be read, and a count of the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from qtctl.text.style import Style
from qtctl.ui.guest_state import bar
from qtctl.ui.screen import BURST, ROWS_A_WINDOW, WINDOW_S, RowLimiter, Screen


@given(st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 1)), max_size=60))
def test_what_is_drawn_is_bounded_and_the_rest_is_counted(puts: list[tuple[int, float]]) -> None:
    thinner, now, drawn, told, came = RowLimiter(), 0.0, 0, 0, 0
    for records, pause in puts:
        now += pause
        came += records
        taken = thinner.take(records, now)
        assert 0 <= taken <= records
        drawn += taken
        thinner.left_out += records - taken
    told = thinner.left_out
    assert drawn + told == came
    assert drawn <= BURST + (now / WINDOW_S + 1) * ROWS_A_WINDOW
    assert bool(thinner.report()) == bool(told)
    assert thinner.report() == ""


class Drawn:
    """What a screen drew, and how many lines it had made for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.made = 0
        self.ready = True
        self.told = asyncio.Event()
        self.screen = Screen(Style(), self.draw, lambda: self.ready)

    def draw(self, lines: Sequence[str]) -> None:
        self.lines += lines
        if any("more" in line for line in lines):
            self.told.set()

    def records(self, count: int) -> Iterable[str]:
        for number in range(count):
            self.made += 1
            yield f"record {number}"


async def test_a_flood_is_thinned_and_nothing_more_is_formatted_than_is_drawn() -> None:
    drawn = Drawn()
    for _ in range(10):
        await drawn.screen.put(drawn.records, 10_000)
    await drawn.screen.put(lambda _: iter(["a mark"]))
    drawn.screen.flush()
    assert drawn.made == len([line for line in drawn.lines if line.startswith("record")])
    assert drawn.made < 500
    count = 100_000 - drawn.made
    assert drawn.lines[-2:] == [f"... {count:,} more, counted and not drawn", "a mark"]


async def test_the_count_is_told_when_a_flood_ends() -> None:
    drawn = Drawn()
    await drawn.screen.put(drawn.records, 1000)
    async with asyncio.timeout(60):
        await drawn.told.wait()
    assert drawn.lines[-1] == f"... {1000 - BURST:,} more, counted and not drawn"


async def test_a_terminal_that_does_not_keep_up_gets_no_records() -> None:
    drawn = Drawn()
    drawn.ready = False
    await drawn.screen.put(drawn.records, 3)
    drawn.screen.write(["an answer"])
    drawn.screen.flush()
    assert drawn.lines == ["... 3 more, counted and not drawn", "an answer"]
    assert not drawn.made


def test_the_bar_tells_what_matters_first_and_nothing_raw() -> None:
    guest = "vm\x1b[2J"
    text = bar(guest=guest, state="running", on=61, rate=1_234_567.8, lost=5, more=True, jobs=2)
    assert text == " vm\\x1b[2J running | 61 on | 1,234,568/s | 5 lost and more | 2 jobs "
    assert bar(guest="vm1", state="", on=None, rate=None, lost=0, more=False, jobs=0) == " vm1 "
