"""Rates: the sums of a naive counter, whatever is counted by, in bounded memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.analysis.rates import GROUPS, HISTORY_S, OTHERS, SORTS, Rate, Rates, Sort
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.records.batch import Batch, EventTable
from tests.samples import only_batch

DECLARED = parse_declarations(
    'number(int size, const char *s) "%d <%s>"\n'
    'wide(uint64_t size) "%" PRIu64\n'
    'texts(const char *size) "<%s>"\n'
    'without(int other, int event) "%d %d"\n'
).by_name
TABLE = EventTable.build([*DECLARED, "undeclared"], DECLARED)


def batch_of(lines: list[str]) -> Batch:
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    batch = only_batch(LogDecoder(TABLE).end(text or b"\n", Clocks(1000)))
    return batch if text else batch.first(0)


def threaded(lines: list[tuple[int, str]]) -> Batch:
    return batch_of([f"{tid}@1700000000.000001:{line}" for tid, line in lines])


numbers = st.integers(-3, 3)
words = st.sampled_from(["", "a", "b c", "1"])
lines = st.one_of(
    st.builds("number {} <{}>".format, numbers, words),
    st.builds("wide {}".format, st.sampled_from([0, 1, 1 << 63, (1 << 64) - 1])),
    st.builds("texts <{}>".format, words),
    st.builds("without {} {}".format, numbers, numbers),
    st.just("number of another form"),
    st.just("undeclared 1"),
    st.just("no event at all"),
)
arrivals = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 0.25, 0.9, 1.0, 7.3, 61.0, 1000.0]),
        st.lists(st.tuples(st.sampled_from([1, 7]), lines), max_size=8),
    ),
    max_size=12,
)


def key_of(batch: Batch, row: int, by: str) -> Any:
    if by == "event":
        return batch.names[batch.event[row]]
    if by == "tid":
        return int(batch.tid[row])
    [record] = batch.select([row]).records()  # type: ignore[arg-type]
    return record.args.get(by.removesuffix("_"))


@settings(deadline=None)
@given(arrivals, st.sampled_from(["event", "tid", "size", "s", "event_", "nothing"]))
def test_the_sums_are_those_of_a_naive_counter(steps: list[Any], by: str) -> None:
    now = 5000.3
    rates = Rates(now, by)
    seen: list[tuple[float, Any, int]] = []
    for passed, said in steps:
        now += passed
        batch = threaded(said)
        rates.take(batch, now)
        seen += [
            (now, key_of(batch, row, by), int(batch.stop[row] - batch.start[row]))
            for row in range(len(batch))
            if batch.event[row] >= 0
        ]
    snapshot = rates.snapshot(now)
    assert snapshot.others is None
    found = {row.key: row for row in snapshot.rows}
    assert len(found) == len(snapshot.rows)
    assert {key: row.total for key, row in found.items()} == Counter(key for _, key, _ in seen)
    span = max(0.05, now - max(5000.3, (int(now * 4) - 4) / 4))
    for key, row in found.items():
        mine = [(when, size) for when, other, size in seen if other == key]
        recent = [size for when, size in mine if int(when * 4) > int(now * 4) - 5]
        history = [0] * HISTORY_S
        for when, _ in mine:
            age = int(now) - int(when)
            if age < HISTORY_S:
                history[-1 - age] += 1
        assert row.total_bytes == sum(size for _, size in mine)
        assert row.per_s == pytest.approx(len(recent) / span)
        assert row.bytes_per_s == pytest.approx(sum(recent) / span)
        assert list(row.history) == history
    assert snapshot.whole.total == len(seen)
    assert rates.per_s(now) == pytest.approx(snapshot.whole.per_s)
    assert snapshot.whole.total_bytes == sum(size for _, _, size in seen)


@settings(deadline=None)
@given(arrivals, st.sampled_from(SORTS), st.integers(0, 4))
def test_what_a_limit_leaves_out_is_in_the_others(steps: list[Any], sort: Sort, limit: int) -> None:
    rates, now = Rates(0.0), 0.0
    for passed, said in steps:
        now += passed
        rates.take(threaded(said), now)
    everything, some = rates.snapshot(now, sort), rates.snapshot(now, sort, limit)
    assert some.rows == everything.rows[:limit]
    assert some.whole == everything.whole
    left = some.others.total if some.others else 0
    assert left + sum(row.total for row in some.rows) == everything.whole.total
    orders: dict[Sort, list[Any]] = {
        "rate": [-row.per_s for row in everything.rows],
        "bytes": [-row.bytes_per_s for row in everything.rows],
        "total": [-row.total for row in everything.rows],
        "name": [str(row.key) for row in everything.rows],
    }
    assert orders[sort] == sorted(orders[sort])


def test_a_number_and_the_same_text_are_two_groups() -> None:
    rates = Rates(0.0, "size")
    rates.take(batch_of(["number 1 <>", "texts <1>", "without 1 1"]), 0.0)
    assert {row.key for row in rates.snapshot(0.0, "name").rows} == {1, "1", None}
    assert [row.key for row in rates.snapshot(0.0, "name").rows] == [1, "1", None]


def test_rates_fade_when_nothing_comes() -> None:
    rates = Rates(0.0)
    rates.take(batch_of(["wide 1"] * 100), 10.0)
    assert rates.snapshot(10.0).whole.per_s == pytest.approx(100)
    assert rates.snapshot(12.0).whole.per_s == 0
    row: Rate = rates.snapshot(40.0).rows[0]
    assert (row.total, row.history[-31], sum(row.history)) == (100, 100, 100)
    assert sum(rates.snapshot(70.1).rows[0].history) == 0
    assert rates.snapshot(0.0).whole.total == 100  # a clock that steps back harms nothing


@pytest.mark.parametrize("form", ["number {} <x>", "texts <{}>"])
def test_values_without_end_take_bounded_room_and_the_loud_ones_are_found(form: str) -> None:
    rates, fed = Rates(0.0, "size"), 0
    for second in range(0, 40, 2):
        loud = form.format(-second) if form.startswith("n") else form.format(f"loud{second}")
        quiet = [form.format(second * 3000 + number + 1) for number in range(3000)]
        rates.take(batch_of([*quiet, *[loud] * 500]), float(second))
        fed += 3500
        top = rates.snapshot(float(second), limit=1)
        assert top.rows[0].key == (-second if form.startswith("n") else f"loud{second}")
        assert top.rows[0].history[-1] == 500
    whole = rates.snapshot(38.0)
    assert len(whole.rows) <= GROUPS
    assert whole.others is not None
    assert whole.others.key is OTHERS
    assert whole.others.total + sum(row.total for row in whole.rows) == whole.whole.total == fed
    assert sum(whole.whole.history) == fed


def test_a_text_without_end_takes_bounded_room() -> None:
    rates = Rates(0.0, "size")
    rates.take(batch_of([f"texts <{'x' * 100_000}{end}>" for end in "ab"]), 0.0)
    [row] = rates.snapshot(0.0).rows
    assert isinstance(row.key, str)
    assert (len(row.key), row.total) == (200, 2)


def test_a_window_may_be_longer_than_a_second() -> None:
    rates = Rates(0.0, window_s=10.0)
    for second in range(21):
        rates.take(batch_of(["wide 1"] * 100), float(second))
    assert rates.snapshot(20.0).whole.per_s == pytest.approx(110)  # those of 10.0 to 20.0
    assert rates.snapshot(29.9).whole.per_s == pytest.approx(300 / 12.4)  # from 17.5 on
