"""The verb run: start a program of QEMU's, and follow it from its first event to its end."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.commands.context import Context
from qtctl.commands.following import check_lost, following, records_read
from qtctl.commands.options import (
    ALL,
    DURATION,
    MAX_EVENTS,
    NDJSON,
    OUTPUT,
    SELECTION,
    STRICT,
    TIME,
    WHERE,
    WRAP,
)
from qtctl.commands.places import Out
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import selection
from qtctl.errors import UsageError
from qtctl.session.follow import Follow

if TYPE_CHECKING:
    from qtctl.session.launched import Launched, LaunchedStream

_BEHIND = "--"


@command(
    "run",
    arguments=(
        *SELECTION,
        WHERE,
        arg(
            "--record",
            metavar="FILE",
            type=Path,
            help="write the records to a new recording, and print none",
            completes="file",
        ),
        OUTPUT,
        DURATION.but(help="end the program after this long (10s, 2m)"),
        MAX_EVENTS.but(help="end the program after N records"),
        TIME,
        WRAP,
        NDJSON,
        ALL,
        STRICT,
    ),
    examples=(
        "qtctl run 'virtio_*' -- qemu-system-x86_64 -accel kvm -drive if=virtio,file=disk.img",
        "qtctl run 'blk_co_*' --where 'bytes > 65536' -- qemu-img convert -O raw a.qcow2 b.raw",
        "qtctl run '*' --except 'qemu_*' --record boot.qtr -- qemu-system-x86_64 -S",
    ),
    details="""\
Behind -- stands the program, as it would be started without qtctl: qemu-system-*, qemu-img,
qemu-io, qemu-nbd, qemu-storage-daemon, or an emulator of user programs such as qemu-x86_64. It has
this terminal, environment and input; the exit code is the program's, 128 + n after a signal.
Ctrl-C ends it. Records go to stdout, and then what the program prints goes to stderr; with -o or
--record it goes to stdout as always.

The events are on before the program does anything: a device that is realized, the firmware, a
failure at the start. qemu-system-* gets a QMP socket of its own, too, by which other events can be
switched later, and time stamps, unless it has -msg. All other programs have no QMP: what is on at
the start stays on to the end; and none of them writes times, so records have that of their reading.

The trace goes to a bounded spool, through the log backend or simple; where both are built into a
tool, it is simple, and the log's lines go to stderr. If qtctl is killed, the program goes on.
""",
    selects=True,
    until=_BEHIND,
    rest="PROGRAM [ARG ...]",
)
async def run(context: Context, options: Options) -> int:
    """Run a program, and return its exit code."""
    chosen = selection(options)
    _check(context, options, bool(chosen))
    out = Out(options.record, needs_file="a recording") if options.record else Out(options.out)
    # Imported late: a call that is wrong needs none of it.
    from qtctl.session.launched import Launched, LaunchedStream
    from qtctl.session.programs import find_program

    program = find_program(options.behind)
    await context.await_reader(out)
    context.stops = True
    stdout = sys.stderr.fileno() if out.is_stdout else sys.stdout.fileno()
    launched = Launched(program, options.behind, context.events_all, stdout)
    follow = Follow(chosen, options.where, text=options.all, limit=options.max_events)
    stream = LaunchedStream(launched, follow)
    try:
        await _follow(context, options, stream, out)
    finally:
        launched.remove()
        context.say(*launched.notices)
    if options.strict and not launched.exit_code:
        check_lost(stream.counts)
    return launched.exit_code


def _check(context: Context, options: Options, chosen: bool) -> None:
    """Refuse a call that cannot be meant."""
    if context.json:
        raise UsageError("run prints a stream, not one document", hint="--ndjson")
    if options.targets:
        raise UsageError("run starts a guest, and -t names one that runs", hint="qtctl tail")
    if not chosen:
        raise UsageError("run needs the events that are to be on", hint="qtctl run '*' -- PROGRAM")
    if options.record and (options.out or options.ndjson):
        raise UsageError("--record prints no records", hint="qtctl replay FILE, afterwards")


async def _follow(context: Context, options: Options, stream: LaunchedStream, out: Out) -> None:
    """Start the program, and follow it to its end."""
    output = None if options.record else context.output(out)
    on_screen = context.style_at(out).terminal and not options.ndjson
    opened = following(
        context,
        stream,
        duration=options.duration,
        output=output,
        warns=not on_screen,
        progress=None if out.is_stdout else partial(records_read, stream),
    )
    async with opened as items:
        _say_what_switches(context, stream.launched)
        if output is None:
            from qtctl.commands.destinations import OneFile
            from qtctl.commands.record import write_items

            await write_items(context, stream, items, OneFile(stream, out))
        else:
            from qtctl.commands.tail import print_items

            await print_items(context, options, stream, items, output, out)


def _say_what_switches(context: Context, launched: Launched) -> None:
    """Say how other events can be switched while the program runs, or that none can."""
    name = launched.where
    if launched.program.has_monitor:
        context.say(f"{name} has a QMP socket: qtctl -t unix:{launched.qmp} enable PATTERN")
    else:
        context.say(f"{name} has no QMP: these events stay on, and no others, until it ends")
