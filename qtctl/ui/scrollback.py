"""The last records of a stream, in columns: to hold still, scroll, select and search. Pure.

Rows are numbered as they come, and keep their numbers. A row is a record or a note. Only rows that
are shown become text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from qtctl.records.batch import Batch, compacted, joined, kind_of
from qtctl.records.columns import Int64Array

BYTES = 128 << 20
"""At most so much is kept; 1,000,000 records of ``virtio_blk`` take about 100 MB."""
_SHARE_WHILE_STILL = 8
"""What comes while the rows hold still may take one such part of that."""
_ROW_BYTES = 38
_STRETCH_BYTES = 2000
_SMALL = 1024
"""Stretches of fewer rows are joined."""


class Note(NamedTuple):
    """A message between records. ``text`` is safe to print; ``role`` is its colour."""

    text: str
    role: str


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive rows: records, or one note. ``first`` is the number of the first."""

    first: int
    content: Batch | Note
    size: int = field(init=False)
    """In bytes, about."""

    def __post_init__(self) -> None:
        rows = self.content
        used = len(rows) * _ROW_BYTES + len(rows.data) if isinstance(rows, Batch) else 0
        object.__setattr__(self, "size", used + _STRETCH_BYTES)

    def __len__(self) -> int:
        return len(self.content) if isinstance(self.content, Batch) else 1

    @property
    def end(self) -> int:
        """The number behind the last row."""
        return self.first + len(self)

    @property
    def batch(self) -> Batch | None:
        """The records; None for a note."""
        return self.content if isinstance(self.content, Batch) else None


Visible: TypeAlias = Callable[[Stretch], Int64Array | None]
"""Returns the rows of a stretch, from 0, that are shown; None: all."""


class Scrollback:
    """Keeps the last rows, as many as ``limit`` bytes hold.

    While it is ``still``, the rows that were there stay, and others are kept beside them.
    """

    def __init__(self, limit: int = BYTES) -> None:
        self._limit = limit
        self._live: list[Stretch] = []
        self._used = 0
        self._young = 0
        self._still: tuple[Stretch, ...] | None = None
        self._next = 0

    @property
    def total(self) -> int:
        """The number of the next row: how many came since it was made or cleared."""
        return self._next

    def add(self, content: Batch | Note) -> None:
        """Add records, or a note, at the end."""
        if not len(content):
            return
        if isinstance(content, Batch):
            content = compacted(content)
        self._append(Stretch(self._next, content))
        self._next += len(self._live[-1])
        if isinstance(content, Note):
            self._young = 0
        else:
            self._join(len(content))
        self._forget(self._limit if self._still is None else self._limit // _SHARE_WHILE_STILL)

    def _append(self, stretch: Stretch) -> None:
        self._live.append(stretch)
        self._used += stretch.size

    def _join(self, rows: int) -> None:
        """Join the small stretches at the end once they have enough rows together."""
        self._young += rows
        if self._young < _SMALL:
            return
        self._young = 0
        small: list[Batch] = []
        while self._live and len(self._live[-1]) < _SMALL:
            one = self._live[-1].batch
            if one is None or (small and kind_of(one) != kind_of(small[0])):
                break
            small.append(one)
            self._used -= self._live.pop().size
        if small:
            whole = compacted(joined(small[::-1]))
            self._append(Stretch(self._next - len(whole), whole))

    def clear(self) -> None:
        """Remove all rows."""
        self._live.clear()
        self._used = self._young = 0
        self._still = None if self._still is None else ()

    @property
    def still(self) -> bool:
        """Whether the shown rows stay."""
        return self._still is not None

    def hold(self, still: bool) -> None:
        """Let the rows of now stay, or go on with the newest."""
        if still and self._still is None:
            self._still = tuple(self._live)
            self._live, self._used, self._young = [], 0, 0
        elif not still and self._still is not None:
            kept = list(self._still)
            self._still = None
            before, behind = (kept[-1].end if kept else 0), self._live[:1]
            if behind and (gap := behind[0].first - before) and kept:
                text = f"--- {gap:,} rows came while these held still, and were not kept ---"
                kept.append(Stretch(before, Note(text, "faint")))
            self._live = kept + self._live
            self._used += sum(stretch.size for stretch in kept)
            self._forget(self._limit)

    def _forget(self, limit: int) -> None:
        """Remove the oldest stretches until the rest fits."""
        count = 0
        while self._used > limit and count < len(self._live) - 1:
            self._used -= self._live[count].size
            count += 1
        del self._live[:count]

    @property
    def stretches(self) -> Sequence[Stretch]:
        """The stretches whose rows can be shown, in order."""
        return self._live if self._still is None else self._still


class VisibleRows:
    """The rows of stretches that are visible, by number."""

    def __init__(
        self, stretches: Sequence[Stretch], visible: Visible = lambda stretch: None
    ) -> None:
        self._stretches = stretches
        self._visible = visible

    def up(self, number: int) -> Iterator[int]:
        """Yield the visible rows from ``number`` upwards."""
        place = bisect_right(self._stretches, number, key=_first) - 1
        for stretch in reversed(self._stretches[: place + 1]):
            shown = self._visible(stretch)
            if shown is None:
                yield from range(min(number + 1, stretch.end) - 1, stretch.first - 1, -1)
            else:
                end = int(np.searchsorted(shown, number - stretch.first, "right"))
                for row in shown[:end][::-1]:
                    yield stretch.first + int(row)

    def down(self, number: int) -> Iterator[int]:
        """Yield the visible rows from ``number`` downwards."""
        place = max(0, bisect_right(self._stretches, number, key=_first) - 1)
        for stretch in self._stretches[place:]:
            shown = self._visible(stretch)
            if shown is None:
                yield from range(max(number, stretch.first), stretch.end)
            else:
                begin = int(np.searchsorted(shown, number - stretch.first))
                for row in shown[begin:]:
                    yield stretch.first + int(row)

    def at(self, number: int) -> tuple[Stretch, int]:
        """Return the stretch of a row, and its place there; the row must exist."""
        stretch = self._stretches[bisect_right(self._stretches, number, key=_first) - 1]
        return stretch, number - stretch.first

    @property
    def first(self) -> int:
        """The number of the first row, also if it is not visible; 0 without rows."""
        return self._stretches[0].first if self._stretches else 0

    @property
    def end(self) -> int:
        """The number behind the last row, also if it is not visible; 0 without rows."""
        return self._stretches[-1].end if self._stretches else 0

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the visible records from row ``first`` to ``last``, in batches."""
        for stretch in self._stretches:
            if stretch.batch is None or stretch.end <= first or stretch.first > last:
                continue
            shown = self._visible(stretch)
            rows = np.arange(len(stretch)) if shown is None else shown
            numbers = rows + stretch.first
            yield stretch.batch.select(rows[(numbers >= first) & (numbers <= last)])

    def first_at(self, time_ns: int, events: Collection[str] | None = None) -> int | None:
        """Return the visible record with the least time from one on, of ``events`` if given."""
        found, least = None, 0
        for stretch in self._stretches:
            batch = stretch.batch
            if batch is None:
                continue
            shown = self._visible(stretch)
            rows = np.arange(len(stretch)) if shown is None else shown
            chosen = batch.time_ns[rows] >= time_ns
            if events is not None:
                codes = [code for code, name in enumerate(batch.names) if name in events]
                chosen &= np.isin(batch.event[rows], codes)
            rows = rows[chosen]
            if not len(rows):
                continue
            row = int(rows[batch.time_ns[rows].argmin()])
            if found is None or batch.time_ns[row] < least:
                found, least = stretch.first + row, int(batch.time_ns[row])
        return found

    def runs(self, numbers: Sequence[int]) -> Iterator[tuple[Stretch, Int64Array]]:
        """Yield each stretch that has some of ``numbers`` (ascending), and their places there."""
        begin = 0
        while begin < len(numbers):
            stretch, _ = self.at(numbers[begin])
            end = begin
            while end < len(numbers) and numbers[end] < stretch.end:
                end += 1
            yield stretch, np.array(numbers[begin:end], np.int64) - stretch.first
            begin = end


def _first(stretch: Stretch) -> int:
    return stretch.first
