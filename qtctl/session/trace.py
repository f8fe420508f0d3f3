"""The Python API for saved files: frames and batches of records, without a guest or asyncio."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from qtctl.errors import QtctlError
from qtctl.events.selection import Selection
from qtctl.leases.leasing import nothing_matched
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.counts import Counts
from qtctl.records.extra import need_analysis
from qtctl.records.items import Item
from qtctl.session.replay import Replay

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_NULLABLE = {"int32": "Int32", "int64": "Int64", "uint64": "UInt64"}
"""Pandas' types of integers that may be null; it makes them floats otherwise."""


def open(
    path: str | os.PathLike[str],
    *patterns: str | Selection,
    where: str | None = None,
    text: bool = False,
    partial: bool = False,
    events_all: str | os.PathLike[str] | None = None,
) -> Trace:
    """Open a file, or a folder of LTTng, that any verb of qtctl reads; ``-`` is standard input.

    ``patterns``, ``where`` and ``text`` select as those of ``Session.follow``. ``partial``: what
    can be read of a damaged file is enough. ``events_all`` is the path of the
    ``trace-events-all`` of the QEMU that wrote the file, unless the file has declarations.

    Raises:
        UsageError: the file cannot be read, or ``where`` is wrong.
        NothingMatched: the patterns pick no event.
        QtctlError: the file's format is not known.
    """
    return Trace(path, patterns, where, text, partial, events_all)


class Trace:
    """A saved file; :func:`open` makes it. Each call reads the file again, from its beginning.

    ``events`` are the names of the picked events, ``notes`` sentences on how the file is read.
    ``counts`` and ``problem`` (which part could not be read; empty if none) are those of the last
    read that reached the end.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        patterns: tuple[str | Selection, ...],
        where: str | None,
        text: bool,
        partial: bool,
        events_all: str | os.PathLike[str] | None,
    ) -> None:
        self.path = Path(path)
        self._selection = Selection.of(*patterns)
        self._where, self._text, self._partial = where, text, partial
        self._events_all = None if events_all is None else Path(events_all)
        self.counts = Counts()
        self.problem = ""
        with contextlib.closing(self._opened(self._selection, text)) as replay:
            self.events = replay.picked
            self.notes = list(replay.notes)
            self._table = replay.table

    def _opened(self, selection: Selection, text: bool) -> Replay:
        return Replay(
            self.path,
            events_all=self._events_all,
            selection=selection,
            where=self._where,
            text=text,
            again=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: the file is open only while it is read."""

    def __iter__(self) -> Iterator[Item]:
        """Iterate batches, losses and notes, in the order of the file.

        Raises:
            QtctlError: part of the file could not be read (at the end; unless ``partial``).
        """
        return self._items(self._selection, self._text)

    def _items(self, selection: Selection, text: bool) -> Iterator[Item]:
        with contextlib.closing(self._opened(selection, text)) as replay:
            while (items := replay.step()) is not None:
                yield from items
            self.counts, self.problem = replay.counts, replay.problem
        if self.problem and not self._partial:
            raise QtctlError(self.problem, hint="partial=True, for what can be read")

    def batches(self) -> Iterator[Batch]:
        """Iterate the batches; losses are only in ``counts`` then. Raises as iteration."""
        return (item for item in self if isinstance(item, Batch))

    def records(self) -> Iterator[Record]:
        """Iterate single records, which is slow. Raises as iteration."""
        return (record for batch in self.batches() for record in batch.records())

    def arrow_batches(self, table: str = "events") -> Iterator[pa.RecordBatch]:
        """Iterate the rows of a table as Arrow batches, for files larger than memory.

        ``table`` is an event, or ``events`` (all, with the arguments as JSON in ``args``),
        ``lines`` (lines that are no events) or ``notes`` (losses, marks), as in ``qtctl query``.

        Raises:
            NothingMatched: there is no such table.
            Unsupported: pyarrow is missing.
            QtctlError: as iteration.
        """
        need_analysis("Arrow", "pyarrow")
        return self._rows(table)[1]

    def _rows(self, table: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Return the columns of a table, and its rows."""
        from qtctl.records.arrow import GENERAL, event_rows, event_schema

        if table in GENERAL:
            schema, kind, make = GENERAL[table]
        elif table in self.events:
            schema, kind = event_schema(self._table, table), Batch
            make = functools.partial(event_rows, name=table)
        else:
            hint = ", ".join(GENERAL)
            raise nothing_matched(Selection.of(table), list(self.events), str(self.path), hint)
        only = table in self.events and table not in GENERAL and self._where is None
        selection = Selection.of(table) if only else self._selection
        items = self._items(selection, self._text or table == "lines")
        file = str(self.path)
        return schema, (
            make(item, schema=schema, file=file) for item in items if isinstance(item, kind)
        )

    def arrow(self, table: str = "events") -> pa.Table:
        """Return a table (see :meth:`arrow_batches`) as a ``pyarrow.Table``. Raises likewise."""
        need_analysis("Arrow", "pyarrow")
        import pyarrow as pa

        schema, rows = self._rows(table)
        return pa.Table.from_batches(rows, schema).unify_dictionaries()

    def pandas(self, table: str = "events") -> pd.DataFrame:
        """Return a table as a pandas frame: integers are nullable, and exact. Raises likewise."""
        need_analysis("a pandas frame", "pandas", install="pandas")
        import pandas as pd

        def nullable(kind: Any) -> Any:
            return (
                pd.api.types.pandas_dtype(_NULLABLE[str(kind)]) if str(kind) in _NULLABLE else None
            )

        return self.arrow(table).to_pandas(types_mapper=nullable)

    def polars(self, table: str = "events") -> pl.DataFrame:
        """Return a table as a Polars frame. Raises likewise."""
        need_analysis("a Polars frame", "polars", install="polars")
        import polars as pl

        return pl.DataFrame(self.arrow(table))
