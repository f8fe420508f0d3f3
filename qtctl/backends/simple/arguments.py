"""Arguments as the simple backend writes them: 8 bytes a number, texts with their length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.simple import kernel as simple
from qtctl.model import Kind
from qtctl.records.columns import BoolArray, Column, Int64Array, StringColumn
from qtctl.records.event_table import EventTable


@dataclass(frozen=True, slots=True)
class _Layout:
    """``fields``: three numbers an argument, as ``simple.read_arguments`` reads them."""

    fields: NDArray[np.int64]
    names: tuple[str, ...]
    texts: tuple[bool, ...]
    signed: tuple[bool, ...]


class SimpleReader:
    """Reads arguments by the declarations of ``table``; see ``batch.ArgumentReader``.

    All declared arguments are read, also those that the format does not print.
    """

    binary: ClassVar[bool] = True

    def __init__(self, table: EventTable) -> None:
        self._table = table
        self._layouts: dict[int, _Layout | None] = {}

    def stored(self) -> dict[str, str]:
        """Return what :func:`reader` needs."""
        return {"arguments": "simple"}

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Read the rows data[begin[i]:stop[i]]; one that contradicts its declaration is not ok."""
        rows = len(begin)
        layout = self._layout(event)
        if layout is None:
            return {}, np.zeros(rows, np.bool_)
        texts = sum(layout.texts)
        values = np.zeros((len(layout.texts) - texts, rows), np.uint64)
        spans = np.zeros((2 * texts, rows), np.int64)
        ok = np.zeros(rows, np.uint8)
        simple.read_arguments(
            data,
            layout.fields.data,
            np.ascontiguousarray(begin).data,
            np.ascontiguousarray(stop).data,
            values.reshape(-1).data,
            spans.reshape(-1).data,
            ok.data,
        )
        good = ok.view(np.bool_)
        if not good.all():
            values[:, ~good] = 0
            spans[:, ~good] = 0
        places = layout.fields.reshape(-1, 3)[:, 2].tolist()
        columns: dict[str, Column] = {}
        rest = zip(layout.names, places, layout.texts, layout.signed, strict=True)
        for name, place, is_text, signed in rest:
            if is_text:
                columns[name] = StringColumn.from_spans(
                    data, spans[2 * place], spans[2 * place + 1]
                )
            else:
                columns[name] = values[place].view(np.int64) if signed else values[place]
        return columns, good

    def _layout(self, event: int) -> _Layout | None:
        if event not in self._layouts:
            self._layouts[event] = self._laid_out(event)
        return self._layouts[event]

    def _laid_out(self, event: int) -> _Layout | None:
        declaration = self._table.declaration(event)
        if declaration is None:
            return None
        fields: list[int] = []
        counts = {True: 0, False: 0}
        for argument in declaration.arguments:
            is_text = argument.kind is Kind.STRING
            fields += [0 if is_text else argument.bits, argument.signed, counts[is_text]]
            counts[is_text] += 1
        return _Layout(
            np.array(fields, np.int64),
            tuple(argument.name for argument in declaration.arguments),
            tuple(argument.kind is Kind.STRING for argument in declaration.arguments),
            tuple(argument.signed for argument in declaration.arguments),
        )


def reader(table: EventTable, facts: Mapping[str, object]) -> SimpleReader:
    """Return the reader for recorded rows."""
    return SimpleReader(table)
