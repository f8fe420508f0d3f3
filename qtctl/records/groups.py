"""Numbers for the values that records are grouped by, the same in all batches of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import Column, StringColumn

__all__ = ["Groups"]


class Groups:
    """Gives each distinct value a number, in order of appearance.

    At most ``limit`` values are told apart; those that come later share one number. Numbers and
    texts differ, and None stands for a record without a value.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers: dict[int | str | None, int] = {}
        self.others: int | None = None

    @property
    def values(self) -> list[int | str | None]:
        """The values that are told apart; the group ``others`` is not among them."""
        return list(self._numbers)

    def number(self, value: int | str | None) -> int:
        """Return the number of one value."""
        number = self._numbers.get(value)
        if number is None:
            if len(self._numbers) == self._limit:
                self.others = self._limit
                return self._limit
            number = self._numbers[value] = len(self._numbers)
        return number

    def of(self, column: Column) -> NDArray[np.int32]:
        """Return the number of each row's value."""
        if isinstance(column, StringColumn):
            return self._numbered(column.uniques)[column.codes]
        distinct, codes = np.unique(column, return_inverse=True)
        return self._numbered(distinct.tolist())[codes]

    def _numbered(self, values: Sequence[int | str]) -> NDArray[np.int32]:
        return np.fromiter(map(self.number, values), np.int32, len(values))
