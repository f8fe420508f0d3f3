"""Run SQL over files of records in DuckDB: one table per event and a few for all events.

DuckDB scans a table for the columns and rows that a query needs. Each scan reads the file again and
yields a batch at a time, so files may be larger than memory. DuckDB spills data beyond its memory
limit into a private folder that is removed at the end.

The SQL has no access to other files, the network, extensions or variables of this program. No
guest is needed.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import duckdb
import pyarrow as pa
import pyarrow.dataset

from qtctl.errors import QtctlError, UsageError
from qtctl.events.selection import Selection
from qtctl.query.data_set import QueriedSet, SetTable, data_set_at
from qtctl.query.errors import convert_error
from qtctl.query.spill import SpillFolder
from qtctl.records.arrow import GENERAL, event_rows, event_schema
from qtctl.records.batch import Batch
from qtctl.records.columns import readable
from qtctl.session.merging import turns_of
from qtctl.session.replay import Replay

MEMORY_LIMIT = "256MB"
_ROWS = 1 << 14
_SETTINGS = (
    f"SET memory_limit = '{MEMORY_LIMIT}'",
    # DuckDB estimates one row for each of our tables, and would choose nested loop joins.
    "SET asof_loop_join_threshold = 0",
    "SET nested_loop_join_threshold = 0",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


_CATALOGS = re.compile(r"show|information_schema|sqlite_master|(duckdb|pg)_\w+")
"""Words of the SQL with which it asks what tables there are."""
_KINDS = (
    duckdb.StatementType.SELECT,  # SHOW and DESCRIBE, too
    duckdb.StatementType.EXPLAIN,
    duckdb.StatementType.MULTI,  # a PIVOT that finds its columns itself
)
_PLAN = pa.schema([("plan", pa.string())])
_BY_EXECUTION = (duckdb.BinderException, duckdb.CatalogException, duckdb.PermissionException)


class _Table(pyarrow.dataset.Dataset):  # type: ignore[misc]
    """A table; DuckDB calls ``scanner`` once for each scan.

    Only a subclass of ``Dataset`` receives the columns and the filter of a scan.
    """

    def __init__(self, schema: pa.Schema, read: Callable[[pa.Schema], Iterator[Any]]) -> None:
        self._columns = schema
        self._read = read

    @classmethod
    def joined(cls, tables: Sequence[_Table]) -> _Table:
        """Return the rows of tables with the same columns as one."""

        def read(schema: pa.Schema) -> Iterator[Any]:
            return chain.from_iterable(one._read(schema) for one in tables)

        return cls(tables[0].schema, read)

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table."""
        return self._columns

    def scanner(
        self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any
    ) -> SimpleNamespace:
        """Return a scan of the rows that match ``filter``, from the beginning of the file.

        It reads in the thread that requests the rows, unlike Arrow's Scanner, which reads ahead in
        a background thread: nothing joins that thread, and a process that exits while it runs
        Python code hangs or aborts.
        """
        names, needed = self._columns.names, self._columns
        if columns is not None:
            names = list(columns)
            # An expression does not list its columns: take every word of its text.
            words = {*names, *re.findall(r"\w+", str(filter))}
            needed = pa.schema([one for one in needed if one.name in words])
        schema = pa.schema([needed.field(name) for name in names])

        def to_reader() -> pa.RecordBatchReader:
            batches = self._read(needed)
            kept = (one if filter is None else one.filter(filter) for one in batches)
            return pa.RecordBatchReader.from_batches(schema, (one.select(names) for one in kept))

        return SimpleNamespace(projected_schema=schema, to_reader=to_reader)


class QueriedFile:
    """One file and its tables; each scan of a table reads the file again.

    ``taken`` of ``size`` bytes are read. ``whole`` is the last scan that has reached the end of the
    file; it is closed.
    """

    def __init__(
        self, path: Path, events_all: Path | None, stop: threading.Event | None, jobs: int = 1
    ) -> None:
        self.path = path
        self.taken = 0
        self.whole: Replay | None = None
        ahead = turns_of(jobs)
        self._open = partial(
            Replay, path, events_all=events_all, again=True, stop=stop, ahead=ahead
        )
        with contextlib.closing(self._open(selection=Selection())) as trace:
            self.notes = trace.notes
            self.names = trace.picked
            self.in_hex = trace.hex_arguments()
            self._events = trace.table
            self.size = trace.size
        self.stopped = False
        self.error: QtctlError | None = None

    def general(self, name: str) -> _Table:
        """Return one of ``GENERAL``."""
        schema, kind, make = GENERAL[name]
        return _Table(schema, partial(self._rows, kind, make, Selection(), name == "lines"))

    def event(self, name: str) -> _Table:
        """Return the table of one of ``names``."""
        make = partial(event_rows, name=name)
        schema = event_schema(self._events, name)
        return _Table(schema, partial(self._rows, Batch, make, Selection.of(name), False))

    def _rows(
        self, kind: Any, make: Callable[..., Any], selection: Selection, text: bool, schema: Any
    ) -> Iterator[Any]:
        try:
            with contextlib.closing(self._open(selection=selection, text=text)) as trace:
                while not self.stopped and (items := trace.step()) is not None:
                    self.taken = trace.taken
                    for item in items:
                        if isinstance(item, kind):
                            yield make(item, schema=schema, file=str(self.path))
                if not self.stopped:
                    self.whole = trace
        except QtctlError as error:
            self.error = error  # DuckDB keeps the text only
            raise


def _queried(
    path: Path, events_all: Path | None, stop: threading.Event | None, jobs: int
) -> QueriedFile | QueriedSet:
    """Open a file, or a data set."""
    place = data_set_at(path)
    return QueriedFile(path, events_all, stop, jobs) if place is None else QueriedSet(place)


class Query:
    """One SELECT over files; call :meth:`run` once, then :meth:`close`.

    SHOW, DESCRIBE, SUMMARIZE, PIVOT and EXPLAIN are also run. ``parameters`` are the values of
    ``$NAME`` in the SQL. Pipes end when ``stop`` is set. ``jobs``: as of ``open_reading``.
    ``notes`` are messages on how the files are read (their detected formats). ``in_hex`` are the
    arguments that QEMU prints in hex, of the tables that the SQL names.

    Raises:
        UsageError: the SQL has a syntax error or is not one SELECT, or a file cannot be opened.
        QtctlError: a file has an unknown format.
    """

    def __init__(
        self,
        sql: str,
        paths: Sequence[Path],
        *,
        events_all: Path | None,
        parameters: Mapping[str, int | str] | None = None,
        stop: threading.Event | None = None,
        jobs: int = 1,
    ) -> None:
        self._sql = sql
        self._parameters = dict(parameters or {}) or None
        self._explains = False
        self.files = [_queried(path, events_all, stop, jobs) for path in paths]
        self.in_hex: set[str] = set()
        self.notes = list(dict.fromkeys(note for file in self.files for note in file.notes))
        self._tables = _table_names(chain.from_iterable(file.names for file in self.files))
        self._spill = SpillFolder()
        config: dict[str, str | bool | int | float | list[str]] = {
            "temp_directory": str(self._spill.path),
            "errors_as_json": "true",
        }
        self._connection = duckdb.connect(config=config)
        try:
            self._check()
            self._register()
            for setting in _SETTINGS:
                self._connection.execute(setting)
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        try:
            found = self._connection.extract_statements(self._sql)
        except duckdb.Error as error:
            self._fail(error)
        kinds = [statement.type for statement in found]
        if len(kinds) != 1 or kinds[0] not in _KINDS:
            what = "several statements" if len(kinds) > 1 else "no statement that reads"
            raise UsageError(
                f"a query is one SELECT, and this is {what if kinds else 'empty'}",
                hint="'SELECT event, count(*) FROM events GROUP BY event'",
            )
        self._explains = kinds[0] == duckdb.StatementType.EXPLAIN
        wanted, given = found[0].named_parameters, set(self._parameters or ())
        if missing := sorted(wanted - given):
            raise UsageError(
                f"no value is given for ${missing[0]}", hint=f"--param {missing[0]}=VALUE"
            )
        if kinds[0] != duckdb.StatementType.MULTI and (unused := sorted(given - wanted)):
            raise UsageError(f"the query has no ${unused[0]}", hint="$NAME in the SQL")

    def _register(self) -> None:
        """Register the tables whose names are words of the SQL; all, if it asks which there are."""
        sql = self._sql.casefold()
        words = set(re.findall(r"\w+", sql))
        listed = words == {"describe"} or any(map(_CATALOGS.fullmatch, words))

        def wanted(table: str) -> bool:
            return listed or table.casefold() in words or _quoted(table).casefold() in sql

        tables: dict[str, dict[pa.Schema, list[Any]]] = {}
        for file in self.files:
            found: dict[str, _Table | SetTable]
            found = {name: file.general(name) for name in GENERAL if wanted(name)}
            for name in file.names:
                if wanted(self._tables[name]):
                    found[self._tables[name]] = file.event(name)
                    self.in_hex |= file.in_hex.get(name, frozenset())
            for name, table in found.items():
                tables.setdefault(name, {}).setdefault(table.schema, []).append(table)
        self._connection.begin()  # for all at once: it is quicker
        for name, alike in tables.items():
            parts = []
            groups = [g for group in alike.values() for g in _apart(group)]
            for number, group in enumerate(groups):
                part = name if len(groups) == 1 else f"{name} {number}"
                self._connection.register(
                    part, group[0] if len(group) == 1 else _Table.joined(group)
                )
                parts.append(f"SELECT * FROM {_quoted(part)}")
            if len(parts) > 1:
                union = " UNION ALL BY NAME ".join(parts)
                self._connection.execute(f"CREATE TEMP VIEW {_quoted(name)} AS {union}")
        self._connection.commit()

    def run(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Start the query and return its columns and an iterator over batches of its rows.

        Blocks until the first rows are ready; the iterator blocks and raises likewise.

        Raises:
            UsageError: a table, column or function does not exist, or a value has the wrong type.
            QtctlError: a file cannot be read, or memory or disk is exhausted.
        """
        try:
            found = self._connection.sql(self._sql, params=self._parameters)
            reader = found.to_arrow_reader(_ROWS)
        except duckdb.Error as error:
            self._fail(self._reported(error))
        if self._explains:
            return _PLAN, map(_plan_rows, self._batches(reader))
        return reader.schema, self._batches(reader)

    def _batches(self, reader: Any) -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            self._fail(error)

    def _reported(self, error: duckdb.Error) -> duckdb.Error:
        """Return the error as JSON, which DuckDB makes of a wrong name only on execution."""
        try:
            if isinstance(error, _BY_EXECUTION):
                self._connection.execute(self._sql, self._parameters)
        except duckdb.Error as reported:
            return reported
        return error

    def _fail(self, error: Exception) -> NoReturn:
        """Raise an error of DuckDB's, or the one of a file that caused it, as a QtctlError."""
        for file in self.files:
            if file.error is not None:
                raise file.error from error
        names = [*GENERAL, *self._tables.values()]
        raise convert_error(error, self._sql, names) from error

    def stop(self) -> None:
        """Interrupt the query, from any thread: its iterator ends or raises."""
        for file in self.files:
            file.stopped = True
        self._connection.interrupt()

    def close(self) -> None:
        """Close the database and remove the spill folder."""
        self._connection.close()
        self._spill.close()


def _apart(tables: list[Any]) -> list[list[Any]]:
    """Return the tables of files as one group, and each of a data set as its own."""
    files = [one for one in tables if isinstance(one, _Table)]
    sets = [[one] for one in tables if not isinstance(one, _Table)]
    return [files, *sets] if files else sets


def _plan_rows(explained: pa.RecordBatch) -> pa.RecordBatch:
    """Return the lines of a plan as rows."""
    texts = explained.column(1).to_pylist()
    return pa.RecordBatch.from_pydict(
        {"plan": [line for text in texts for line in text.splitlines()]}, schema=_PLAN
    )


def _table_names(events: Iterable[str]) -> dict[str, str]:
    """Map events to names of tables, which are UTF-8 and unique whatever their case."""
    taken, found = set(GENERAL), {}
    for event in dict.fromkeys(events):
        table = readable(event).replace("\0", "\\x00") or "_"
        while table.casefold() in taken:
            table += "_"
        taken.add(table.casefold())
        found[event] = table
    return found


def _quoted(name: str) -> str:
    """Return a name as SQL spells it."""
    return '"' + name.replace('"', '""') + '"'
