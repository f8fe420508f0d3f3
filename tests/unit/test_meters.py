"""Meters and what Prometheus is told of them: the sums of a naive counter, with bounded series."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.analysis.distribution import Distribution
from qtctl.analysis.groups import OTHERS
from qtctl.analysis.latency import Question
from qtctl.analysis.meters import BOUNDS_NS, GuestLosses, Label, Measured, Meters, Pair
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.errors import UsageError
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend, Mark
from qtctl.records.batch import Batch, EventTable
from qtctl.records.items import Loss
from tests.samples import only_batch

DECLARED = parse_declarations(
    'io_read(void *req, int size, unsigned flags) "%p %d 0x%x"\n'
    'io_done(void *req, const char *s) "%p %s"\n'
).by_name
TABLE = EventTable.build(DECLARED, DECLARED)


def batch(*lines: str) -> Batch:
    text = "".join(f"7@{line}\n" for line in lines)
    return only_batch(LogDecoder(TABLE).end(text.encode(), Clocks(0)))


def label(name: str, limit: int = 9) -> Label:
    return Label.ask(name, limit, list(DECLARED), DECLARED)


sizes = st.integers(-2, 12)


@given(st.lists(st.lists(sizes, min_size=1, max_size=20), max_size=5), st.integers(1, 4))
def test_records_and_bytes_as_a_plain_counter_has_them(
    batches: list[list[int]], limit: int
) -> None:
    whole, apart = Meters("vm1"), Meters("vm1", by=label("size", limit))
    sums: Counter[Any] = Counter()
    held = 0
    first: dict[int, None] = {}
    for values in batches:
        made = batch(*(f"1.000001:io_read 0x1 {value} 0x2" for value in values))
        for value in sorted({*values}):
            if len(first) < limit:
                first[value] = None
        for value in values:
            sums[str(value) if value in first else OTHERS] += 1
        held += int((made.stop - made.start).sum())
        whole.take(made)
        apart.take(made)
    assert {one.value: one.records for one in apart.records()} == sums
    assert sum(one.size for one in apart.records()) == held
    found = [(one.guest, one.event, one.records, one.size) for one in whole.records()]
    assert found == ([("vm1", "io_read", sum(sums.values()), held)] if sums else [])


@given(st.lists(st.integers(0, 1 << 40) | st.sampled_from(BOUNDS_NS), max_size=30))
def test_buckets_are_exact_and_always_the_same(lengths: list[int]) -> None:
    spread = Distribution()
    spread.add(np.array(lengths, np.int64))
    lengths.sort()
    question = Question.ask("io_read", "io_done", TABLE.names, DECLARED, "here")
    pair = Pair("io_read", "io_done", question)
    found = Measured("vm1", pair, spread.statistics(), 0, {}).cumulated()
    assert found == [bisect_right(lengths, one) for one in BOUNDS_NS]


def test_pairs_losses_and_news() -> None:
    question = Question.ask("io_read", "io_done", TABLE.names, DECLARED, "here")
    meters = Meters("vm1", [Pair("io_read", "io_done", question)])
    assert meters.latencies() == []
    meters.take(batch("1.000001:io_read 0xa 1 0x0", "1.000004:io_done 0xa x"))
    meters.take(Mark("note", 5))
    meters.take(batch("2.000000:io_read 0xb 1 0x0"))
    meters.take(Loss(Backend.LOG, 5, 1))
    meters.take(Loss(Backend.LOG, None, 1))
    meters.take(batch("3.000000:io_done 0xb x"))
    [found] = meters.latencies()
    assert (found.guest, found.spans.count, found.spans.total) == ("vm1", 1, 3000)
    assert (found.in_flight, found.left_out["dropped"], found.left_out["unseen"]) == (0, 1, 1)
    assert meters.losses() == [GuestLosses("vm1", 5, 1)]


def test_labels() -> None:
    assert [label("flags").words(one) for one in (16, None, OTHERS)] == ["0x10", "", OTHERS]
    assert (label("tid").words(7), label("s").words("x\n")) == ("7", "x\n")
    for wrong, says in (("req", "pointer"), ("event", "already"), ("sise", "size")):
        with pytest.raises(UsageError, match=says):
            label(wrong)
