"""Distributions of whole numbers: percentiles and histograms from counts in narrow buckets.

Memory does not depend on how many numbers there are. A bucket is 2**-precision of its numbers wide
(small numbers have one each), as in HdrHistogram; sums, minimum and maximum are exact. Buckets end
at powers of two, as do the bars of both histograms, so the counts of bars are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram: the count of numbers from ``low`` to below ``high``.

    ``occurred`` is one of them, in the narrow bars of :class:`Statistics`.
    """

    low: int
    high: int
    count: int
    occurred: int = field(default=0, compare=False)


class Distribution:
    """Counts of the numbers of groups 0, 1, 2 ...; signed or unsigned, up to 64 bits.

    ``precision`` 7 resolves numbers to 0.8 %, with 120 KB a group (twice that with numbers < 0).
    """

    def __init__(self, precision: int = 7) -> None:
        self._precision = precision
        self._size = (65 - precision) << precision
        self._positive, self._negative = _Buckets(self._size), _Buckets(self._size)
        self._sums: list[int] = []
        self._least: list[int] = []
        self._most: list[int] = []

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, values: NDArray[Any], groups: NDArray[np.int32] | None = None) -> None:
        """Count ``values`` (int64 or uint64), each in its group (default: all in group 0)."""
        if not len(values):
            return
        if groups is None:
            self._add_group(0, values)
        elif (low := int(groups.min())) == int(groups.max()):
            self._add_group(low, values)
        else:
            order = np.argsort(groups, kind="stable")
            used, begins = np.unique(groups[order], return_index=True)
            for group, chosen in zip(used.tolist(), np.split(order, begins[1:]), strict=True):
                self._add_group(group, values[chosen])

    def _add_group(self, group: int, values: NDArray[Any]) -> None:
        while len(self._sums) <= group:
            self._sums.append(0)
            self._least.append(1 << 64)
            self._most.append(-(1 << 64))
        self._sums[group] += _sum(values)
        least, most = int(values.min()), int(values.max())
        self._least[group] = min(self._least[group], least)
        self._most[group] = max(self._most[group], most)
        if least < 0:
            below = values < 0
            self._count(~values[below], self._negative, group)
            values = values[~below]
        self._count(values, self._positive, group)

    def _count(self, values: NDArray[Any], half: _Buckets, group: int) -> None:
        """Count numbers >= 0 in the buckets of a group."""
        size = values.astype(np.uint64, copy=False)
        # Above 2**53 the float may round up to the next power of two.
        bits = np.frexp(size.astype(np.float64))[1]
        shift = np.maximum(bits - (self._precision + 1), 0)
        top = size >> shift.astype(np.uint64)
        low = (shift > 0) & (top < (1 << self._precision))
        if low.any():
            shift -= low
            top = size >> shift.astype(np.uint64)
        bucket = (shift.astype(np.int64) << self._precision) + top.view(np.int64)
        half.make_row(group)
        counts = np.bincount(bucket)
        half.counts[group, : len(counts)] += counts
        half.occurred[group, bucket] = size

    def statistics(self, group: int | None = None) -> Statistics:
        """Return the statistics of a group's numbers at this moment, or of all (None)."""
        groups = range(len(self)) if group is None else range(group, min(group + 1, len(self)))
        bars: list[Bar] = []
        for half in (self._negative, self._positive):
            counted = half.counts[groups.start : groups.stop]
            counts = counted.sum(axis=0)
            places = np.flatnonzero(counts)
            if not len(places):
                continue
            some = groups.start + counted[:, places].argmax(axis=0)
            columns = (counts[places], half.occurred[some, places])
            found = zip(places.tolist(), *(column.tolist() for column in columns), strict=True)
            narrow = [Bar(*self._ends(place), count, one) for place, count, one in found]
            if half is self._negative:
                narrow = [Bar(-b.high, -b.low, b.count, ~b.occurred) for b in reversed(narrow)]
            bars += narrow
        return Statistics(
            tuple(bars),
            sum(bar.count for bar in bars),
            sum(self._sums[one] for one in groups),
            min((self._least[one] for one in groups), default=0),
            max((self._most[one] for one in groups), default=0),
        )

    def _ends(self, bucket: int) -> tuple[int, int]:
        shift = max(0, (bucket >> self._precision) - 1)
        low = (bucket - (shift << self._precision)) << shift
        return low, low + (1 << shift)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of numbers: their buckets in order, and exact count, sum, ``least`` and ``most``.

    Where ``count`` is 0, ``least`` and ``most`` mean nothing.
    """

    bars: tuple[Bar, ...]
    count: int
    total: int
    least: int
    most: int

    @property
    def mean(self) -> float:
        """The mean; ``count`` must not be 0."""
        return self.total / self.count

    def percentiles(self, shares: Sequence[float]) -> list[int]:
        """Return, for each share (0 to 1), the number that this share of all is at or below.

        It is a number that occurred, within 2**-precision of the true one.
        """
        ranks = np.cumsum([bar.count for bar in self.bars])
        found = []
        for share in shares:
            bar = self.bars[int(np.searchsorted(ranks, max(1, np.ceil(share * self.count))))]
            found.append(bar.occurred)
        return found

    def log2(self) -> list[Bar]:
        """Return bars from each power of two to the next, without gaps; 0 has a bar alone."""

        def place(bar: Bar) -> int:
            return bar.low.bit_length() if bar.low >= 0 else -1 - (-bar.high).bit_length()

        return _merged(self.bars, place, _log2_ends)

    def linear(self, most: int = 20) -> list[Bar]:
        """Return at most ``most`` + 1 bars of one width, a power of two, without gaps."""
        if not self.bars:
            return []
        width = max(bar.high - bar.low for bar in self.bars)
        while self.bars[-1].high - self.bars[0].low > most * width:
            width *= 2

        def ends(place: int) -> tuple[int, int]:
            return place * width, (place + 1) * width

        return _merged(self.bars, lambda bar: bar.low // width, ends)


def _merged(
    bars: Iterable[Bar], place: Callable[[Bar], int], ends: Callable[[int], tuple[int, int]]
) -> list[Bar]:
    """Return a bar with given ends for each place, without gaps; it adds up the bars there."""
    counts = Counter[int]()
    for bar in bars:
        counts[place(bar)] += bar.count
    places = range(min(counts), max(counts) + 1) if counts else ()
    return [Bar(*ends(number), counts[number]) for number in places]


def _log2_ends(place: int) -> tuple[int, int]:
    """Return the ends of a bar: 0 is 0; 1 is 1, 2 is 2..3; -1 is -1, -2 is -2, -3 is -4..-3."""
    if place < 0:
        low, high = _log2_ends(-place - 1)
        return -high, -low
    return (0, 1) if place == 0 else (1 << (place - 1), 1 << place)


class _Buckets:
    """Counts of a row of buckets for each group, and a number that occurred in each bucket."""

    def __init__(self, size: int) -> None:
        self.counts = np.zeros((0, size), np.int64)
        self.occurred = np.zeros((0, size), np.uint64)

    def make_row(self, row: int) -> None:
        """Make room for a group."""
        have = len(self.counts)
        if row >= have:
            more = ((0, max(row + 1, 2 * have) - have), (0, 0))
            self.counts, self.occurred = np.pad(self.counts, more), np.pad(self.occurred, more)


def _sum(values: NDArray[Any]) -> int:
    """Return the sum without overflow: high and low halves are added separately."""
    high, low = values >> values.dtype.type(32), values & values.dtype.type(0xFFFFFFFF)
    return (int(high.sum()) << 32) + int(low.sum())
