"""Write a folder of Parquet files with Hive partitions: ``guest=PID/event=NAME/time=HOUR/``.

DuckDB, Polars, Spark and Dask read the folder as one data set, and an event's folders as one table.
A file has the columns of ``records.arrow`` except those in its folder's name; texts are plain
strings. An unknown guest is 0, as readers cannot infer the type of a partition key of nulls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qtctl.model import Clock
from qtctl.records.arrow import LINES, NOTES, event_rows, event_schema, lines_rows, notes_rows
from qtctl.records.batch import Batch
from qtctl.records.columns import readable
from qtctl.records.items import Item
from qtctl.records.schema import to_object
from qtctl.writers.base import Source

HOUR_NS = 3_600_000_000_000
_PART_ROWS = 1 << 18
_BUFFERED_ROWS = 1 << 21
_OMITTED = ("event", "file")


class _Partition(NamedTuple):
    """Keys and values of a partition."""

    guest: int
    event: str
    time: str


def open_folder(create: Callable[[], Path], source: Source) -> ParquetExport:
    """Return a writer of Parquet files into a folder."""
    return ParquetExport(create())


class ParquetExport:
    """Writes into ``folder``, which exists and is empty; buffers rows until they fill a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._buffered: defaultdict[_Partition, list[Any]] = defaultdict(list)
        self._rows: defaultdict[_Partition, int] = defaultdict(int)
        self._parts: defaultdict[_Partition, int] = defaultdict(int)
        self._monotonic = False
        self._guest = 0

    def write(self, item: Item) -> None:
        """Write the next batch, loss or note."""
        if isinstance(item, Batch):
            self._monotonic = item.clock is Clock.MONOTONIC
            self._guest = item.pid or 0
            for event in item.groups():
                if event < 0:
                    rows, name = lines_rows(item, LINES), "lines"
                else:
                    name = item.names[event]
                    rows = event_rows(item, name, event_schema(item.table, name))
                self._buffer(name, rows)
        else:
            self._buffer("notes", notes_rows([to_object(item)], NOTES))
        if sum(self._rows.values()) >= _BUFFERED_ROWS:
            self.finish()

    def _buffer(self, name: str, rows: Any) -> None:
        hours = rows.column("time_ns").to_numpy() // HOUR_NS
        for hour in np.unique(hours).tolist():
            partition = _Partition(self._guest, name, self._time(hour))
            part = rows.filter(pa.array(hours == hour))
            self._buffered[partition].append(part)
            self._rows[partition] += len(part)
            if self._rows[partition] >= _PART_ROWS:
                self._write_part(partition)

    def _time(self, hour: int) -> str:
        if self._monotonic:
            return f"boot+{hour:04}h"
        return datetime.fromtimestamp(hour * HOUR_NS // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H")

    def _write_part(self, partition: _Partition) -> None:
        table = pa.Table.from_batches(self._buffered.pop(partition))
        del self._rows[partition]
        names = [name for name in table.column_names if name not in _OMITTED]
        table = table.select(names)
        plain = [
            pa.field(one.name, pa.string()) if pa.types.is_dictionary(one.type) else one
            for one in table.schema
        ]
        folder = self._folder
        for key, value in partition._asdict().items():
            folder /= f"{key}={quote(readable(str(value)), safe='+')}"
            folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"part-{self._parts[partition]}.parquet"
        self._parts[partition] += 1
        with path.open("xb") as file:
            pq.write_table(table.cast(pa.schema(plain)), file)

    def finish(self) -> None:
        """Write all buffered rows."""
        for partition in list(self._buffered):
            self._write_part(partition)

    def close(self) -> None:
        """Do nothing: each file is closed when written."""
