"""Write Parquet files with a typed column for each argument: a data set for each event.

``event=NAME/guest=PID/time=HOUR/part-N.parquet`` has the columns of ``records.arrow``. As the
folders of events have different columns, the file ``_GUARD``, which is not Parquet, makes every
reader of all folders together fail: some would show the columns of one event for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qtctl.records.arrow import LINES, NOTES, event_rows, event_schema, lines_rows, notes_rows
from qtctl.records.batch import Batch
from qtctl.writers.base import Source
from qtctl.writers.parquet import ParquetExport

_GUARD = "READ-ONE-EVENT-FOLDER.parquet"
_GUARD_TEXT = b"The folders beside this file have different columns: read one of them at a time.\n"


def open_folder(create: Callable[[], Path], source: Source) -> TypedParquetExport:
    """Return a writer of a data set for each event."""
    return TypedParquetExport(create())


class TypedParquetExport(ParquetExport):
    """Writes the tables of ``records.arrow``."""

    keys = ("event", "guest", "time")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / _GUARD).write_bytes(_GUARD_TEXT)

    def events(self, batch: Batch, event: int) -> Any:
        """Return the rows of an event."""
        name = batch.names[event]
        return event_rows(batch, name, event_schema(batch.table, name))

    def lines(self, batch: Batch) -> Any:
        """Return the rows of lines that are no events."""
        return lines_rows(batch, LINES)

    def notes(self, note: Mapping[str, Any]) -> Any:
        """Return the row of a note."""
        return notes_rows([note], NOTES)
