"""Format records as JSON lines of ``records.schema``, a batch at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from qtctl.model import Clock
from qtctl.records import schema
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.counts import Counts
from qtctl.records.items import Item
from qtctl.records.lines import LineBlock, write
from qtctl.records.origins import Origin
from qtctl.text.encoded import EncodedLines
from qtctl.writers.base import Source

_PLACEHOLDER = re.compile(r'"\\u0000(\d+)"')


def open_lines(source: Source) -> JsonExport:
    """Return a formatter of JSON lines."""
    return JsonExport()


class JsonExport:
    """Formats items as JSON lines of schema ``qtctl/1``, with a summary at the end."""

    def lines(self, item: Item, records: int) -> Iterable[str]:
        """Return the lines of an item; of a batch, only its first ``records`` records."""
        if isinstance(item, Batch):
            return json_lines(item.first(records))
        return [json.dumps(schema.to_object(item))]

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield the summary."""
        yield json.dumps(schema.summary(counts))


def json_lines(batch: Batch) -> EncodedLines:
    """Return a JSON line per record, the same as ``json.dumps`` of ``schema.record``.

    ``schema.record`` is called once for rows of equal columns, with placeholders for the columns:
    the text between the placeholders is the same in all their lines.
    """
    blocks = []
    for event, rows, values in batch.alike():
        block = LineBlock(rows)
        blocks.append(block)
        appends: list[Callable[[], None]] = []
        placeholder = partial(_placeholder, appends)
        if event < 0:
            line = placeholder(block.column, batch.texts(rows), json.dumps)
            record = Record("", {}, 0, batch.clock, None, batch.backend, line=line)
        else:
            late = batch.arrived[rows]
            clock: Any = batch.clock
            if late.any():
                clocks = [json.dumps(clock), json.dumps(Clock.ARRIVAL)]
                clock = placeholder(block.choice, late.astype(np.int64), clocks)
            args, raw, cut = {}, None, False
            if values is None:
                raw = placeholder(block.column, batch.raws(rows), json.dumps)
                cut = batch.is_cut(int(rows[0]))
            else:
                args = {k: placeholder(block.column, v, json.dumps) for k, v in values.items()}
            time_ns = placeholder(block.number, batch.time_ns[rows])
            tid = placeholder(block.optional, batch.tid[rows], "", "", "null")
            origin, name = batch.origins[0], batch.names[event]
            if len(batch.origins) > 1:
                texts = [_members(schema.origin(one)) for one in batch.origins]
                origin = Origin(placeholder(block.choice, batch.origin[rows], texts))
            fields = clock, tid, batch.backend_of(event), origin, raw, None, cut
            record = Record(name, args, time_ns, *fields)
        text, *rest = _PLACEHOLDER.split(json.dumps(schema.record(record)))
        block.literal(text)
        for number, literal in zip(rest[::2], rest[1::2], strict=True):
            appends[int(number)]()
            block.literal(literal)
    return write(blocks)


def _members(found: Mapping[str, Any]) -> str:
    """Return the value of ``pid``, the first member of an object, and the other members."""
    return json.dumps(found).removeprefix('{"pid": ').removesuffix("}")


def _placeholder(appends: list[Callable[[], None]], append: Callable[..., None], *args: Any) -> Any:
    """Add a call that appends a column to ``appends``; return the text that stands for it."""
    appends.append(partial(append, *args))
    return f"\0{len(appends) - 1}"
