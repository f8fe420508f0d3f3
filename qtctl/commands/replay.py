"""The verb replay: print the records of a file."""

from __future__ import annotations

import contextlib

from qtctl.commands.context import Context
from qtctl.commands.formatting import formatter_of
from qtctl.commands.options import (
    ALL,
    MAX_EVENTS,
    NDJSON,
    OUTPUT,
    SELECTION,
    STRICT,
    TIME,
    TRACE,
    WHERE,
)
from qtctl.commands.places import Out
from qtctl.commands.registry import Options, command
from qtctl.commands.replaying import check_read, print_all, replay_of, say_end
from qtctl.errors import UsageError


@command(
    "replay",
    arguments=(TRACE, *SELECTION, WHERE, MAX_EVENTS, TIME, NDJSON, ALL, OUTPUT, STRICT),
    examples=(
        "qtctl replay trace-4711",
        "qtctl replay trace-4711 'virtio_blk_*' --where 'nsectors > 8' --time delta",
        "qtctl replay qemu.log --events-all trace-events-all --ndjson",
    ),
    details=(
        "Needs no guest. A recording contains its declarations, and so does a trace of LTTng;\n"
        "those of other files come from --events-all (a file, or a folder with QEMU's source),\n"
        "else from the installed QEMU whose events fit best; a message says how many records fit.\n"
        "Exit 1 if part of the file cannot be read; the rest is printed. Records that a system\n"
        "log or the kernel reports as dropped count as lost."
    ),
    selects=True,
)
async def replay(context: Context, options: Options) -> int:
    """Print a file's records."""
    if context.json:
        raise UsageError("replay prints a stream, not one document", hint="--ndjson")
    out = Out(options.out)
    trace = await replay_of(context, options)
    with contextlib.closing(trace):
        await context.await_reader(out)
        context.stops = True
        output = context.output(out)
        formatter = formatter_of(context, options, trace, out)
        await print_all(context, trace, formatter, output, out)
        say_end(context, trace)
        output.check()
    check_read(trace, strict=options.strict)
    return 0
