"""The filter of a stream: picked events, an expression, a limit; and the sums."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from qtctl.records.batch import Batch
from qtctl.records.counts import Counts
from qtctl.records.event_table import EventTable
from qtctl.records.filters import Filter
from qtctl.records.items import Loss


class RecordFilter:
    """Passes the picked events for which an expression holds, at most ``limit``, and counts.

    ``text`` also passes lines that are no events. Until :meth:`pick`, everything is filtered.
    """

    def __init__(self, *, text: bool, limit: int | None) -> None:
        self.counts = Counts()
        self._text = text
        self._limit = limit
        self._filter: Filter | None = None
        self._names: Sequence[str] = ()
        self._picked: Collection[str] = ()
        self._wanted: NDArray[np.bool_] = np.zeros(1, np.bool_)

    def pick(self, table: EventTable, picked: Collection[str], where: str | None) -> None:
        """Set which events of ``table`` pass, and the expression over their arguments.

        Raises:
            UsageError: ``where`` is wrong or names no argument of the picked events.
        """
        self._names, self._picked = table.names, set(picked)
        self.exclude(())
        if where is not None:
            declared = table.declarations
            self._filter = Filter.compile(where, [declared[n] for n in picked if n in declared])

    def exclude(self, names: Collection[str]) -> None:
        """Filter these of the picked events from now on, and no others."""
        wanted = set(self._picked).difference(names)
        # Lines of text, event -1, find the last place: they are no picked event.
        self._wanted = np.array([*(name in wanted for name in self._names), False], np.bool_)

    def apply(
        self, item: Batch | Loss, inside: NDArray[np.bool_] | None = None
    ) -> Batch | Loss | None:
        """Count a batch or loss and return what passes; if ``inside`` is given, only its rows."""
        counts = self.counts
        if isinstance(item, Loss):
            counts.lost += item.count or 0
            counts.unknown_losses += item.count is None
            return item
        if self.full():
            return None
        mask = self._mask(item)
        rows = np.flatnonzero(mask if inside is None else mask & inside)
        read = len(item)
        if self._limit is not None and len(rows) >= self._limit - counts.shown:
            rows = rows[: self._limit - counts.shown]
            read = int(rows[-1]) + 1
        counts.read += read
        counts.shown += len(rows)
        counts.filtered += read - len(rows)
        if len(rows) == len(item):
            return item if len(item) else None
        return item.select(rows) if len(rows) else None

    def _mask(self, batch: Batch) -> NDArray[np.bool_]:
        mask = self._wanted[batch.event]
        if self._filter is not None:
            mask &= self._filter.mask(batch)
        return mask | (batch.event < 0) if self._text else mask

    def full(self) -> bool:
        """Return whether the limit is reached."""
        return self._limit is not None and self.counts.shown >= self._limit
