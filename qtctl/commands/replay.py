"""The verb that reads files: replay."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.commands.context import Context
from qtctl.commands.control import EXCEPT, FILE, PATTERNS
from qtctl.commands.output import Output
from qtctl.commands.registry import arg, command
from qtctl.commands.values import count, selection
from qtctl.commands.writing import NDJSON, TIME, WHERE, count_records, make_writer, say_sums
from qtctl.errors import QtctlError, UsageError

if TYPE_CHECKING:
    from qtctl.session.replaying import Replay

_PROGRESS_S = 0.5
_FLUSH_S = 1.0
_WRITE_S = 60.0


@command(
    "replay",
    "print the records of a file: a recording, a simple trace, or saved log text",
    arguments=(
        arg("path", metavar="FILE", type=Path, help="a recording, a simple trace, or a log"),
        PATTERNS,
        EXCEPT,
        FILE,
        WHERE,
        arg("--max-events", metavar="N", type=count, help="stop after N records"),
        TIME,
        NDJSON,
        arg("--all", action="store_true", help="also lines of a log that are no trace events"),
        arg("-o", metavar="FILE", dest="out", type=Path, help="write records to a new file"),
    ),
    examples=(
        "qtctl replay trace-4711",
        "qtctl replay trace-4711 'virtio_blk_*' --where 'nsectors > 8' --time delta",
        "qtctl replay qemu.log --events-all trace-events-all --ndjson",
    ),
    details=(
        "Needs no guest. A recording has its declarations in it; those of other files come from\n"
        "--events-all, else from the installed QEMU whose events fit best. Exit 1 if part of\n"
        "the file cannot be read; the rest is printed."
    ),
    selects=True,
)
async def replay(context: Context, options: argparse.Namespace) -> int:
    """Print a file's records."""
    if context.json:
        raise UsageError("replay prints a stream, not one document", hint="--ndjson")
    from qtctl.session.replaying import Replay

    chosen = selection(options)
    trace = await asyncio.to_thread(
        Replay,
        options.path,
        events_all=context.events_all,
        selection=chosen,
        where=options.where,
        text=options.all,
        limit=options.max_events,
    )
    with contextlib.closing(trace):
        context.stops = True
        output = context.output(options.out, context.stop.set)
        for note in trace.notes:
            context.say(note)
        await _print(context, options, trace, output)
        say_sums(context, trace.counts)
        output.check()
    if trace.problem:
        raise QtctlError(trace.problem)
    return 0


async def _print(
    context: Context, options: argparse.Namespace, trace: Replay, output: Output
) -> None:
    """Write all that is shown, until the end or until told to stop."""
    style = None
    if not options.ndjson:
        from qtctl.text.style import Style

        style = Style() if options.out else context.out_style
    writer = make_writer(style, options.time, trace.hex_arguments(), trace.picked)
    progress = Progress(context, trace, alone=not sys.stdout.isatty())
    stopped = asyncio.ensure_future(context.stop.wait())
    try:
        while not stopped.done() and (items := await asyncio.to_thread(trace.step)) is not None:
            for item in items:
                put = asyncio.ensure_future(
                    output.put(partial(writer.lines, item), count_records(item))
                )
                await asyncio.wait({put, stopped}, return_when="FIRST_COMPLETED")
                if not put.done():
                    put.cancel()
                    break
            progress.tell()
        if not stopped.done():
            await output.put(lambda _: writer.ended(trace.counts))
    finally:
        progress.clear()
        stopped.cancel()
    if not await output.finish(_FLUSH_S if context.stop.is_set() else _WRITE_S):
        context.complain("the reader of the records has stalled: not all of them were written")


class Progress:
    """How much of a long file is read, on a terminal that shows nothing else (``alone``)."""

    def __init__(self, context: Context, trace: Replay, *, alone: bool) -> None:
        self._shows = context.err_style.terminal and not context.quiet and alone
        self._trace = trace
        self._due = time.monotonic() + _PROGRESS_S
        self._shown = False

    def tell(self) -> None:
        """Say it anew now and then."""
        if self._shows and time.monotonic() >= self._due and self._trace.size:
            self._due, self._shown = time.monotonic() + _PROGRESS_S, True
            share = min(100, 100 * self._trace.taken // self._trace.size)
            self._write(f"\r{share:3} % of {self._trace.size >> 20} MiB")

    def clear(self) -> None:
        """Leave the line empty."""
        if self._shown:
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()
