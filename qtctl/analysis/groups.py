"""Group numbers for the values by which records are grouped, the same in all batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qtctl.records.batch import Batch
from qtctl.records.columns import Column, StringColumn

EVENT, TID, GUEST, FILE = OWN = "event", "tid", "guest", "file"
"""Group by the event's name, the thread, the guest (its process, its run), or the file."""
OTHERS = "(others)"
"""The value of the group that collects all further values."""
LONGEST = 200
"""Only so many characters of a text are compared: a guest may log any length."""


class Groups:
    """Numbers distinct values in order of appearance.

    At most ``limit`` values get a number each; later ones share one more. Texts are compared by
    their first 200 characters; None is the value of records without one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers: dict[int | str | None, int] = {}

    @property
    def values(self) -> list[int | str | None]:
        """The values by their numbers, and ``OTHERS``."""
        return [*self._numbers, OTHERS]

    def number(self, value: int | str | None) -> int:
        """Return the number of one value."""
        if isinstance(value, str):
            value = value[:LONGEST]
        number = self._numbers.get(value)
        if number is None:
            number = len(self._numbers)
            if number < self._limit:
                self._numbers[value] = number
        return number

    def of_rows(self, batch: Batch, event: int, by: str) -> NDArray[np.int32]:
        """Return the group number of each row of one event, by an argument, event or tid."""
        rows = batch.groups()[event]
        column: Column | None
        if by == EVENT:
            return np.full(len(rows), self.number(batch.names[event]), np.int32)
        if by == GUEST:
            codes, processes = batch.processes()
            return self._numbered([one.words for one in processes])[codes[rows]]
        if by == FILE:
            files = [self.number(one.file) for one in batch.origins]
            return np.array(files, np.int32)[batch.origin[rows]]
        if by == TID:
            column = batch.tid[rows].astype(np.int64)
            good = column >= 0
        else:
            columns = batch.arguments(event)
            column, good = columns.values.get(by), columns.ok
        if column is None:
            return np.full(len(rows), self.number(None), np.int32)
        numbers = self.of(column)
        if not good.all():
            numbers[~good] = self.number(None)
        return numbers

    def of(self, column: Column) -> NDArray[np.int32]:
        """Return the group number of each value of a column."""
        if isinstance(column, StringColumn):
            return self._numbered(column.uniques)[column.codes]
        distinct, codes = np.unique(column, return_inverse=True)
        return self._numbered(distinct.tolist())[codes]

    def _numbered(self, values: Sequence[int | str | None]) -> NDArray[np.int32]:
        return np.fromiter(map(self.number, values), np.int32, len(values))
