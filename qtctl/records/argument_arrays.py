"""Arrays that a kernel fills with the arguments of rows of one event, and their columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qtctl.model import Argument, Kind
from qtctl.records.columns import BoolArray, Column, StringColumn

READ, CUT = 1, 2


class ArgumentArrays:
    """Room for ``arguments`` of ``rows`` rows: ``values``, ``spans`` and ``ok``.

    Each number has a row of ``values`` (64-bit patterns), each text two of ``spans`` (where it
    begins and ends), in the order of the arguments. ``ok`` of a row is 0 (not as declared) until
    it could be read: :data:`READ`, or :data:`CUT` where a text may be cut.
    """

    def __init__(self, arguments: Sequence[Argument], rows: int) -> None:
        self._arguments = arguments
        self.texts = sum(argument.kind is Kind.STRING for argument in arguments)
        self.numbers = len(arguments) - self.texts
        self.values = np.zeros((self.numbers, rows), np.uint64)
        self.spans = np.zeros((2 * self.texts, rows), np.int64)
        self.ok = np.zeros(rows, np.uint8)

    def columns(
        self, data: bytes, null: bytes | None = None
    ) -> tuple[dict[str, Column], BoolArray]:
        """Return a column an argument, and which rows could be read.

        ``data`` has the texts; the text ``null`` stands for NULL.
        """
        good = self.ok == READ
        if not good.all():
            self.values[:, ~good] = 0
            self.spans[:, ~good] = 0
        values, edges = iter(self.values), iter(self.spans)
        columns: dict[str, Column] = {}
        for argument in self._arguments:
            if argument.kind is Kind.STRING:
                columns[argument.name] = StringColumn.from_spans(
                    data, next(edges), next(edges), null
                )
            else:
                value = next(values)
                columns[argument.name] = value.view(np.int64) if argument.signed else value
        return columns, good
