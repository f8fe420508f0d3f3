"""A heat map of spans of time: how many ended in each second, by logarithmic buckets of length.

Memory is bounded: the last ``SECONDS`` are kept, whatever comes.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import Int64Array

SECONDS = 3600
PER_DECADE = 6
_STEPS = (1, 1.5, 2, 3, 5, 7)
EDGES: Int64Array = np.array(
    [np.ceil(step * 10**n) for n in range(19) for step in _STEPS], np.int64
)
"""The least length of each bucket, in ns; the first also has what is shorter."""
BUCKETS = len(EDGES)
_SECOND_NS = 1_000_000_000

Cells: TypeAlias = NDArray[np.uint32]
"""Counts: a row for each second, a column for each bucket."""


def bucket_of(lengths_ns: Int64Array) -> Int64Array:
    """Return the bucket of each length."""
    found: Int64Array = np.searchsorted(EDGES, lengths_ns, "right") - 1
    return np.maximum(found, 0)


def ends_of(bucket: int, count: int = 1) -> tuple[int, int | None]:
    """Return the least length in ``count`` buckets from one on, and that behind; None: no end."""
    low = 0 if bucket == 0 else int(EDGES[bucket])
    return low, int(EDGES[bucket + count]) if bucket + count < BUCKETS else None


class HeatMap:
    """Counts spans by the second of the records' clock in which they ended, and by their length.

    A clock that steps back by more than what is kept begins the map anew. ``low`` and ``high`` are
    the least and the highest bucket that was used; ``high`` is -1 before there is any.
    """

    def __init__(self) -> None:
        self._cells: Cells = np.zeros((SECONDS, BUCKETS), np.uint32)
        self._last: Int64Array = np.zeros((SECONDS, BUCKETS), np.int64)
        self._lost = np.zeros(SECONDS, np.bool_)
        self.clear()

    def clear(self) -> None:
        """Forget all spans."""
        self._cells[:] = 0
        self._lost[:] = False
        self.low, self.high = BUCKETS, -1
        self._first = self.newest = 0
        self._empty = True

    @property
    def first(self) -> int:
        """The first second that is kept."""
        return max(self._first, self.newest - SECONDS + 1)

    def advance(self, second: int) -> None:
        """Go on to a second, unless it is behind the newest one already."""
        if self._empty or second <= self.newest - SECONDS:
            self.clear()
            self._first = self.newest = second
            self._empty = False
        elif second > self.newest:
            passed = np.arange(max(self.newest + 1, second - SECONDS + 1), second + 1) % SECONDS
            self._cells[passed] = 0
            self._lost[passed] = False
            self.newest = second

    def add(self, start_ns: Int64Array, end_ns: Int64Array) -> None:
        """Count spans; those that ended before what is kept are left out."""
        if not len(end_ns):
            return
        seconds = end_ns // _SECOND_NS
        self.advance(int(seconds.max()))
        kept = seconds > self.newest - SECONDS
        self._first = min(self._first, int(seconds[kept].min()))
        buckets = bucket_of((end_ns - start_ns)[kept])
        cells = seconds[kept] % SECONDS * BUCKETS + buckets
        low = int(cells.min())
        counts = np.bincount(cells - low).astype(np.uint32)
        self._cells.reshape(-1)[low : low + len(counts)] += counts
        self._last.reshape(-1)[cells] = end_ns[kept]
        self.low = min(self.low, int(buckets.min()))
        self.high = max(self.high, int(buckets.max()))

    def lose(self) -> None:
        """Mark the newest second as one in which records were lost."""
        if not self._empty:
            self._lost[self.newest % SECONDS] = True

    def cells(self, first: int, count: int) -> Cells:
        """Return the counts of ``count`` seconds; 0 for those that are not kept."""
        places, kept = self._places(first, count)
        return np.where(kept[:, None], self._cells[places], np.uint32(0))

    def lost(self, first: int, count: int) -> list[bool]:
        """Return in which of ``count`` seconds records were lost."""
        places, kept = self._places(first, count)
        found: list[bool] = (self._lost[places] & kept).tolist()
        return found

    def last_end(self, second: int, bucket: int, count: int = 1) -> int | None:
        """Return when the last span ended of a second and ``count`` buckets; None: there is none.

        In ns of the records' clock.
        """
        places, kept = self._places(second, 1)
        used = self._cells[places[0], bucket : bucket + count] > 0
        ends = self._last[places[0], bucket : bucket + count][used]
        return int(ends.max()) if kept[0] and len(ends) else None

    def _places(self, first: int, count: int) -> tuple[Int64Array, NDArray[np.bool_]]:
        seconds = np.arange(first, first + count)
        kept = (seconds >= self.first) & (seconds <= self.newest)
        return seconds % SECONDS, kept & (not self._empty)
