"""Which times the records had that came in a second: joins rates, which are by arrival, to records.

Pure. Seconds are of a monotonic clock, times are those of records, in ns.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from qtctl.analysis.rates import HISTORY_S
from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.writers.row_times import moment

SECOND_NS = 1_000_000_000


class _Came(NamedTuple):
    """The first record that came in a second."""

    second: int
    time_ns: int


class Timeline:
    """The times of the first records of the last seconds; ``wall``: they are Unix times."""

    def __init__(self) -> None:
        self.wall = True
        self._came: deque[_Came] = deque(maxlen=2 * HISTORY_S)
        self._last: tuple[float, int] | None = None

    def take(self, batch: Batch, now_s: float) -> None:
        """Note a batch that came at ``now_s``."""
        if not len(batch):
            return
        self.wall = bool(batch.arrived[-1]) or batch.clock is not Clock.MONOTONIC
        if not self._came or self._came[-1].second < int(now_s):
            self._came.append(_Came(int(now_s), int(batch.time_ns[0])))
        self._last = now_s, int(batch.time_ns[-1])

    def now_ns(self, now_s: float) -> int | None:
        """Return the time that a record would have now; None: there was no record yet."""
        if self._last is None:
            return None
        return self._last[1] + int((now_s - self._last[0]) * SECOND_NS)

    def time_of(self, second: int) -> int | None:
        """Return the time of the first record of a second, or about what it would have been."""
        before = None
        for one in self._came:
            if one.second > second:
                break
            before = one
        if before is None:
            before = next(iter(self._came), None)
        return None if before is None else before.time_ns + (second - before.second) * SECOND_NS

    def second_of(self, time_ns: int) -> int | None:
        """Return the second in which the records of a time came, or would have come."""
        found = limit = None
        for one in self._came:
            if one.time_ns <= time_ns:
                found, limit = one, None
            elif limit is None:
                limit = one.second - 1
        if found is None:
            found, limit = next(iter(self._came), None), None
        if found is None:
            return None
        second = found.second + (time_ns - found.time_ns) // SECOND_NS
        return second if limit is None else min(second, limit)

    def clock_words(self, time_ns: int | None) -> str:
        """Return the second of a time as rows print it; ``-`` for none."""
        return "-" if time_ns is None else moment(time_ns, wall=self.wall).partition(".")[0]
