"""The verb export: write the records of a file for other tools."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtctl.commands.context import Context
from qtctl.commands.following import until_stopped
from qtctl.commands.options import (
    ALL,
    JOBS,
    MAX_EVENTS,
    OUTPUT,
    PAIR,
    SELECTION,
    STRICT,
    TRACE,
    WHERE,
)
from qtctl.commands.places import Out
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.replaying import check_read, print_all, read_through, replay_of, say_end
from qtctl.errors import QtctlError, UsageError
from qtctl.text.style import escaped
from qtctl.writers.table import FORMATS, Format

if TYPE_CHECKING:
    from qtctl.records.counts import Counts
    from qtctl.records.items import Item
    from qtctl.session.merging import Reading
    from qtctl.writers.base import Export, LineExport, Source

_WIDTH = 78


def _formats(makes: str) -> str:
    return ", ".join(row.name for row in FORMATS.values() if row.makes == makes)


def _details() -> str:
    summaries = ". ".join(f"{row.name}: {row.summary}" for row in FORMATS.values())
    text = (
        f"{summaries}. Needs no guest. Nothing is overwritten; an export that was not completed is "
        "removed. Exit 1 if part of FILE cannot be read; the rest is written."
    )
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


@command(
    "export",
    arguments=(
        arg(
            "--to",
            metavar="FORMAT",
            required=True,
            choices=tuple(FORMATS),
            help=f"{_formats('lines')} (lines), {_formats('file')} (a file), "
            f"{_formats('folder')} (a folder), {_formats('endpoint')} (sent to ENDPOINT, which "
            "stands before FILE)",
        ),
        TRACE,
        *SELECTION,
        WHERE,
        MAX_EVENTS,
        ALL,
        JOBS,
        STRICT,
        PAIR.but(
            help="perfetto, otlp: a slice (a span) from START to the END with the same KEY "
            "(arguments, with commas; learned where it is plain); may be repeated"
        ),
        OUTPUT.but(metavar="OUT", help="a new file, or a new folder"),
    ),
    examples=(
        "qtctl export --to csv trace-4711 virtio_blk_handle_read > reads.csv",
        "qtctl export --to parquet trace-4711 -o records",
        "qtctl export --to perfetto trace-4711 -o guest.pftrace",
        "qtctl export --to perfetto t1 -o p --pair virtio_blk_handle_read,virtio_blk_req_complete",
        "qtctl export --to ctf trace-4711 'virtio_*' -o ctf && babeltrace2 ctf",
        "qtctl export --to otlp http://collector:4318 trace-4711",
    ),
    details=_details(),
    selects=True,
)
async def export(context: Context, options: Options) -> int:
    """Write a file's records in another format."""
    form = FORMATS[options.to]
    if context.json:
        raise UsageError("export writes a stream, not one document", hint="--to ndjson")
    endpoint = _endpoint(options) if form.makes == "endpoint" else ""
    if options.out is None and form.makes in ("file", "folder"):
        raise UsageError(f"--to {form.name} needs a place to write to", hint="-o OUT")
    if options.pair and not form.pairs:
        able = next(row.name for row in FORMATS.values() if row.pairs)
        raise UsageError(
            f"--pair makes slices, which --to {form.name} has not", hint=f"--to {able}"
        )
    from qtctl.records.extra import need_analysis
    from qtctl.writers.base import Source

    need_analysis(f"--to {form.name}", *form.needs, install=f"'qtctl[{form.extra}]'")
    out = Out(options.out, needs_folder=f"--to {form.name}" if form.makes == "folder" else "")
    if form.makes == "file" and out.is_stdout and sys.stdout.isatty():
        raise UsageError(
            f"--to {form.name} writes no text for a terminal", hint="-o FILE, or a pipe"
        )
    replay = await replay_of(context, options)
    with contextlib.closing(replay):
        await context.await_reader(out)
        context.stops = True
        source = Source(replay.table, replay.picked, options.pair)
        if form.makes == "lines":
            formatter: LineExport = form.load().open_lines(source)
            if context.style_at(out).terminal:
                formatter = _Escaped(formatter)
            with context.whole_or_removed(out):
                output = context.output(out)
                await print_all(context, replay, formatter, output, out)
                output.check()
        else:
            await _write(context, replay, form, source, out, endpoint)
        say_end(context, replay)
    check_read(replay, strict=options.strict)
    return 0


def _endpoint(options: Options) -> str:
    """Take the ENDPOINT, the first word, from the words of a call."""
    if options.out is not None:
        raise UsageError(f"--to {options.to} sends, and writes no -o", hint="ENDPOINT before FILE")
    if not options.patterns:
        raise UsageError(
            f"--to {options.to} needs an ENDPOINT and a FILE",
            hint=f"qtctl export --to {options.to} http://127.0.0.1:4318 FILE",
        )
    endpoint, options.path = str(options.path), Path(options.patterns.pop(0))
    return endpoint


async def _write(
    context: Context, replay: Reading, form: Format, source: Source, out: Out, endpoint: str
) -> None:
    opened: Callable[[], Export]
    if form.makes == "endpoint":
        await _send(context, replay, partial(form.load().open_endpoint, endpoint, source))
        return
    if form.makes == "file":
        opened = partial(form.load().open_file, partial(out.open_binary, context.stop), source)
    else:
        opened = partial(form.load().open_folder, out.create_folder, source)
    try:
        with context.whole_or_removed(out), contextlib.closing(opened()) as made:
            await read_through(context, replay, made.write)
            if not context.stop.is_set():
                await asyncio.to_thread(made.finish)
    except BrokenPipeError:
        pass  # the reader left
    except OSError as error:
        raise QtctlError(f"cannot write the export: {error.strerror or error}") from error


async def _send(context: Context, replay: Reading, opened: Callable[[], Any]) -> None:
    """Send a file to a receiver; what it does not take is an error."""
    with contextlib.closing(await asyncio.to_thread(opened)) as made:
        async with until_stopped(context.stop, None, made.stop):
            await read_through(context, replay, made.write)
            await asyncio.to_thread(made.finish)
        if made.timeless:
            context.complain(f"{made.timeless} pairs made no span: their times are since boot")


class _Escaped:
    """Escapes lines for a terminal."""

    def __init__(self, lines: LineExport) -> None:
        self._lines = lines

    def lines(self, item: Item, records: int) -> Iterable[str]:
        return map(escaped, self._lines.lines(item, records))

    def ended(self, counts: Counts) -> Iterator[str]:
        return map(escaped, self._lines.ended(counts))
