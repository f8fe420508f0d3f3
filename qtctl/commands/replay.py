"""The verb replay: print the records of a file."""

from __future__ import annotations

import contextlib

from qtctl.commands.context import Context
from qtctl.commands.formatting import formatter_of
from qtctl.commands.options import (
    ALL,
    FOLLOWED,
    JOBS,
    MAX_EVENTS,
    NDJSON,
    OUTPUT,
    SELECTION,
    STRICT,
    TIME,
    TRACE,
    WHERE,
    WRAP,
)
from qtctl.commands.places import Out
from qtctl.commands.registry import Options, command
from qtctl.commands.replaying import check_read, print_all, replay_of, say_end
from qtctl.errors import UsageError


@command(
    "replay",
    arguments=(
        TRACE,
        *SELECTION,
        FOLLOWED,
        JOBS,
        WHERE,
        MAX_EVENTS,
        TIME,
        WRAP,
        NDJSON,
        ALL,
        OUTPUT,
        STRICT,
    ),
    examples=(
        "qtctl replay trace-4711",
        "qtctl replay trace-4711 'virtio_blk_*' --where 'nsectors > 8' --time delta",
        "qtctl replay qemu.log --events-all trace-events-all --ndjson",
        "qtctl replay host1.log host2.log 'vhost_user_*'",
        "qtctl replay --follow /var/log/libvirt/qemu/vm1.log",
        "qtctl replay - 'virtio_*' < qemu.log",
    ),
    details=(
        "Needs no guest. A recording contains its declarations, and so does a trace of LTTng;\n"
        "those of other files come from --events-all (a file, or a folder with QEMU's source),\n"
        "else from the installed QEMU whose events fit best; a message says how many records fit.\n"
        "Several FILEs are merged by time, each in its own order, and each record has its file.\n"
        "Text from a pipe (journalctl -f | qtctl replay -), and of a FILE with --follow, is\n"
        "printed as it comes, until Ctrl-C. Exit 1 if part of a file cannot be read; the rest is\n"
        "printed. Records that a system log or the kernel reports as dropped count as lost."
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
