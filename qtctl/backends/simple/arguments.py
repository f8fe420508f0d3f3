"""Arguments as the simple backend writes them: 8 bytes a number, texts with their length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from qtctl.backends.simple import kernel as simple
from qtctl.model import Kind
from qtctl.records.argument_arrays import CUT, ArgumentArrays
from qtctl.records.columns import BoolArray, Column, Int64Array
from qtctl.records.event_table import EventTable


class SimpleReader:
    """Reads arguments by the declarations of ``table``; see ``batch.ArgumentReader``.

    All declared arguments are read, also those that the format does not print. ``swapped``: they
    are not in this machine's byte order.
    """

    binary: ClassVar[bool] = True

    def __init__(self, table: EventTable, *, swapped: bool = False) -> None:
        self._table = table
        self._swapped = swapped

    def stored(self) -> dict[str, str]:
        """Return what :func:`reader` needs."""
        return {"arguments": "simple"}

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Read the rows data[begin[i]:stop[i]]; one that contradicts its declaration is not ok."""
        return self._read(data, event, begin, stop).columns(data)

    def cut(self, data: bytes, event: int, begin: Int64Array, stop: Int64Array) -> BoolArray:
        """Return which of the rows have a text that QEMU may have cut."""
        cut: BoolArray = self._read(data, event, begin, stop).ok == CUT
        return cut

    def _read(self, data: bytes, event: int, begin: Int64Array, stop: Int64Array) -> ArgumentArrays:
        declaration = self._table.declaration(event)
        if declaration is None:
            return ArgumentArrays((), len(begin))
        arguments = declaration.arguments
        sizes = [(0 if one.kind is Kind.STRING else one.bits, one.signed) for one in arguments]
        arrays = ArgumentArrays(arguments, len(begin))
        simple.read_arguments(
            data,
            self._swapped,
            np.array(sizes, np.int64).reshape(-1).data,
            np.ascontiguousarray(begin).data,
            np.ascontiguousarray(stop).data,
            arrays.values.reshape(-1).data,
            arrays.spans.reshape(-1).data,
            arrays.ok.data,
        )
        return arrays


def reader(table: EventTable, facts: Mapping[str, object]) -> SimpleReader:
    """Return the reader for recorded rows."""
    return SimpleReader(table)
