"""What of a stream came while all of its events were on."""

from __future__ import annotations

import time

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend
from qtctl.records.batch import Batch, EventTable
from qtctl.session.warm_up import WarmUpWindow
from tests.samples import only_batch

TABLE = EventTable.build(None, parse_declarations('one(int n) "%d"\n').by_name)
SECOND_NS = 10**9


class SetClocks:
    """Stands for ``time``: Unix time in ns, which may be set, and a steady one in s."""

    unix_ns = 1000 * SECOND_NS
    steady_s = 50.0

    def time_ns(self) -> int:
        return self.unix_ns

    def monotonic(self) -> float:
        return self.steady_s


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> SetClocks:
    made = SetClocks()
    monkeypatch.setattr(time, "time_ns", made.time_ns)
    monkeypatch.setattr(time, "monotonic", made.monotonic)
    return made


def stamped(*at_s: float, backend: Backend = Backend.LOG) -> Batch:
    lines = "".join(f"7@{at:.6f}:one {n}\n" for n, at in enumerate(at_s))
    return only_batch(LogDecoder(TABLE, backend=backend).end(lines.encode(), Clocks(0)))


def kept(edges: WarmUpWindow, batch: Batch, taken: int = 0) -> list[int]:
    inside = edges.inside(batch, taken)
    rows = range(len(batch)) if inside is None else inside.nonzero()[0].tolist()
    return list(rows)


def test_records_are_told_by_their_own_times(clocks: SetClocks) -> None:
    edges = WarmUpWindow(0, 998 * SECOND_NS)
    assert kept(edges, stamped(999, 1000, 1000.1, 1001)) == [2, 3]
    clocks.unix_ns += 5 * SECOND_NS
    edges.close(0)
    edges.close(10**6)  # the first time counts
    assert kept(edges, stamped(1004, 1004.9, 1005, 1006)) == [0, 1]


def test_whole_seconds_are_told_from_the_second_before(clocks: SetClocks) -> None:
    edges = WarmUpWindow(0, 998 * SECOND_NS)
    clocks.unix_ns += 5 * SECOND_NS
    edges.close(0)
    assert kept(edges, stamped(1003, 1004, 1005, backend=Backend.SYSLOG)) == [0, 1]


def test_records_without_a_time_are_told_by_their_place(clocks: SetClocks) -> None:
    edges, lines = WarmUpWindow(106, 998 * SECOND_NS), b"one 1\none 2\none 3\n"
    batch = only_batch(LogDecoder(TABLE).end(lines, Clocks(clocks.unix_ns)))
    assert kept(edges, batch, 100 + len(lines)) == [1, 2]
    edges.close(212)
    assert kept(edges, batch, 200 + len(lines)) == [0, 1]
    # A line that was begun in the read before belongs to where it began.
    decoder = LogDecoder(TABLE)
    assert decoder.feed(b"one ", Clocks(0)) == []
    assert kept(edges, only_batch(decoder.feed(b"4\none 5\n", Clocks(0))), 220) == [0]


def test_a_clock_that_is_set_back_hides_nothing(clocks: SetClocks) -> None:
    edges = WarmUpWindow(0, 998 * SECOND_NS)
    assert kept(edges, stamped(1000, 500, 501)) == [1, 2]
    clocks.steady_s += 10
    assert kept(edges, stamped(500, 501, 1000)) == [0, 1, 2]
    clocks.unix_ns = 510 * SECOND_NS
    edges.close(0)
    assert kept(edges, stamped(508, 509, 511)) == [0, 1]
