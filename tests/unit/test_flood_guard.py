"""A flood is heard while its reader stands still, and after that no more."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from qtctl.backends.base import Clocks, Feed
from qtctl.backends.log.decoder import LogDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.model import Budget
from qtctl.records.batch import EventTable
from qtctl.records.counts import Counts
from qtctl.session.guard import FloodGuard
from tests.samples import only_batch

NAMES = ["loud", "quiet"]
TABLE = EventTable.build(NAMES, parse_declarations('loud(int n) "%d"\nquiet(int n) "%d"\n').by_name)
LINES = b"loud 1\n" * 9 + b"quiet 1\n"


class Stalled:
    """A feed of which ``waits`` bytes are not read."""

    taken = waits = 0

    def behind(self) -> int:
        return self.waits


@pytest.mark.parametrize("budget", [Budget(5000), Budget(bytes_per_s=35_000)])
def test_what_waits_is_taken_for_more_of_the_same(
    budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    feed, counts = Stalled(), Counts()
    guarding = FloodGuard(cast(Feed, cast(Any, feed)), budget, NAMES, ())

    def step(seconds: float) -> Any:
        nonlocal now_s
        now_s += seconds
        return guarding.look(counts)

    for _ in range(20):  # 1,000 events a second
        feed.taken += 10 * len(LINES)
        counts.read += 100
        guarding.take([only_batch(LogDecoder(TABLE).end(LINES * 10, Clocks(0)))])
        assert step(0.1) is None
    for _ in range(40):
        feed.waits += 10 * len(LINES)
        assert step(0.1) is None, "nobody reads, and it is no flood"
    assert not guarding.quiet
    for _ in range(12):  # ten times as much
        feed.waits += 100 * len(LINES)
        found = step(0.1)
        if found is not None:
            break
    assert found is not None
    verdict, flood = found
    assert verdict.guarded
    assert flood.patterns == ("loud",)
    assert 5000 < flood.per_s < 11_000
    for _ in range(40):  # it ends
        assert step(0.1) is None
