"""The verb query: query files in SQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qtctl.commands import values
from qtctl.commands.context import Context, Result
from qtctl.commands.following import check_lost
from qtctl.commands.formatting import lost_words
from qtctl.commands.options import JOBS, OUTPUT, STRICT
from qtctl.commands.output import FILE_S, Output, put
from qtctl.commands.places import Out
from qtctl.commands.progress import bytes_progress
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.replaying import run_stoppable, say_doubts
from qtctl.commands.values import jobs_of
from qtctl.errors import DataLost, QtctlError, UsageError
from qtctl.text.status_line import REDRAW_S
from qtctl.text.style import Style, counted, escaped
from qtctl.text.tables import GrowingTable, pairs
from qtctl.text.values import cell, column_values, csv_text, distinct, hex_cell, json_value

if TYPE_CHECKING:
    from qtctl.query.engine import Query

_T = TypeVar("_T")


@command(
    "query",
    arguments=(
        arg("sql", metavar="SELECT", help="one SELECT, as DuckDB reads it"),
        arg("paths", metavar="FILE", nargs="+", type=Path, help="recordings, traces, logs"),
        arg(
            "--to",
            dest="format",
            choices=("table", "csv", "ndjson", "parquet"),
            default="table",
            help="of the answer (table: aligned on a terminal, else lines with tabs)",
        )._replace(hidden=("--format",)),
        arg(
            "-x",
            "--expanded",
            action="store_true",
            help="a table for each row, of its columns: for rows wider than the terminal",
        ),
        arg(
            "--param",
            metavar="NAME=VALUE",
            type=values.parameter,
            action="append",
            default=[],
            help="the value of $NAME in the SQL (a number, also in hex, or text); may be repeated",
        ),
        JOBS,
        STRICT,
        OUTPUT,
    ),
    examples=(
        "qtctl query 'SELECT event, count(*) FROM events GROUP BY event' trace-4711",
        "qtctl query 'SELECT sector, count(*) n FROM virtio_blk_handle_read GROUP BY 1 "
        "ORDER BY 2' t1 t2",
        "qtctl query 'SHOW TABLES' trace-4711",
        "qtctl query -x 'FROM virtio_queue_notify LIMIT 1' trace-4711",
        "qtctl query 'DESCRIBE virtio_blk_handle_read' trace-4711",
        "qtctl query 'PIVOT events ON event USING count(*) GROUP BY tid' trace-4711",
        "qtctl query 'FROM events WHERE tid = $tid' trace-4711 --param tid=4712",
        "qtctl query 'FROM virtio_queue_notify' trace-4711 --to parquet -o notify.parquet",
    ),
    details=(
        "Every event is a table of its name: time_ns, time (a timestamp in UTC; null if times are\n"
        "since boot), clock, event, tid, pid, guest, run, thread, backend, file, one column an\n"
        "argument, and raw (the text of what could not be read). For all at once there are events\n"
        "(arguments as JSON in args), lines (a log's other lines) and notes (losses, marks). An\n"
        "argument called as one of these columns has an underscore behind it: event_.\n"
        "Numbers in hex go in quotes: addr = '0xb2'. A table of the answer has in hex what QEMU\n"
        "prints so; other formats have numbers.\n"
        "Needs no guest, but the extra: pip install 'qtctl[analysis]'. The SQL reads the files\n"
        "named here, however large, and nothing else. Exit 1 if part of a file cannot be read;\n"
        "the rest is answered."
    ),
)
async def query(context: Context, options: Options) -> Result | int:
    """Run a query and print its rows."""
    if options.format == "parquet" and options.out is None:
        raise UsageError("Parquet is no text for a terminal or a pipe", hint="-o FILE")
    if context.json and (options.out or options.format != "table"):
        raise UsageError("--json is one document on stdout", hint="--to ndjson -o FILE")
    if options.expanded and "format" in options.given and options.format != "table":
        raise UsageError("--expanded is a form of --to table", hint="leave out one of them")
    out = Out(options.out, needs_file="Parquet" if options.format == "parquet" else "")
    from qtctl.records.extra import need_analysis

    need_analysis("query", "pyarrow", "duckdb")
    from qtctl.query.engine import Query

    context.stops = True
    opened = partial(
        Query,
        options.sql,
        options.paths,
        events_all=context.events_all,
        parameters=dict(options.param),
        jobs=jobs_of(options),
    )
    asked = await run_stoppable(context, opened, options.paths)
    with contextlib.closing(asked):
        context.say(*asked.notes)
        answer = _Answer(context, asked, strict=options.strict)
        if context.json:
            return await answer.document()
        return await answer.write("expanded" if options.expanded else options.format, out)


class _Answer:
    """The rows of a query as they come; DuckDB runs in a thread, and is stopped with the verb."""

    def __init__(self, context: Context, asked: Query, *, strict: bool) -> None:
        self._context = context
        self._strict = strict
        self._asked = asked
        self._batches: Iterator[Any] = iter(())
        self._names: Sequence[str] = ()
        self._types: Sequence[Any] = ()
        sizes = [one.size for one in asked.files]
        self._progress = bytes_progress(context, sum(sizes) if all(sizes) else None)

    async def _begin(self) -> None:
        """Start the query."""
        found = await self._wait(self._asked.run)
        if found is not None:
            schema, self._batches = found
            self._names, self._types = distinct(schema.names), schema.types

    async def _next(self) -> Any:
        """Return the next batch of rows, None at the end or when stopped."""
        return await self._wait(lambda: next(self._batches, None))

    async def _wait(self, call: Callable[[], _T]) -> _T | None:
        """Run ``call`` in a thread, with progress; return None when stopped."""
        work = asyncio.ensure_future(asyncio.to_thread(call))
        stopped = asyncio.ensure_future(self._context.stop.wait())
        try:
            while not work.done() and not stopped.done():
                await asyncio.wait({work, stopped}, timeout=REDRAW_S, return_when="FIRST_COMPLETED")
                self._progress.update(sum(one.taken for one in self._asked.files))
            if stopped.done():
                self._asked.stop()
                with contextlib.suppress(QtctlError):
                    await work
                return None
            return work.result()
        finally:
            stopped.cancel()
            self._progress.clear()

    async def document(self) -> Result | int:
        """Return all rows as one document; none when stopped."""
        await self._begin()
        rows: list[dict[str, Any]] = []
        while (batch := await self._next()) is not None:
            rows += _objects(self._names, batch)
        if self._context.stop.is_set():
            return 0
        self._context.shown = True  # the rows are the one document, whatever is wrong with a file
        return Result(rows, lambda _: (), self._finish(len(rows)))

    async def write(self, form: str, out: Out) -> int:
        """Write all rows where ``out`` leads; return the exit code."""
        context = self._context
        await context.await_reader(out)
        await self._begin()
        if context.stop.is_set():
            return 0
        with context.whole_or_removed(out):
            if form == "parquet":
                rows = await self._write_parquet(out)
            else:
                output = context.output(out)
                rows = await self._write_lines(form, context.style_at(out), output)
        return 0 if context.stop.is_set() else self._finish(rows)

    async def _write_parquet(self, out: Out) -> int:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = 0
        with os.fdopen(out.open(), "wb") as file:
            schema = pa.schema(list(map(pa.field, self._names, self._types)))
            try:
                with pq.ParquetWriter(file, schema) as writer:
                    while (batch := await self._next()) is not None:
                        rows += len(batch)
                        columns = batch.rename_columns(self._names)
                        await asyncio.to_thread(writer.write_batch, columns)
            except (OSError, pa.ArrowException) as error:
                raise QtctlError(f"cannot write the answer: {error}") from error
        return rows

    async def _write_lines(self, form: str, style: Style, output: Output) -> int:
        rows, most = 0, output.most_rows
        lines = _AnswerFormatter(form, style, self._names, self._asked.in_hex)
        answer = list[str]()  # where rows are limited
        await output.put(lambda _: lines.begin())
        while (batch := await self._next()) is not None:
            if most is None:
                await put(output, partial(lines.some, batch), self._context.stop)
            elif rows < most:
                answer += lines.some(batch.slice(0, most - rows), 0)
            rows += len(batch)
        if answer:
            await self._context.answer(answer)
        await self._context.finish(output, FILE_S)
        output.check()
        if most is not None and rows > most:
            self._context.say(f"... {rows - most:,} more rows, not drawn; all of them: -o FILE")
        if hidden := lines.hidden:
            self._context.say(f"{counted(hidden, 'column')} did not fit: -x shows all, row by row")
        return rows

    def _finish(self, rows: int) -> int:
        """Print the number of rows, and what of the files is missing; return the exit code."""
        context = self._context
        context.say(counted(rows, "row"))
        traces = [one.whole for one in self._asked.files if one.whole is not None]
        for one in traces:
            say_doubts(context, one)
            if one.counts.lost or one.counts.unknown_losses:
                context.complain(f"{lost_words(one.counts)} records are missing in {one.path}")
        sets = [(one.path, one.counts()) for one in self._asked.files if hasattr(one, "counts")]
        for path, counts in sets:
            if counts.lost or counts.unknown_losses:
                context.complain(f"{lost_words(counts)} records are missing in {path}")
        try:
            if self._strict:
                for found in (*(one.counts for one in traces), *(counts for _, counts in sets)):
                    check_lost(found)
        except DataLost as lost:
            return context.fail(lost)
        problems = [one.problem for one in traces if one.problem]
        return context.fail(QtctlError(problems[0], more=problems[1:])) if problems else 0


class _AnswerFormatter:
    """Formats rows: tables for people, CSV, or JSON lines."""

    def __init__(
        self, form: str, style: Style, names: Sequence[str], in_hex: Collection[str]
    ) -> None:
        self._form = form
        self._style = style
        self._names = names
        # Hex as in `tail`; formats for programs have plain numbers.
        self._cells = [hex_cell if name in in_hex else cell for name in names]
        self._table = GrowingTable(style, names)
        self._rows = 0

    @property
    def hidden(self) -> int:
        """How many columns the terminal had no room for."""
        return self._table.hidden

    def begin(self) -> Iterator[str]:
        """Yield the header of CSV."""
        if self._form == "csv":
            yield self._safe(csv_text([self._names]))

    def some(self, batch: Any, _: int) -> Iterator[str]:
        """Yield the lines of some rows."""
        match self._form:
            case "table":
                cells = [
                    [show(value) for show, value in zip(self._cells, row, strict=True)]
                    for row in _rows(batch)
                ]
                yield from self._table.lines(cells)
            case "expanded":
                for row in _rows(batch):
                    self._rows += 1
                    yield self._style.paint(f"--- row {self._rows} ---", "faint")
                    shown = (show(value) for show, value in zip(self._cells, row, strict=True))
                    yield from pairs(self._style, [*zip(self._names, shown, strict=True)])
            case "csv":
                yield self._safe(csv_text(_rows(batch)))
            case "ndjson":
                yield from map(json.dumps, _objects(self._names, batch))

    def _safe(self, text: str) -> str:
        if not self._style.terminal:
            return text
        return "\n".join(map(escaped, text.split("\n")))


def _rows(batch: Any) -> list[tuple[Any, ...]]:
    return list(zip(*map(column_values, batch.columns), strict=True))


def _objects(names: Sequence[str], batch: Any) -> Iterator[dict[str, Any]]:
    for row in _rows(batch):
        yield dict(zip(names, map(json_value, row), strict=True))
