"""The verb that writes records for other tools: export."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.commands.context import Context
from qtctl.commands.control import EXCEPT, FILE, PATTERNS
from qtctl.commands.output import new_folder, open_new, whole_or_removed
from qtctl.commands.progress import bytes_progress
from qtctl.commands.registry import arg, command
from qtctl.commands.replay import print_all
from qtctl.commands.values import count, selection
from qtctl.commands.writing import WHERE, Lines, Writer, say_end
from qtctl.errors import QtctlError, UsageError
from qtctl.text.style import escaped

if TYPE_CHECKING:
    from qtctl.records.items import Item
    from qtctl.session.filter import Counts
    from qtctl.session.replay import Replay
    from qtctl.writers.base import Export

_TEXT = ("ndjson", "csv")
_FOLDERS = ("parquet", "ctf")


@command(
    "export",
    arguments=(
        arg(
            "--to",
            metavar="FORMAT",
            required=True,
            choices=(*_TEXT, "perfetto", *_FOLDERS),
            help="ndjson, csv, perfetto (a file), parquet or ctf (a folder)",
        ),
        arg("path", metavar="FILE", type=Path, help="a recording, a trace, or a log"),
        PATTERNS,
        EXCEPT,
        FILE,
        WHERE,
        arg("--max-events", metavar="N", type=count, help="stop after N records"),
        arg("--all", action="store_true", help="also lines of a log that are no trace events"),
        arg(
            "--pair",
            metavar="START:END[:KEY]",
            action="append",
            default=[],
            help="perfetto: a slice from START to the END with the same KEY (arguments, with "
            "commas; learned where it is plain); may be repeated",
        ),
        arg("-o", metavar="OUT", dest="out", type=Path, help="a new file, or a new folder"),
    ),
    examples=(
        "qtctl export --to csv trace-4711 virtio_blk_handle_read > reads.csv",
        "qtctl export --to parquet trace-4711 -o records",
        "qtctl export --to perfetto trace-4711 -o guest.pftrace",
        "qtctl export --to perfetto t1 -o p --pair virtio_blk_handle_read:virtio_blk_req_complete",
        "qtctl export --to ctf trace-4711 'virtio_*' -o ctf && babeltrace2 ctf",
    ),
    details=(
        "ndjson: the objects of replay --ndjson. csv: the same as columns; the arguments of one\n"
        "event have a column each, those of several are JSON in args. parquet: folders guest=,\n"
        "event=, time= for DuckDB, Polars, Spark, Dask. perfetto: for ui.perfetto.dev; X_submit\n"
        "and X_complete and their like are slices, as is each --pair. ctf: CTF 1.8, for\n"
        "babeltrace2 and Trace Compass. Needs no guest. Nothing is overwritten; what was not\n"
        "completed is removed. Exit 1 if part of FILE cannot be read; the rest is written."
    ),
    selects=True,
)
async def export(context: Context, options: argparse.Namespace) -> int:
    """Write a file's records in another format."""
    form, out = options.to, options.out
    if context.json:
        raise UsageError("export writes a stream, not one document", hint="--to ndjson")
    if out is None and form not in _TEXT:
        raise UsageError(f"--to {form} needs a place to write to", hint="-o OUT")
    if options.pair and form != "perfetto":
        raise UsageError(f"--pair makes slices, which --to {form} has not", hint="--to perfetto")
    if form == "parquet":
        from qtctl.records.extra import need_analysis

        need_analysis("Parquet", "pyarrow")
    from qtctl.session.replay import Replay

    trace = await asyncio.to_thread(
        Replay,
        options.path,
        events_all=context.events_all,
        selection=selection(options),
        where=options.where,
        text=options.all,
        limit=options.max_events,
    )
    with contextlib.closing(trace):
        for note in trace.notes:
            context.say(note)
        context.stops = True
        if form in _TEXT:
            await _print(context, trace, form, out)
        else:
            made = _make(trace, form, out, options.pair)
            with whole_or_removed(context, out), contextlib.closing(made):
                await _copy(context, trace, made)
        say_end(context, trace)
    if trace.problem:
        raise QtctlError(trace.problem)
    return 0


async def _print(context: Context, trace: Replay, form: str, path: Path | None) -> None:
    output = context.output(path, context.stop.set)
    writer: Lines = Writer(None)
    if form == "csv":
        writer = _Csv(trace, terminal=path is None and context.out_style.terminal)
    with whole_or_removed(context, path):
        await print_all(context, trace, writer, output)
        output.check()


def _make(trace: Replay, form: str, path: Path, pairs: list[str]) -> Export:
    """Create what is written to; ``path`` must be new."""
    if form == "perfetto":
        from qtctl.writers.perfetto.writer import PerfettoExport, asked_pairs, plain_pairs

        names = frozenset(trace.picked)
        asked = asked_pairs(pairs, trace.table, names)
        plain = plain_pairs(trace.table, names)
        every = {(one.start, one.end): one for one in (*plain, *asked)}
        file = os.fdopen(open_new(path), "wb")
        return PerfettoExport(file, trace.table, list(every.values()))
    new_folder(path)
    if form == "ctf":
        from qtctl.writers.ctf.writer import CtfExport

        return CtfExport(path)
    from qtctl.writers.parquet import ParquetExport

    return ParquetExport(path)


async def _copy(context: Context, trace: Replay, made: Export) -> None:
    """Hand all over, until the end or until told to stop.

    Raises:
        QtctlError: it cannot be written.
    """

    def step() -> bool:
        items = trace.step()
        for item in items or ():
            made.take(item)
        return items is not None

    progress = bytes_progress(context, trace.size)
    try:
        while not context.stop.is_set() and await asyncio.to_thread(step):
            progress.update(trace.taken)
        if not context.stop.is_set():
            await asyncio.to_thread(made.finish)
    except OSError as error:
        raise QtctlError(f"cannot write the export: {error.strerror or error}") from error
    finally:
        progress.clear()


class _Csv:
    """Records as CSV; where only one event is picked its arguments have columns of their own."""

    def __init__(self, trace: Replay, *, terminal: bool) -> None:
        from qtctl.writers.csv import CsvLines

        declared = trace.table.declarations.get(trace.picked[0]) if len(trace.picked) == 1 else None
        self._made = CsvLines([one.name for one in declared.arguments] if declared else [])
        self._begun = False
        self._terminal = terminal

    def lines(self, item: Item, records: int) -> Iterator[str]:
        """Yield the lines of an item, of a batch of its first ``records``."""
        from qtctl.records.batch import Batch
        from qtctl.records.notes import to_object

        yield from self._header()
        if isinstance(item, Batch):
            yield from self._shown(self._made.lines(item.first(records)))
        else:
            yield from self._shown([self._made.note(to_object(item))])

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield the header, should there have been nothing."""
        yield from self._header()

    def _header(self) -> Iterator[str]:
        if not self._begun:
            self._begun = True
            yield from self._shown([self._made.header()])

    def _shown(self, lines: list[str]) -> Iterator[str]:
        return map(escaped, lines) if self._terminal else iter(lines)
