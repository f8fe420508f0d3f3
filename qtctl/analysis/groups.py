"""Numbers for the values that records are grouped by, the same in all batches of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qtctl.records.batch import Batch
from qtctl.records.columns import Column, StringColumn

__all__ = ["EVENT", "OTHERS", "TID", "Groups"]

EVENT, TID = "event", "tid"
"""What records can be grouped by beside arguments: their event and their thread."""
OTHERS = "(others)"
"""What the values that are not told apart are called."""
_LONGEST = 200
"""Characters of a text that are kept: the guest may say as much as it likes."""


class Groups:
    """Gives each distinct value a number, in order of appearance.

    At most ``limit`` values are told apart; those that come later share one more number. A number
    and a text differ, texts by their first 200 characters; None is a record without a value.
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
            value = value[:_LONGEST]
        number = self._numbers.get(value)
        if number is None:
            number = len(self._numbers)
            if number < self._limit:
                self._numbers[value] = number
        return number

    def of_rows(self, batch: Batch, event: int, by: str) -> NDArray[np.int32]:
        """Return the numbers of the rows of one event in a batch, grouped by an argument or so."""
        rows = batch.groups()[event]
        column: Column | None
        if by == EVENT:
            return np.full(len(rows), self.number(batch.names[event]), np.int32)
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
        """Return the number of each row's value."""
        if isinstance(column, StringColumn):
            return self._numbered(column.uniques)[column.codes]
        distinct, codes = np.unique(column, return_inverse=True)
        return self._numbered(distinct.tolist())[codes]

    def _numbered(self, values: Sequence[int | str]) -> NDArray[np.int32]:
        return np.fromiter(map(self.number, values), np.int32, len(values))
