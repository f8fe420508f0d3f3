"""The verb that reads files: replay."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.commands.context import Context
from qtctl.commands.control import EXCEPT, FILE, PATTERNS
from qtctl.commands.output import FILE_S, Output, finish, put
from qtctl.commands.progress import bytes_progress
from qtctl.commands.registry import arg, command
from qtctl.commands.values import count, selection
from qtctl.commands.writing import NDJSON, TIME, WHERE, Lines, count_records, make_writer, say_end
from qtctl.errors import QtctlError, UsageError

if TYPE_CHECKING:
    from qtctl.session.replay import Replay


@command(
    "replay",
    arguments=(
        arg(
            "path",
            metavar="FILE",
            type=Path,
            help="a recording, a simple trace, a folder of LTTng's, text of ftrace, or a log",
            completes="file",
        ),
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
        "Needs no guest. A recording has its declarations in it, and so has what LTTng wrote;\n"
        "those of other files come from --events-all, else from the installed QEMU whose events\n"
        "fit best. Exit 1 if part of the file cannot be read; the rest is printed. What a system\n"
        "log or the kernel says to have dropped counts as lost."
    ),
    selects=True,
)
async def replay(context: Context, options: argparse.Namespace) -> int:
    """Print a file's records."""
    if context.json:
        raise UsageError("replay prints a stream, not one document", hint="--ndjson")
    from qtctl.session.replay import Replay

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
        style = None
        if not options.ndjson:
            from qtctl.text.style import Style

            style = Style() if options.out else context.out_style
        writer = make_writer(style, options.time, trace.hex_arguments(), trace.picked)
        await print_all(context, trace, writer, output)
        say_end(context, trace)
        output.check()
    if trace.problem:
        raise QtctlError(trace.problem)
    return 0


async def print_all(context: Context, trace: Replay, writer: Lines, output: Output) -> None:
    """Write all that is shown, until the end or until told to stop."""
    progress = bytes_progress(context, trace.size, alone=not sys.stdout.isatty())
    try:
        while not context.stop.is_set():
            items = await asyncio.to_thread(trace.step)
            if items is None:
                await output.put(lambda _: writer.ended(trace.counts))
                break
            for item in items:
                lines = partial(writer.lines, item)
                await put(output, lines, context.stop, count_records(item))
            progress.update(trace.taken)
    finally:
        progress.clear()
    await finish(context, output, FILE_S)
