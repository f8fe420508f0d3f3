r"""Convert batches to Apache Arrow: a table per event, with typed arguments. Needs ``pyarrow``.

A table has the columns of every record (``OWN``), a column per declared argument, and ``raw``: the
text (hex, for a binary trace) of arguments that could not be parsed, which are null then. Integers
are int64 or uint64 as declared, so no value is truncated or changes sign; texts are dictionary
encoded. An argument with the name of another column gets an underscore appended, as in ``--where``:
``event_``.

Arrow strings are UTF-8. A byte that is not valid UTF-8 becomes the four characters ``\xNN``, as on
a terminal; control characters and NUL stay unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qtctl.model import Argument, Clock, Kind, News
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Column, StringColumn, readable
from qtctl.records.event_table import EventTable
from qtctl.records.extra import need_analysis
from qtctl.records.items import Loss
from qtctl.records.lines import LineBlock, write_texts
from qtctl.records.schema import to_object

need_analysis("Arrow", "pyarrow")

import pyarrow as pa  # noqa: E402

_TEXT = pa.dictionary(pa.int32(), pa.string())
OWN = pa.schema(
    [
        ("time_ns", pa.int64()),
        ("time", pa.timestamp("ns")),
        ("clock", _TEXT),
        ("event", _TEXT),
        ("tid", pa.int32()),
        ("pid", pa.int64()),
        ("guest", _TEXT),
        ("run", pa.int32()),
        ("thread", _TEXT),
        ("backend", _TEXT),
        ("file", _TEXT),
    ]
)
"""The columns of every record, in each table of events; unknown values are null.

``time`` is ``time_ns`` as a timestamp in UTC; null where that is the time since boot. ``pid`` to
``thread`` are of the record's ``Origin``.
"""

_RAW = pa.field("raw", _TEXT)
_RESERVED = ("raw",)
"""More names that no argument's column may have."""
EVENTS = pa.schema([*OWN, pa.field("args", pa.string()), _RAW])
"""Events of all names; ``args`` is a JSON object with the arguments."""
LINES = pa.schema([*(OWN.field(name) for name in OWN.names if name != "event"), ("line", _TEXT)])
"""Lines of a log that are not events."""
NOTES = pa.schema(
    [
        OWN.field("time_ns"),
        ("type", _TEXT),
        OWN.field("backend"),
        ("count", pa.int64()),
        ("note", pa.string()),
        OWN.field("file"),
    ]
)
"""Losses, marks and other notes between records; ``note`` is the whole object as JSON.

``count`` is the number of lost records (null if unknown) or of events whose state was changed.
"""


def event_schema(table: EventTable, name: str) -> pa.Schema:
    """Return the schema of an event's table."""
    fields = [pa.field(column, _type(one)) for column, one in _columns(table, name).items()]
    return pa.schema([*OWN, *fields, _RAW])


def _type(argument: Argument) -> pa.DataType:
    if argument.kind is Kind.STRING:
        return _TEXT
    return pa.int64() if argument.signed else pa.uint64()


def _columns(table: EventTable, name: str) -> dict[str, Argument]:
    """Map column names to the arguments of an event; unique whatever their case, for SQL."""
    declaration = table.declarations.get(name)
    taken = {*OWN.names, *_RESERVED}
    found: dict[str, Argument] = {}
    for argument in declaration.arguments if declaration is not None else ():
        column = readable(argument.name)
        while column.casefold() in taken:
            column += "_"
        taken.add(column.casefold())
        found[column] = argument
    return found


def arrow_tables(batch: Batch, *, file: str | None = None) -> dict[str, pa.Table]:
    """Map the name of each event that occurs in ``batch`` to a table of its rows, in order."""
    found = {}
    for event in batch.groups():
        if event >= 0:
            name = batch.names[event]
            rows = event_rows(batch, name, event_schema(batch.table, name), file=file)
            found[name] = pa.Table.from_batches([rows])
    return found


def event_rows(
    batch: Batch, name: str, schema: pa.Schema, *, file: str | None = None
) -> pa.RecordBatch:
    """Return the rows of one event; only the columns of ``schema`` are converted."""
    event = batch.table.indices.get(name)
    if event is None or event not in batch.groups():
        return pa.RecordBatch.from_pylist([], schema=schema)
    part = _ArrowRows(batch, batch.groups()[event], file)
    columns = _columns(batch.table, name)

    def other(field: pa.Field) -> pa.Array:
        if field.name == _RAW.name:
            return part.raw(event)
        return part.argument(event, columns.get(field.name), field.type)

    return part.table(schema, other)


def object_rows(batch: Batch, event: int, schema: pa.Schema) -> pa.RecordBatch:
    """Return the rows of one event of ``batch``; ``schema`` has columns of ``EVENTS``."""
    part = _ArrowRows(batch, batch.groups()[event], None)
    return part.table(
        schema,
        lambda field: part.raw(event) if field.name == _RAW.name else _objects(batch, event),
    )


def events_rows(batch: Batch, schema: pa.Schema, *, file: str | None = None) -> pa.RecordBatch:
    """Return the rows of all events, in order; ``schema`` has some columns of ``EVENTS``."""
    rows = np.flatnonzero(batch.event >= 0)
    part = _ArrowRows(batch, rows, file)
    by_event: dict[str, Callable[[int], pa.Array]] = {
        "args": lambda event: _objects(batch, event),
        "raw": lambda event: (
            _ArrowRows(batch, batch.groups()[event], file).raw(event).cast(pa.string())
        ),
    }
    return part.table(schema, lambda field: _in_row_order(batch, by_event[field.name]))


def lines_rows(batch: Batch, schema: pa.Schema, *, file: str | None = None) -> pa.RecordBatch:
    """Return the lines that are not events; ``schema`` has some columns of ``LINES``."""
    rows = batch.groups().get(-1, np.empty(0, np.int64))
    part = _ArrowRows(batch, rows, file)
    return part.table(schema, lambda _: _array(batch.texts(rows), None))


def notes_rows(
    notes: Sequence[Mapping[str, Any]], schema: pa.Schema, *, file: str | None = None
) -> pa.RecordBatch:
    """Return a row per object of schema ``qtctl/1``; ``schema`` has some columns of ``NOTES``."""
    rows = [
        {
            "time_ns": one["time_ns"],
            "type": one["type"],
            "backend": one.get("backend"),
            "count": one.get("count", one.get("changed")),
            "note": json.dumps(one),
            "file": file,
        }
        for one in notes
    ]
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def _note_rows(item: Loss | News, schema: pa.Schema, *, file: str | None = None) -> pa.RecordBatch:
    return notes_rows([to_object(item)], schema, file=file)


GENERAL: dict[str, tuple[pa.Schema, Any, Callable[..., pa.RecordBatch]]] = {
    "events": (EVENTS, Batch, events_rows),
    "lines": (LINES, Batch, lines_rows),
    "notes": (NOTES, Loss | News, _note_rows),
}
"""Schema, type of items and function that converts them, of the tables beside the events'."""


class _ArrowRows:
    """Some rows of a batch, as Arrow arrays."""

    def __init__(self, batch: Batch, rows: Any, file: str | None) -> None:
        self._batch = batch
        self._rows = rows
        self._file = file

    def table(self, schema: pa.Schema, other: Callable[[pa.Field], pa.Array]) -> pa.RecordBatch:
        """Return the columns of ``schema``; ``other`` makes those that are not in ``OWN``."""
        made = [self.own(one.name) if one.name in OWN.names else other(one) for one in schema]
        made = [
            one if one.type == field.type else one.cast(field.type)
            for one, field in zip(made, schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(made, schema=schema)

    def own(self, name: str) -> pa.Array:
        """Return one of the columns of ``OWN``."""
        batch, rows = self._batch, self._rows
        match name:
            case "time_ns":
                return pa.array(batch.time_ns[rows])
            case "time":
                since_boot = ~batch.arrived[rows] if batch.clock is Clock.MONOTONIC else None
                return pa.array(batch.time_ns[rows], pa.timestamp("ns"), mask=since_boot)
            case "clock":
                late = batch.arrived[rows].astype(np.int32)
                return _dictionary(late, (str(batch.clock), str(Clock.ARRIVAL)))
            case "event":
                occurring = [event for event in batch.groups() if event >= 0]
                place = np.zeros(len(batch.names), np.int32)
                place[occurring] = np.arange(len(occurring), dtype=np.int32)
                names = [readable(batch.names[event]) for event in occurring]
                return _dictionary(place[batch.event[rows]], names)
            case "tid":
                tids = batch.tid[rows]
                return pa.array(tids, mask=tids < 0)
            case "pid" | "guest" | "run" | "thread":
                return self._of_origin(name, OWN.field(name).type)
            case "backend":
                events = [*range(len(batch.names)), -1]
                kinds = list(dict.fromkeys(batch.backend_of(event) for event in events))
                if len(kinds) == 1:
                    return self._constant(str(batch.backend), _TEXT)
                place = np.array([kinds.index(batch.backend_of(one)) for one in events], np.int32)
                return _dictionary(place[batch.event[rows]], [str(kind) for kind in kinds])
            case "file" if self._file is None:
                return self._of_origin(name, _TEXT)
            case "file":
                return self._constant(self._file, _TEXT)
        raise AssertionError(name)

    def _of_origin(self, name: str, kind: pa.DataType) -> pa.Array:
        values = [getattr(one, name) for one in self._batch.origins]
        if len(values) == 1:
            return self._constant(values[0], kind)
        shown = [readable(one) if isinstance(one, str) else one for one in values]
        column = pa.array(shown, pa.string() if kind == _TEXT else kind)
        column = column.take(pa.array(self._batch.origin[self._rows]))
        return column.dictionary_encode() if kind == _TEXT else column

    def _constant(self, value: int | str | None, kind: pa.DataType) -> pa.Array:
        size = len(self._rows)
        if value is None:
            return pa.nulls(size, kind)
        if isinstance(value, str):
            return _dictionary(np.zeros(size, np.int32), [readable(value)])
        return pa.array(np.full(size, value, np.int64))

    def argument(self, event: int, argument: Argument | None, kind: pa.DataType) -> pa.Array:
        """Return an argument of all rows of an event; null where it could not be parsed."""
        columns = self._batch.arguments(event)
        column = None if argument is None else columns.values.get(argument.name)
        if column is None:  # declared, but not printed
            return pa.nulls(len(columns), kind)
        return _array(column, None if columns.ok.all() else ~columns.ok).cast(kind)

    def raw(self, event: int) -> pa.Array:
        """Return the text of arguments that could not be parsed, null for the other rows."""
        parsed = self._batch.arguments(event).ok
        if parsed.all():
            return pa.nulls(len(parsed), _TEXT)
        texts = self._batch.raws(self._rows[~parsed])
        codes = np.zeros(len(parsed), np.int32)
        codes[~parsed] = texts.codes
        return _dictionary(codes, list(map(readable, texts.texts)), parsed)


def _array(column: Column, missing: BoolArray | None) -> pa.Array:
    if isinstance(column, StringColumn):
        nulls = column.nulls
        if nulls is not None:
            missing = nulls if missing is None else missing | nulls
        return _dictionary(column.codes, list(map(readable, column.texts)), missing)
    return pa.array(column, mask=missing)


def _dictionary(
    codes: Any, texts: Sequence[str], missing: BoolArray | None = None
) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(
        pa.array(codes, pa.int32(), mask=missing), pa.array(texts, pa.string())
    )


def _in_row_order(batch: Batch, make: Callable[[int], pa.Array]) -> pa.Array:
    """Concatenate the arrays that ``make`` returns for each event, in the row order of a batch."""
    groups = {event: rows for event, rows in batch.groups().items() if event >= 0}
    if not groups:
        return pa.array([], pa.string())
    joined = pa.concat_arrays([make(event) for event in groups])
    order = np.argsort(np.concatenate(list(groups.values())), kind="stable")
    return joined.take(pa.array(order))


def _objects(batch: Batch, event: int) -> pa.Array:
    """Return the arguments of all rows of an event as JSON objects; null if not parsed."""
    columns = batch.arguments(event)
    block = LineBlock(np.arange(len(columns)))
    before = "{"
    for name, column in columns.values.items():
        block.literal(f"{before}{json.dumps(name)}: ")
        block.column(column, _json)
        before = ", "
    block.literal("}" if columns.values else "{}")
    data, bounds = write_texts(block)
    missing = None if columns.ok.all() else pa.array(columns.ok).buffers()[1]
    buffers = pa.py_buffer(bounds), pa.py_buffer(data)
    return pa.StringArray.from_buffers(len(columns), *buffers, missing)


def _json(text: str | None) -> str:
    return "null" if text is None else json.dumps(readable(text))
