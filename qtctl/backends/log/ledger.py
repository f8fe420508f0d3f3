"""Which write wrote which byte of the log: proven, or unknown.

The bytes that the writes of the trace wrote, counted up, are the offsets in the file, but for a
number: where the file ended when the trace began. How large the file is at a moment gives bounds
for that number: at least what all writes that had ended by then wrote is in it, and at most what
all that had begun. Where the bounds of a few such samples leave one number, it is proven at their
time; between two times at which it is the same, all writes are where it says. Whatever else
changes the file (another writer, a write that was not traced) shows as another number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from qtctl.backends.log.writes import WritePairs, Writes
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.items import Items, Loss

_MARGIN_NS = 300
"""How far a time of the trace may be from what it is the time of."""
_KEPT_SAMPLES = 256
_KEPT_WRITES = 1 << 19


class Sample(NamedTuple):
    """The size of the log, in bytes, at a time between two of CLOCK_MONOTONIC."""

    after_ns: int
    size: int
    before_ns: int


def take_samples(size: Callable[[], int], count: int) -> list[Sample]:
    """Return so many samples of a file whose size ``size`` returns."""
    clock = time.monotonic_ns
    return [Sample(clock(), size(), clock()) for _ in range(count)]


class ProvenRun(NamedTuple):
    """A run of writes whose places are proven.

    ``place`` is the offset in the file minus the bytes written since the trace began; ``first``,
    ``last`` are such counts of bytes.
    """

    place: int
    first: int
    last: int


class Ledger:
    """The writes of a trace, and the spans of them whose places are proven."""

    def __init__(self, pairing: WritePairs) -> None:
        self._pairing = pairing
        self.writes = Writes.none()
        self.spans: list[ProvenRun] = []
        self.breaks = 0
        """How often a proven span ended before the trace did."""
        self._count = 0
        self._is_open = False
        """Whether the last span may go on."""
        self._since_ns = 0
        self._samples: list[Sample] = []
        self._bounds: list[tuple[int, int, int]] = []
        """Of samples: how many bytes had been written, and the bounds of ``place``."""

    @property
    def proven(self) -> int:
        """The offset in the file up to which it is decided what is known of the writes."""
        return self.spans[-1].place + self.spans[-1].last if self.spans else 0

    def add(self, items: Items, offset_ns: int) -> None:
        """Add what was read of the trace; ``offset_ns`` is Unix time minus CLOCK_MONOTONIC."""
        for item in items:
            if isinstance(item, Loss):
                self._pairing.forget()
                self.interrupt(item.time_ns)
            else:
                self._add(item, offset_ns)
        if len(self.writes.begin) > _KEPT_WRITES:
            self.writes = self.writes.since(len(self.writes.begin) - _KEPT_WRITES // 2)

    def _add(self, batch: Batch, offset_ns: int) -> None:
        rows, exit_ns, broken = self._pairing.pair(batch)
        if broken:
            self.interrupt(int(batch.time_ns[-1]))
        size = np.maximum(rows.result, 0)
        end = self._count + np.cumsum(size)
        if not len(end):
            return
        last = self.writes
        if len(last.enter_ns) and rows.time_ns[0] < last.enter_ns[-1]:
            self.interrupt(int(rows.time_ns[0]))
        before = last.tid[-1:] if len(last.tid) else rows.tid[:1]
        turns = np.cumsum(np.diff(rows.tid, prepend=before) != 0)
        if len(last.turns):
            turns += last.turns[-1]
        unix_ns = rows.time_ns + offset_ns
        fresh = Writes(end - size, end, rows.time_ns, exit_ns, unix_ns, rows.tid, turns)
        self.writes = fresh.behind(last)
        self._count = int(end[-1])

    def interrupt(self, since_ns: int) -> None:
        """Note that nothing is proven of what comes before the next proof.

        Samples from before ``since_ns`` (CLOCK_MONOTONIC) prove nothing any more.
        """
        self.breaks += self._is_open
        self._is_open = False
        self._since_ns = max(self._since_ns, since_ns)
        self._bounds = []

    def restart(self) -> None:
        """Forget all places: the log is another file, or was written anew."""
        self.interrupt(time.monotonic_ns())
        self.spans, self._samples = [], []
        self.writes = self.writes.since(len(self.writes.begin))

    def sample(self, samples: list[Sample]) -> None:
        """Add samples, which were taken after those before."""
        self._samples += samples

    def prove(self, until_ns: int | None) -> bool:
        """Use the samples; no write that began before ``until_ns`` will be added any more.

        Returns whether the places of all that was written before the last of them are proven.
        """
        if until_ns is None:
            return False
        if self._pairing.open_ns is not None:
            until_ns = min(until_ns, self._pairing.open_ns)
        ready = 0
        while ready < len(self._samples):
            if self._samples[ready].before_ns + _MARGIN_NS >= until_ns:
                break
            ready += 1
        used, self._samples = self._samples[:ready], self._samples[ready:]
        used = [one for one in used if one.after_ns > self._since_ns]
        if not used:
            return False
        after, size, before = (np.array(column, np.int64) for column in zip(*used, strict=True))
        ended = self._written(self.writes.exit_ns, after - _MARGIN_NS)
        begun = self._written(self.writes.enter_ns, before + _MARGIN_NS)
        for bounds in zip(
            ended.tolist(), (size - begun).tolist(), (size - ended).tolist(), strict=True
        ):
            self._check(*bounds)
        self._find()
        return bool(self._is_open and self.spans[-1].last >= ended[-1])

    def _written(self, times_ns: Int64Array, until_ns: Int64Array) -> Int64Array:
        """Return how many bytes had been written by writes whose time is not after ``until_ns``."""
        end = self.writes.end
        first = self.writes.begin[0] if len(end) else self._count
        sums = np.concatenate(([first], end))
        found: Int64Array = sums[np.searchsorted(times_ns, until_ns, "right")]
        return found

    def _check(self, written: int, low: int, high: int) -> None:
        """Add the bounds of a sample; what they contradict ends with what is proven so far."""
        if self._is_open:
            least = most = self.spans[-1].place
        else:
            least = max((bound[1] for bound in self._bounds), default=low)
            most = min((bound[2] for bound in self._bounds), default=high)
        if low > most or high < least:
            self._find()
            self.interrupt(0)
        self._bounds = [*self._bounds, (written, low, high)][-_KEPT_SAMPLES:]

    def _find(self) -> None:
        """Extend the last span, or begin one, if the bounds of the samples prove a place.

        The place of writes only grows, by what is not of the trace. So where some samples prove
        one, it is right at the first of the latest that do; and from the last of the earliest that
        do on, if it still is right then.
        """
        if not self._bounds:
            return
        written, low, high = np.array(self._bounds, np.int64).T
        if not self._is_open:
            exact = np.flatnonzero(np.maximum.accumulate(low) == np.minimum.accumulate(high))
            if not len(exact):
                return
            place, first = int(low[: exact[0] + 1].max()), int(written[exact[0]])
            self.spans.append(ProvenRun(place, first, first))
            self._is_open = True
        least, most = np.maximum.accumulate(low[::-1]), np.minimum.accumulate(high[::-1])
        exact = np.flatnonzero(least == most)
        if len(exact):
            last = max(int(written[::-1][exact[0]]), self.spans[-1].last)
            self.spans[-1] = self.spans[-1]._replace(last=last)
            self._bounds = self._bounds[-1 - int(exact[0]) :]

    def pass_by(self, place: int) -> None:
        """Forget the writes before an offset in the file, which nobody will ask for again."""
        while len(self.spans) > 1 and self.spans[0].place + self.spans[0].last <= place:
            del self.spans[0]
        if self.spans:
            count = place - self.spans[0].place
            first = int(np.searchsorted(self.writes.end, count, "right"))
            if first:
                self.writes = self.writes.since(first)

    def lookup(
        self, begin: Int64Array, end: Int64Array
    ) -> tuple[Int64Array, BoolArray, Int64Array]:
        """Return, for parts of the file, the write that wrote its first byte, and what is proven.

        The second is whether a write, or several of one thread, wrote exactly that part; the third
        the offset in the file at which the write of its last byte ended. The write is -1 where it
        is not known.
        """
        index = np.full(len(begin), -1, np.int64)
        exact = np.zeros(len(begin), np.bool_)
        stop = np.zeros(len(begin), np.int64)
        writes = self.writes
        if not len(writes.begin):
            return index, exact, stop
        for span in self.spans:
            low, high = begin - span.place, end - span.place
            rows = np.flatnonzero(
                (low >= max(span.first, writes.begin[0])) & (high <= span.last) & (index < 0)
            )
            first = np.searchsorted(writes.end, low[rows], "right")
            last = np.searchsorted(writes.end, high[rows], "left")
            index[rows] = first
            stop[rows] = writes.end[last] + span.place
            exact[rows] = (writes.begin[first] == low[rows]) & (
                writes.turns[first] == writes.turns[last]
            )
        return index, exact, stop
