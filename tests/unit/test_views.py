"""The views of one pane: what keys and mouse select in rates and latency, and the shared time."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.analysis.rates import HISTORY_S, Rates
from qtctl.errors import UsageError
from qtctl.records.batch import Batch
from qtctl.text.cells import plain, width_of
from qtctl.text.style import Style
from qtctl.ui.heat_view import HeatView
from qtctl.ui.rates_view import RatesView
from qtctl.ui.scrollback import Note, Scrollback, Stretch, VisibleRows
from qtctl.ui.stream_latency import StreamLatency, asked
from qtctl.ui.timeline import SECOND_NS, Timeline
from qtctl.ui.views import Views
from tests.unit.test_scrollback import DECLARED, decoded

BEGAN = 1_795_000_000


def request(second: float, req: int, *, took_us: int) -> list[str]:
    """Return the lines of a request that ends in a second of the records' clock."""
    end_us = int((BEGAN + second) * 1_000_000)
    lines = []
    for time_us, text in (
        (end_us - took_us, f"start dev 0x10 req {req:#x} n 1"),
        (end_us, f"finish dev 0x10 req {req:#x} s ok"),
    ):
        lines.append(f"7@{time_us // 1_000_000}.{time_us % 1_000_000:06}:{text}")
    return lines


def measured(*batches: Batch, kept: tuple[Stretch, ...] = (), where: str = "") -> StreamLatency:
    question = asked("start,finish,req", list(DECLARED), DECLARED, "here", where)
    latency = StreamLatency("start,finish,req", question, kept)
    for batch in batches:
        latency.take(batch)
    return latency


def drawn(heat: HeatView, latency: StreamLatency, height: int = 10, width: int = 40) -> list[str]:
    heat.draw(latency, height, width, still=False, again=True)
    return [plain(line) for line in heat.lines]


# The seconds of rates and the times of records.


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(0, 10**10))
def test_a_second_and_its_first_record_lead_to_each_other(came: list[float], late: int) -> None:
    timeline = Timeline()
    for now_s in sorted(came):
        at_us = (BEGAN * 10**9 + int(now_s * 10**9) - late) // 1000
        lines = f"7@{at_us // 1_000_000}.{at_us % 1_000_000:06}:start dev 0x1 req 0x2 n 3"
        timeline.take(decoded(lines), now_s)
    for second in {int(one) for one in came}:
        moment = timeline.time_of(second)
        assert moment is not None
        assert timeline.second_of(moment) == second
    seconds = [timeline.second_of((BEGAN - 20) * 10**9 + n * 10**9) for n in range(150)]
    assert all(one <= two for one, two in pairwise(seconds) if one is not None and two is not None)


def test_without_records_no_time_is_known() -> None:
    timeline = Timeline()
    assert timeline.time_of(5) is timeline.second_of(5) is timeline.now_ns(5.0) is None
    assert timeline.clock_words(None) == "-"


# The first record of a time.


def test_the_first_record_of_a_time_is_found_among_what_is_shown() -> None:
    kept = Scrollback()
    kept.add(Note("--- mark ---", "note"))
    kept.add(decoded(*request(5, 1, took_us=10), *request(7, 2, took_us=10)))
    kept.add(decoded(*request(6, 3, took_us=10)))
    rows = VisibleRows(kept.stretches)
    assert rows.first_at((BEGAN + 5) * SECOND_NS) == 2
    assert rows.first_at((BEGAN + 5) * SECOND_NS + 1) == 5
    assert rows.first_at(0) == 1
    assert rows.first_at(0, ["finish"]) == 2
    assert rows.first_at((BEGAN + 8) * SECOND_NS) is None


# Latency.


def test_what_was_kept_is_measured_before_what_comes() -> None:
    kept = Scrollback()
    first, second = request(1, 5, took_us=30)
    kept.add(decoded(*request(0, 4, took_us=30), first))
    latency = measured(decoded(second), kept=tuple(kept.stretches))
    assert latency.sums().pairs == 2
    kept.add(Note("--- 5 rows came while these held still, and were not kept ---", "faint"))
    broken = measured(decoded(second), kept=tuple(kept.stretches))
    assert broken.sums().pairs == 1
    assert ("open at a loss", 1) in broken.sums().reasons
    broken.clear()
    assert broken.sums().pairs == 0


def test_a_pair_is_checked() -> None:
    for text, words in (("start", "not two events"), ("start,finish,n", "no argument 'n'")):
        with pytest.raises(UsageError, match=words):
            asked(text, list(DECLARED), DECLARED, "here", "")
    with pytest.raises(UsageError, match="nosuch"):
        measured(where="nosuch > 5")
    assert measured(decoded(*request(0, 4, took_us=30)), where="n > 5").sums().pairs == 0


def test_arrival_times_are_refused() -> None:
    latency = measured(decoded("start dev 0x1 req 0x5 n 1", "finish dev 0x1 req 0x5 s ok"))
    shown = " ".join(drawn(HeatView(Style(40), Timeline()), latency))
    assert "1 by arrival times" in shown
    assert "1 pairs are in no figure: QEMU gave their records no times" in shown
    assert "-msg timestamp=on" in shown


@pytest.mark.parametrize(("width", "height"), [(40, 10), (80, 22), (120, 38), (200, 48)])
def test_a_cell_is_told_in_numbers_at_any_size(width: int, height: int) -> None:
    lines = [*request(0.5, 1, took_us=120), *request(0.6, 2, took_us=130)]
    lines += [*request(2.5, 3, took_us=40_000), *request(2.6, 4, took_us=110)]
    latency = measured(decoded(*lines))
    heat = HeatView(Style(width, unicode=False), Timeline())
    shown = drawn(heat, latency, height, width)
    assert len(shown) <= height
    assert max(map(width_of, shown)) <= width
    assert shown[0].startswith("start .. finish by req")
    assert shown[-1].startswith("4 pairs")
    assert sum(c in ".:=#" for line in shown[1:-2] for c in line[heat._frame.label :]) == 3
    heat.sideways(0)
    assert ": 1 of 2" in drawn(heat, latency, height, width)[-1]
    heat.sideways(-2)
    heat.bucket = None
    told = drawn(heat, latency, height, width)[-1]
    assert ": 2 of 2" in told
    assert "100 us .. " in told
    heat.move(1)
    assert ": 0 of 2" in drawn(heat, latency, height, width)[-1]
    assert heat.last_end(latency) is None
    heat.move(-1)
    assert heat.last_end(latency) == (BEGAN + 0.6) * SECOND_NS
    heat.sideways(9)
    assert heat.second is None


def test_the_heat_map_follows_holds_and_pages() -> None:
    latency = measured(decoded(*request(0, 1, took_us=100)))
    heat = HeatView(Style(40), Timeline())
    drawn(heat, latency)
    heat.sideways(0)
    held = drawn(heat, latency)
    latency.take(decoded(*request(100, 2, took_us=100)))
    assert drawn(heat, latency)[:-1] == held[:-1]
    heat.follow()
    assert drawn(heat, latency)[-1].startswith("2 pairs")
    heat.page(-1)
    heat.page(-1)
    assert heat.second == BEGAN + 100 - heat._frame.columns
    drawn(heat, latency)
    heat.page(-9)
    assert heat.second == BEGAN
    assert ": 1 of 1" in drawn(heat, latency)[-1]
    heat.follow()
    heat.first()
    assert heat.second == BEGAN


def test_the_mouse_selects_cells_and_suggestions() -> None:
    latency = measured(decoded(*request(0, 1, took_us=100), *request(1, 1, took_us=100)))
    heat = HeatView(Style(40), Timeline())
    shown = drawn(heat, latency)
    line = next(place for place, text in enumerate(shown) if "█" in text)
    heat.click(line, shown[line].index("█"))
    assert heat.second == BEGAN
    assert ": 1 of 1" in drawn(heat, latency)[-1]
    heat.click(0, 0)
    assert heat.second == BEGAN
    heat.suggest([("start", "finish"), ("begin", "end")])
    lines, selected = heat.suggesting(10, 40)
    assert lines[selected] == "start,finish"
    heat.click(selected + 1, 3)
    assert heat.suggestion == "begin,end"
    heat.choose(-5)
    assert heat.suggestion == "start,finish"


# Rates, and the time that the views share.


class Rating:
    """Rates of a stream, as the view of rates has them."""

    title, by = "EVENT", "event"

    def __init__(self) -> None:
        self.rates = Rates(time.monotonic())
        self.label = str

    def snapshot(self, sort: str, limit: int, second: int | None = None) -> object:
        return self.rates.snapshot(time.monotonic(), "rate", limit, second)


class Clock:
    """A monotonic clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.5

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made.monotonic)
    return made


def came(views: Views, rating: Rating, clock: Clock, *batches: tuple[float, Batch]) -> None:
    """Let batches come, some seconds after the clock's begin."""
    for after_s, batch in batches:
        clock.now_s = 1000.5 + after_s
        views.timeline.take(batch, clock.now_s)
        rating.rates.take(batch, clock.now_s)
        views.records.add(batch)


def rated(rates: RatesView, rating: Rating, height: int = 10, width: int = 40) -> list[str]:
    rates.draw(rating, height, width, again=True)  # type: ignore[arg-type]
    return [plain(line) for line in rates.lines]


def test_a_second_of_the_last_minute_is_chosen_and_shared(clock: Clock) -> None:
    latency = measured()
    views, rating = Views(Style(40), "stream", "rate", lambda: latency), Rating()
    batches = [(n, decoded(*request(n + 0.5, n, took_us=100) * (n + 1))) for n in range(5)]
    came(views, rating, clock, *batches)
    for _, batch in batches:
        latency.take(batch)
    assert views.show(views.next) == ""
    assert "Left selects a second" in rated(views.rates, rating)[-1]
    views.right(-1)
    shown = rated(views.rates, rating)
    assert "8 records in this second" in shown[-1]
    assert [line.split()[1] for line in shown[1:3]] == ["4", "4"]
    views.right(-1)
    assert "6 records in this second" in rated(views.rates, rating)[-1]
    clock.now_s += 30
    assert "6 records in this second" in rated(views.rates, rating)[-1]
    # On to the heat map, at the same second.
    assert views.show(views.next) == ""
    assert views.heat.second == BEGAN + 2
    assert "100 us .. 150 us: 3 of 3" in drawn(views.heat, latency)[-1]
    # On to the records: the first of that second, and back with it.
    assert views.show(views.next) == ""
    selected = views.records.record()
    assert selected is not None
    views.up(-1)
    later = views.records.selected
    assert views.show(views.next) == ""
    assert views.rates.second == 1002
    views.show("stream")
    assert views.records.selected == later
    # A second that is chosen in the heat map.
    views.show("latency")
    drawn(views.heat, latency)
    views.right(-1)
    views.show("stream")
    assert views.records.moment_ns() == BEGAN * SECOND_NS + 1_499_900_000
    clock.now_s += HISTORY_S
    assert "not in the last minute" in views.show("top")
    assert "Left selects" in rated(views.rates, rating)[-1]
    views.show("latency")
    assert views.heat.second == BEGAN + 1
    views.newest()
    views.show("stream")
    assert views.records.selected is None


def test_a_time_that_is_no_longer_kept_is_told(clock: Clock) -> None:
    views = Views(Style(40), "latency", "rate", lambda: None)
    assert views.show_record(5) == "no record of that time, or later, is kept"
    views.records.add(decoded(*request(5, 1, took_us=10)))
    assert "this is the next one" in views.show_record(BEGAN * SECOND_NS)
    assert views.show_last_end() == "no pair is in the selected cell: the arrows select another"


def test_the_mouse_selects_in_rates(clock: Clock) -> None:
    views, rating = Views(Style(40), "top", "rate", lambda: None), Rating()
    came(views, rating, clock, *((n, decoded(*request(n, n, took_us=1))) for n in range(5)))
    shown = rated(views.rates, rating)
    views.click(2, 5)
    assert views.rates.group == 1
    views.click(8, len(shown[8]) - 2)
    assert "2 records in this second" in rated(views.rates, rating)[-1]
    assert views.rates.second == 1003
    views.up(1)
    assert views.rates.group == 0
    views.newest()
    assert views.rates.group == 1
    assert "Left selects" in rated(views.rates, rating)[-1]
    assert len(rated(views.rates, rating, 5)) <= 5
    views.click(4, 0)
    assert views.rates.second is None
