"""The records of one run that are not yet compared with those of another."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np

from qtctl.analysis.fingerprints import Fingerprints, UInt64Array
from qtctl.analysis.meeting import ALIKE
from qtctl.records.batch import Batch, Record
from qtctl.records.columns import Int64Array
from qtctl.records.items import Loss

SHOWN = 5
END = 0
"""The fingerprint of the end of a run, which equals another end; those of losses equal none."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive rows of a batch with its fingerprints, or a loss, which has one row.

    ``number`` is that of the first record in its run, from 1.
    """

    item: Batch | Loss
    prints: Fingerprints
    rows: slice
    number: int

    def __len__(self) -> int:
        length: int = self.rows.stop - self.rows.start
        return length

    @property
    def batch(self) -> Batch:
        """The batch of records that are equal to others, so that they are no loss."""
        assert isinstance(self.item, Batch)
        return self.item

    @property
    def whole(self) -> UInt64Array:
        """Fingerprints of the records with all their arguments."""
        return self.prints.whole[self.rows]

    @property
    def addresses(self) -> UInt64Array:
        """The addresses in the records, in their order."""
        return self.prints.of_rows(self.rows)

    def record_of(self, address: int) -> int:
        """Return the place of the record, from 0, that an address of :attr:`addresses` is in."""
        begin = self.prints.begin
        row = int(np.searchsorted(begin, begin[self.rows.start] + address, side="right")) - 1
        return row - int(self.rows.start)

    def records(self, places: Int64Array) -> list[Record | Loss]:
        """Return the records at places, from 0; a loss as it is."""
        if isinstance(self.item, Loss):
            return [self.item]
        return list(self.item.records(places + self.rows.start)) if len(places) else []


@dataclass(slots=True)
class Unmatched:
    """What waits in one run: ``size`` rows in ``segments``; ``passed`` records came before them.

    ``lost`` is the fingerprint of a loss. ``ended``: no more will come.
    """

    lost: int
    segments: deque[Segment] = field(default_factory=deque)
    size: int = 0
    passed: int = 0
    ended: bool = False

    def take(self, item: Batch | Loss) -> None:
        """Append what came next."""
        if isinstance(item, Batch):
            prints = Fingerprints.of(item)
        else:
            one = np.array([self.lost], np.uint64)
            prints = Fingerprints(one, one, np.empty(0, np.uint64), np.zeros(2, np.int64))
        rows = slice(0, len(prints.whole))
        if rows.stop:
            self.segments.append(Segment(item, prints, rows, 0))
            self.size += rows.stop

    def ahead(self, count: int) -> tuple[UInt64Array, UInt64Array]:
        """Return fingerprints of the next records: whole, and of events; then those of the end."""
        columns: list[tuple[UInt64Array, UInt64Array]] = []
        for segment in self.segments:
            if count <= 0:
                break
            rows = slice(segment.rows.start, min(segment.rows.stop, segment.rows.start + count))
            columns.append((segment.prints.whole[rows], segment.prints.event[rows]))
            count -= len(columns[-1][0])
        end = np.full(ALIKE if count > 0 else 0, END, np.uint64)
        columns.append((end, end))
        whole, event = (np.concatenate(each) for each in zip(*columns, strict=True))
        return whole, event

    def cut(self, count: int) -> Segment:
        """Consume at most ``count`` records of the first segment, and return them."""
        first = self.segments.popleft()
        begin = first.rows.start
        middle = min(begin + count, first.rows.stop)
        taken = replace(first, rows=slice(begin, middle), number=self.passed + 1)
        if middle < first.rows.stop:
            self.segments.appendleft(replace(first, rows=slice(middle, first.rows.stop)))
        self.size -= len(taken)
        self.passed += len(taken) if isinstance(first.item, Batch) else 0
        return taken

    def skip(self, count: int) -> list[Record | Loss]:
        """Consume records; return the first few."""
        shown: list[Record | Loss] = []
        while count:
            segment = self.cut(count)
            count -= len(segment)
            if len(shown) < SHOWN:
                shown += segment.records(np.arange(min(len(segment), SHOWN - len(shown))))
        return shown

    def clear(self) -> None:
        """Drop what waits."""
        self.segments.clear()
        self.size = 0
