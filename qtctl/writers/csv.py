"""Format records as CSV, a batch at a time; the columns are keys of schema ``qtctl/1``.

``args`` holds the arguments as JSON, and for losses and notes the keys that have no column. When
only one event is exported, each of its arguments has a column, after the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import Column, readable
from qtctl.records.counts import Counts
from qtctl.records.items import Item
from qtctl.records.lines import LineBlock, write
from qtctl.records.schema import to_object
from qtctl.text.encoded import EncodedLines
from qtctl.text.values import csv_text
from qtctl.writers.base import Source

_COLUMNS = (
    "type", "time_ns", "clock", "pid", "guest", "run", "thread", "file", "tid", "backend", "name",
    "count", "line", "raw", "args",
)  # fmt: skip


def open_lines(source: Source) -> CsvExport:
    """Return a formatter of CSV; if only one event is picked, its arguments have columns."""
    declared = None
    if len(source.picked) == 1:
        declared = source.table.declarations.get(source.picked[0])
    return CsvExport([one.name for one in declared.arguments] if declared else [])


class CsvExport:
    """Formats items as CSV below one header; each of ``arguments`` has a column."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._begun = False

    def lines(self, item: Item, records: int) -> Iterable[str]:
        """Return the lines of an item; of a batch, only its first ``records`` records."""
        lines: Iterable[str]
        if isinstance(item, Batch):
            lines = self._batch(item.first(records))
        else:
            lines = [self._note(to_object(item))]
        return lines if self._begun else chain(self._header(), lines)

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield the header if there were no items."""
        yield from self._header()

    def _header(self) -> Iterator[str]:
        if not self._begun:
            self._begun = True
            # An argument named like another column gets an underscore appended.
            own = (f"{name}_" if name in _COLUMNS else name for name in self._arguments)
            yield readable(csv_text([[*_COLUMNS, *own]]))

    def _note(self, note: Mapping[str, Any]) -> str:
        """Return the line of a loss or note, given as an object of schema ``qtctl/1``."""
        own = {key: note.get(key) for key in _COLUMNS}
        more = {key: value for key, value in note.items() if key not in own}
        own["args"] = json.dumps(more) if more else None
        return readable(csv_text([[*own.values(), *(None for _ in self._arguments)]]))

    def _batch(self, batch: Batch) -> EncodedLines:
        """Return the lines of a batch; a text that contains newlines spans several."""
        blocks = []
        for event, rows, values in batch.alike():
            block = LineBlock(rows)
            blocks.append(block)
            if event < 0:
                block.literal(f"text,,,,,,,,,{batch.backend},,,")
                block.column(batch.texts(rows), _cell)
                block.literal(",,")
            else:
                self._event(block, batch, event, values)
            for name in self._arguments:
                block.literal(",")
                if values is not None and name in values:
                    block.column(values[name], _cell)
        return write(blocks)

    def _event(
        self, block: LineBlock, batch: Batch, event: int, values: Mapping[str, Column] | None
    ) -> None:
        """Append the columns before those of single arguments."""
        rows = block.rows
        block.literal("event,")
        block.number(batch.time_ns[rows])
        late = batch.arrived[rows].astype(np.int64)
        block.choice(late, [f",{clock}," for clock in (batch.clock, Clock.ARRIVAL)])
        known = [(one.pid, one.guest, one.run, one.thread, one.file) for one in batch.origins]
        block.choice(batch.origin[rows], ["".join(map(_optional, one)) for one in known])
        block.optional(batch.tid[rows])
        block.literal(f",{batch.backend_of(event)},{_cell(batch.names[event])},,,")
        if values is None:
            block.column(batch.raws(rows), _cell)
        block.literal(",")
        if self._arguments:
            return
        if not values:
            block.literal("{}")
            return
        before = '"{'
        for key, column in values.items():
            block.literal(f"{before}{_json(key)}: ")
            block.column(column, _json)
            before = ", "
        block.literal('}"')


def _cell(text: str | None) -> str:
    """Return a text as a CSV cell, quoted if necessary; NULL is an empty one."""
    return "" if text is None else csv_text([[readable(text), ""]])[:-1]


def _optional(value: int | str | None) -> str:
    """Return a cell that may be empty, and the comma behind it."""
    return "," if value is None else f"{_cell(str(value))},"


def _json(text: str | None) -> str:
    """Return a text as JSON inside a quoted CSV cell."""
    return json.dumps(text).replace('"', '""')
