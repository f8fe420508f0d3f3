"""Format records as JSON lines of ``records.schema``, a batch at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from qtctl.model import Clock
from qtctl.records import schema
from qtctl.records.batch import Batch
from qtctl.records.columns import Record, StringColumn
from qtctl.records.counts import Counts
from qtctl.records.items import Item
from qtctl.writers.base import Source
from qtctl.writers.lines import LineBlock, write

_PLACEHOLDER = re.compile(r'"\\u0000(\d+)"')


def open_lines(source: Source) -> JsonExport:
    """Return a formatter of JSON lines."""
    return JsonExport()


class JsonExport:
    """Formats items as JSON lines of schema ``qtctl/1``, with a summary at the end."""

    def lines(self, item: Item, records: int) -> Iterator[str]:
        """Yield the lines of an item; of a batch, only its first ``records`` records."""
        if isinstance(item, Batch):
            return iter(json_lines(item.first(records)))
        return iter([json.dumps(schema.to_object(item))])

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield the summary."""
        yield json.dumps(schema.summary(counts))


def json_lines(batch: Batch) -> list[str]:
    """Return a JSON line per record, the same as ``json.dumps`` of ``schema.record``.

    ``schema.record`` is called once for rows of equal columns, with placeholders for the columns:
    the text between the placeholders is the same in all their lines.
    """
    blocks = []
    for event, rows, values in batch.alike():
        columns: list[Any] = []

        def placeholder(column: Any, columns: list[Any] = columns) -> Any:
            columns.append(column)
            return f"\0{len(columns) - 1}"

        if event < 0:
            line = placeholder(batch.texts(rows))
            record = Record("", {}, 0, batch.clock, None, batch.backend, batch.pid, None, line)
        else:
            late = batch.arrived[rows]
            clock = placeholder(late) if late.any() else batch.clock
            args = {} if values is None else {key: placeholder(one) for key, one in values.items()}
            raw = placeholder(batch.raws(rows)) if values is None else None
            time_ns, tid = placeholder(batch.time_ns[rows]), placeholder(batch.tid[rows])
            name = batch.names[event]
            record = Record(name, args, time_ns, clock, tid, batch.backend, batch.pid, raw)
        block = LineBlock(rows)
        blocks.append(block)
        text, *rest = _PLACEHOLDER.split(json.dumps(schema.record(record)))
        block.literal(text)
        for number, literal in zip(rest[::2], rest[1::2], strict=True):
            _append(block, columns[int(number)], batch.clock)
            block.literal(literal)
    return write(blocks)


def _append(block: LineBlock, column: Any, clock: Clock) -> None:
    """Append the column that a placeholder stands for."""
    if isinstance(column, StringColumn):
        block.texts(column, json.dumps)
    elif column.dtype == np.bool_:
        block.choice(column.astype(np.int64), [json.dumps(clock), json.dumps(Clock.ARRIVAL)])
    elif column.dtype == np.int32:
        block.optional(column.astype(np.int64), "", "", instead="null")
    else:
        block.number(column)
