"""SQL over files of records, by DuckDB: a table for each event, and a few for all. Needs no guest.

DuckDB asks a table for the columns and rows that a query needs; the table reads its file anew for
that and hands over a batch at a time, so files may be larger than memory. What DuckDB itself has to
keep beyond its memory limit, it keeps in a private folder that is removed at the end.

The SQL reaches nothing else: no file, no network, no extension, no variable of this program.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pyarrow as pa
import pyarrow.dataset

from qtctl.errors import QtctlError, UsageError
from qtctl.events.patterns import Selection
from qtctl.model import News
from qtctl.query.errors import convert_error
from qtctl.query.spill import SpillFolder
from qtctl.records.arrow import (
    EVENTS,
    LINES,
    NOTES,
    event_rows,
    event_schema,
    events_rows,
    lines_rows,
    notes_rows,
)
from qtctl.records.batch import Batch
from qtctl.records.counts import Counts
from qtctl.records.items import Loss
from qtctl.records.notes import to_object
from qtctl.session.replay import Replay

__all__ = ["GENERAL", "MEMORY_LIMIT", "Query", "Reading", "Rows"]

GENERAL = ("events", "lines", "notes")
"""Tables that are there beside those of the events."""
MEMORY_LIMIT = "256MB"
_ROWS = 1 << 14
_SETTINGS = (
    f"SET memory_limit = '{MEMORY_LIMIT}'",
    # DuckDB takes a table of ours for a row long: it would join with loops in loops.
    "SET asof_loop_join_threshold = 0",
    "SET nested_loop_join_threshold = 0",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
_BY_EXECUTION = (duckdb.BinderException, duckdb.CatalogException, duckdb.PermissionException)


@dataclass(slots=True)
class Reading:
    """What is known of one file: how far it is read, and once it was read to its end, its sums."""

    path: Path
    size: int
    taken: int = 0
    counts: Counts | None = None
    problem: str = ""
    remark: str = ""


class _Table(pyarrow.dataset.Dataset):  # type: ignore[misc]
    """What DuckDB sees of one table in one file: it calls ``scanner``, once for each reading.

    A subclass is how a source of one's own is told which columns and rows are needed.
    """

    def __init__(self, schema: pa.Schema, read: Callable[[pa.Schema], Iterator[Any]]) -> None:
        self._columns = schema
        self._read = read

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table."""
        return self._columns

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any) -> _Pass:
        """Read the table from its begin, without the rows that ``filter`` does not hold for."""
        needed = self._columns
        if columns is not None:
            # An expression does not tell its columns; every name that its text holds will do.
            words = {*columns, *re.findall(r"\w+", str(filter))}
            needed = pa.schema([one for one in needed if one.name in words])
        return _Pass(self._read(needed), needed, columns, filter)


class _Pass:
    """One reading of a table, in the thread that asks for the rows.

    Stands in for a scanner of Arrow's, which would read ahead in a thread of its own: nobody ends
    that thread, and a process that ends while it runs Python hangs or aborts.
    """

    def __init__(
        self, batches: Iterator[Any], schema: Any, columns: Sequence[str] | None, filter: Any
    ) -> None:
        self._batches = batches
        self._columns = schema.names if columns is None else list(columns)
        self._filter = filter
        self.projected_schema = pa.schema([schema.field(name) for name in self._columns])

    def to_reader(self) -> Any:
        """Return the rows as they are asked for."""
        return pa.RecordBatchReader.from_batches(self.projected_schema, self._chosen())

    def _chosen(self) -> Iterator[Any]:
        for batch in self._batches:
            kept = batch if self._filter is None else batch.filter(self._filter)
            yield kept.select(self._columns)


class _Source:
    """One file and its tables; every reading of a table is a pass of its own over the file."""

    def __init__(self, path: Path, events_all: Path | None) -> None:
        self._open = partial(Replay, path, events_all=events_all)
        self._label = str(path)
        with contextlib.closing(self._open(selection=Selection())) as trace:
            self.notes = trace.notes
            self.names = trace.picked
            self.in_hex = trace.hex_arguments()
            self._events = trace.table
            self.reading = Reading(path, trace.size)
        self.stopped = False
        self.error: QtctlError | None = None

    def table(self, name: str) -> _Table:
        """Return one of :data:`GENERAL`, or the table of one of ``names``."""
        every = Selection()
        if name == "events":
            return _Table(EVENTS, partial(self._rows, Batch, events_rows, every, False))
        if name == "lines":
            return _Table(LINES, partial(self._rows, Batch, lines_rows, every, True))
        if name == "notes":
            return _Table(NOTES, partial(self._rows, Loss | News, _noted, every, False))
        make = partial(event_rows, name=name)
        schema = event_schema(self._events, name)
        return _Table(schema, partial(self._rows, Batch, make, Selection.of(name), False))

    def _rows(
        self, kind: Any, make: Callable[..., Any], selection: Selection, text: bool, schema: Any
    ) -> Iterator[Any]:
        reading = self.reading
        try:
            with contextlib.closing(self._open(selection=selection, text=text)) as trace:
                while not self.stopped and (items := trace.step()) is not None:
                    reading.taken = trace.taken
                    for item in items:
                        if isinstance(item, kind):
                            yield make(item, schema=schema, file=self._label)
                if not self.stopped:
                    reading.counts, reading.problem = trace.counts, trace.problem
                    reading.remark = trace.remark
        except QtctlError as error:
            self.error = error  # DuckDB would pass on its text only
            raise


def _noted(item: Loss | News, schema: pa.Schema, file: str) -> Any:
    return notes_rows([to_object(item)], schema, file=file)


@dataclass(frozen=True, slots=True)
class Rows:
    """An answer: its columns, and its rows as they come."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


class Query:
    """One SELECT over files, checked; :meth:`run` it once, and :meth:`close` it.

    ``notes`` tell people what the files were taken for, ``in_hex`` which arguments of the tables
    that the SQL names QEMU prints in hex.

    Raises:
        UsageError: the SQL is none, is not one SELECT, or a file cannot be read.
        QtctlError: a file is not of a kind that is read here.
    """

    def __init__(self, sql: str, paths: Sequence[Path], *, events_all: Path | None) -> None:
        self._sql = sql
        self._sources = [_Source(path, events_all) for path in paths]
        self.readings = [source.reading for source in self._sources]
        self.in_hex: set[str] = set()
        self.notes = list(dict.fromkeys(note for one in self._sources for note in one.notes))
        self._spill = SpillFolder()
        config = {"temp_directory": str(self._spill.path), "errors_as_json": "true"}
        self._link = duckdb.connect(config=config)
        try:
            self._check()
            self._register()
            for setting in _SETTINGS:
                self._link.execute(setting)
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        try:
            found = self._link.extract_statements(self._sql)
        except duckdb.Error as error:
            self._fail(error)
        kinds = [statement.type for statement in found]
        if kinds != [duckdb.StatementType.SELECT]:
            what = "several statements" if len(kinds) > 1 else "no statement that reads"
            raise UsageError(
                f"a query is one SELECT, and this is {what if kinds else 'empty'}",
                hint="'SELECT event, count(*) FROM events GROUP BY event'",
            )

    def _register(self) -> None:
        """Make the tables that the SQL may mean: those whose names are words of it."""
        words = set(re.findall(r"\w+", self._sql.casefold()))
        places: dict[str, list[_Source]] = {}
        for source in self._sources:
            for name in (*GENERAL, *source.names):
                if name.casefold() in words:
                    places.setdefault(name, []).append(source)
                    self.in_hex |= source.in_hex.get(name, frozenset())
        for name, sources in places.items():
            parts = []
            for number, source in enumerate(sources):
                part = name if len(sources) == 1 else f"{name} {number}"
                self._link.register(part, source.table(name))
                parts.append(f'SELECT * FROM "{part}"')
            if len(parts) > 1:
                union = " UNION ALL BY NAME ".join(parts)
                self._link.execute(f'CREATE TEMP VIEW "{name}" AS {union}')

    def run(self) -> Rows:
        """Start it; blocks until the first rows are there, as the iterator does for more.

        Raises:
            UsageError: a table, column or function that is not there, or values that do not fit.
            QtctlError: a file, memory or disk failed.
        """
        try:
            answer = self._link.sql(self._sql)
            reader = answer.to_arrow_reader(_ROWS)
        except duckdb.Error as error:
            self._fail(self._reported(error))
        return Rows(reader.schema, self._batches(reader))

    def _batches(self, reader: Any) -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            self._fail(error)

    def _reported(self, error: duckdb.Error) -> duckdb.Error:
        """Return the error as JSON, which DuckDB makes of a wrong name only on execution."""
        try:
            if isinstance(error, _BY_EXECUTION):
                self._link.execute(self._sql)
        except duckdb.Error as reported:
            return reported
        return error

    def _fail(self, error: Exception) -> NoReturn:
        """Raise an error of DuckDB's, or the one of a file that caused it, as a QtctlError."""
        for source in self._sources:
            if source.error is not None:
                raise source.error from error
        names = [*GENERAL, *(name for source in self._sources for name in source.names)]
        raise convert_error(error, self._sql, names) from error

    def stop(self) -> None:
        """End it early; what waits for its rows sees an error or their end. From any thread."""
        for source in self._sources:
            source.stopped = True
        self._link.interrupt()

    def close(self) -> None:
        """Forget everything and remove what was spilled."""
        self._link.close()
        self._spill.close()
