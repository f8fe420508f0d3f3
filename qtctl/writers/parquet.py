"""Write a folder of Parquet files with Hive partitions, for DuckDB, Polars, pandas, Spark and Dask.

``parquet`` is one data set: ``guest=PID/event=NAME/time=HOUR/part-N.parquet``. All files have the
schema ``WHOLE``, whatever events they hold: readers that take the schema of one file for all (Spark
4.3, pandas 3.1 and DuckDB 2.0 do) miss no column.

Columns that are in the folders' names are not in the files; texts are plain strings. An unknown
guest is 0, as readers cannot infer the type of a partition key of nulls.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qtctl.model import Clock
from qtctl.records.arrow import (
    EVENTS,
    LINES,
    NOTES,
    lines_rows,
    notes_rows,
    object_rows,
)
from qtctl.records.batch import Batch, joined, kind_of
from qtctl.records.columns import readable
from qtctl.records.items import Item
from qtctl.records.schema import to_object
from qtctl.writers.base import Source

HOUR_NS = 3_600_000_000_000
_LONGEST_BOOT_HOURS = 20 * 365 * 24
_PART_ROWS = 1 << 18
_WAITING_BYTES = 1 << 23
"""So many bytes of batches are converted at once."""
_BUFFERED_BYTES = 64 << 20
_LONGEST_NAME = 255
"""Of a folder, in bytes (limits.h)."""
_CUT_NAME = 200
_OMITTED = ("event", "time")
_DISTINCT = ("time_ns",)
"""Columns whose values hardly repeat, for which a dictionary would be made in vain."""
_RENAMED = {"guest": "guest_name"}
"""Columns that would have the name of a partition key."""


def plain(schema: pa.Schema) -> pa.Schema:
    """Return the columns that a file has, without dictionaries."""
    return pa.schema(
        pa.field(
            _RENAMED.get(one.name, one.name),
            pa.string() if pa.types.is_dictionary(one.type) else one.type,
        )
        for one in schema
        if one.name not in _OMITTED
    )


_ROWS = pa.schema(one for one in EVENTS if one.name not in _OMITTED)
WHOLE = plain(_ROWS)
"""Columns of every file of ``parquet``: ``args`` is a JSON object, ``raw`` what could not be read.

Of a line of text, ``raw`` is the line; of a note, ``args`` is its object.
"""


class _Partition(NamedTuple):
    """Keys and values of a partition."""

    guest: int
    event: str
    time: str


def open_folder(create: Callable[[], Path], source: Source) -> ParquetExport:
    """Return a writer of one data set."""
    return ParquetExport(create())


def folder_name(key: str, value: str) -> str:
    """Return the name of a partition's folder; a value that is too long ends with its hash."""
    written = f"{key}={quote(value, safe='+')}"
    if len(written) <= _LONGEST_NAME:
        return written
    digest = hashlib.sha256(value.encode()).hexdigest()[:16]
    return f"{re.sub('%.?$', '', written[:_CUT_NAME])}~{digest}"


def event_folder(event: str) -> str:
    """Return the value of the key ``event``; one that another table has gets an underscore."""
    return event + "_" * (event.rstrip("_") in ("lines", "notes"))


def hour_words(hour: int, *, since_boot: bool) -> str:
    """Return the hour of a partition; ``since_boot``: times may be since the host was booted."""
    # Marks, and records with a time of arrival, have Unix time beside records that have not.
    if since_boot and hour < _LONGEST_BOOT_HOURS:
        return f"boot+{hour:04}h"
    return datetime.fromtimestamp(hour * HOUR_NS // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H")


class ParquetExport:
    """Writes into ``folder``, which exists and is empty; buffers rows until they fill a file."""

    keys: Sequence[str] = _Partition._fields

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[Batch] = []
        self._buffered: defaultdict[_Partition, list[Any]] = defaultdict(list)
        self._rows: defaultdict[_Partition, int] = defaultdict(int)
        self._bytes: defaultdict[_Partition, int] = defaultdict(int)
        self._parts: defaultdict[_Partition, int] = defaultdict(int)
        self._monotonic = False
        self._guest = 0

    def write(self, item: Item) -> None:
        """Write the next batch, loss or note."""
        if not isinstance(item, Batch):
            self._convert()
            self._buffer("notes", self.notes(to_object(item)))
            return
        if self._waiting and kind_of(item) != kind_of(self._waiting[0]):
            self._convert()
        self._waiting.append(item)
        if sum(len(batch.data) for batch in self._waiting) >= _WAITING_BYTES:
            self._convert()

    def _convert(self) -> None:
        """Convert the batches that wait, and write the largest parts if too much is buffered."""
        batches, self._waiting = self._waiting, []
        if batches:
            whole = joined(batches)
            self._monotonic = whole.clock is Clock.MONOTONIC
            for origin, batch in whole.by_process():
                self._guest = origin.pid or 0
                self._write(batch)
        if sum(self._bytes.values()) >= _BUFFERED_BYTES:
            while sum(self._bytes.values()) > _BUFFERED_BYTES // 2:
                self._write_part(max(self._bytes, key=self._bytes.__getitem__))

    def _write(self, batch: Batch) -> None:
        """Buffer the rows of one process."""
        for event in batch.groups():
            if event < 0:
                self._buffer("lines", self.lines(batch))
            else:
                self._buffer(event_folder(batch.names[event]), self.events(batch, event))

    def events(self, batch: Batch, event: int) -> Any:
        """Return the rows of an event."""
        return object_rows(batch, event, _ROWS)

    def lines(self, batch: Batch) -> Any:
        """Return the rows of lines that are no events."""
        rows = lines_rows(batch, LINES)
        return fitted(rows, _ROWS, {"raw": rows.column("line")})

    def notes(self, note: Mapping[str, Any]) -> Any:
        """Return the row of a note."""
        rows = notes_rows([note], NOTES)
        return fitted(rows, _ROWS, {"args": rows.column("note")})

    def _buffer(self, name: str, rows: Any) -> None:
        times = rows.column("time_ns").to_numpy()
        first, last = int(times.min()) // HOUR_NS, int(times.max()) // HOUR_NS
        hours = None if first == last else times // HOUR_NS
        for hour in [first] if hours is None else np.unique(hours).tolist():
            partition = _Partition(self._guest, name, hour_words(hour, since_boot=self._monotonic))
            part = rows if hours is None else rows.filter(pa.array(hours == hour))
            self._buffered[partition].append(part)
            self._rows[partition] += len(part)
            self._bytes[partition] += part.nbytes
            if self._rows[partition] >= _PART_ROWS:
                self._write_part(partition)

    def _write_part(self, partition: _Partition) -> None:
        table = pa.Table.from_batches(self._buffered.pop(partition))
        del self._rows[partition], self._bytes[partition]
        table = table.drop_columns([n for n in table.column_names if n in _OMITTED])
        schema = plain(table.schema)
        folder = self._folder
        for key in self.keys:
            folder /= folder_name(key, readable(str(getattr(partition, key))))
            folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"part-{self._parts[partition]}.parquet"
        self._parts[partition] += 1
        with path.open("xb") as file:
            # Texts are written from their dictionaries, and read as texts: no schema of Arrow's is
            # stored. Times hardly repeat.
            texts = [one.name for one in schema if one.name not in _DISTINCT]
            table = table.rename_columns(schema.names)
            pq.write_table(table, file, use_dictionary=texts, store_schema=False)

    def finish(self) -> None:
        """Write all buffered rows."""
        self._convert()
        for partition in list(self._buffered):
            self._write_part(partition)

    def close(self) -> None:
        """Do nothing: each file is closed when written."""


def fitted(rows: Any, schema: pa.Schema, more: dict[str, Any]) -> Any:
    """Return rows with the columns of ``schema``; null where they have no such column."""
    columns = {**dict(zip(rows.schema.names, rows.columns, strict=True)), **more}
    return pa.RecordBatch.from_arrays(
        [
            columns[field.name].cast(field.type)
            if field.name in columns
            else pa.nulls(len(rows), field.type)
            for field in schema
        ],
        schema=schema,
    )
