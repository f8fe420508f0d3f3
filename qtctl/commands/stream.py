"""Verbs that follow a guest: tail, wait."""

from __future__ import annotations

import argparse
import asyncio
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.commands.context import Context
from qtctl.commands.control import EXCEPT, FILE, PATTERNS
from qtctl.commands.following import check_lost, follow_of, following
from qtctl.commands.output import put
from qtctl.commands.registry import Result, arg, command
from qtctl.commands.values import count, duration, selection
from qtctl.commands.writing import (
    GUARD,
    NDJSON,
    TIME,
    WHERE,
    Writer,
    count_records,
    make_writer,
)
from qtctl.errors import QtctlError, TimedOut, UsageError
from qtctl.events.patterns import Selection
from qtctl.model import Control, GuestEvent, Mark

if TYPE_CHECKING:
    from qtctl.session.stream import Stream

BACKEND = arg(
    "--backend",
    default="auto",
    metavar="NAME",
    completes="backend",
    help="trace backend to read (default: auto)",
)
DURATION = arg("--duration", metavar="TIME", type=duration, help="stop after this long (10s, 2m)")
MAX_EVENTS = arg("--max-events", metavar="N", type=count, help="stop after N records")
KERNEL = arg(
    "--kernel",
    action="append",
    default=[],
    metavar="PATTERN",
    help="also these events of the kernel, such as 'kvm:*' (ftrace backend, as root)",
)
ALL = arg("--all", action="store_true", help="also lines of the log that are no trace events")
STRICT = arg("--strict", action="store_true", help="exit 6 if any record was lost")


@command(
    "tail",
    arguments=(
        PATTERNS,
        EXCEPT,
        FILE,
        WHERE,
        BACKEND,
        DURATION,
        MAX_EVENTS,
        TIME,
        NDJSON,
        KERNEL,
        ALL,
        arg("-o", metavar="FILE", dest="out", type=Path, help="write records to a new file"),
        GUARD,
        STRICT,
    ),
    examples=(
        "qtctl tail 'virtio_blk_*'",
        "qtctl tail @migration @qmp",
        "qtctl tail 'memory_region_ops_*' --where 'size == 4 and addr > 0xfee00000'",
        "qtctl tail 'virtio_*' --except 'virtio_gpu*' --ndjson --duration 10s",
        "qtctl tail '*' --guard 100000 -o everything",
        "qtctl tail",
    ),
    details="Without a pattern: follows the events that are on, and switches none.",
    selects=True,
)
async def tail(context: Context, options: argparse.Namespace) -> int:
    """Print records until told to stop."""
    if context.json:
        raise UsageError("tail prints a stream, not one document", hint="--ndjson")
    chosen = selection(options)
    context.stops = True
    output = context.output(options.out, context.stop.set)
    on_screen = context.out_style.terminal and not (options.ndjson or options.out)
    async with context.attached(lend=True) as session:
        stream = session.stream(follow_of(options, chosen))
        async with following(
            context, stream, duration=options.duration, output=output, warns=not on_screen
        ) as items:
            writer = _writer(context, options, stream)
            await output.put(lambda _: writer.began(stream))
            try:
                async for item in items:
                    if output.tells_news and isinstance(item, GuestEvent | Mark | Control):
                        continue
                    lines, records = partial(writer.lines, item), count_records(item)
                    if output.error is not None or not await put(
                        output, lines, context.stop, records
                    ):
                        break
            finally:
                await put(output, lambda _: writer.ended(stream.counts), context.stop)
    if options.strict:
        check_lost(stream.counts)
    return 0


def _writer(context: Context, options: argparse.Namespace, stream: Stream) -> Writer:
    if options.ndjson:
        return Writer(None)
    from qtctl.text.style import Style

    style = Style() if getattr(options, "out", None) else context.out_style
    return make_writer(style, options.time, stream.hex_arguments(), stream.picked)


@command(
    "wait",
    arguments=(
        arg("event", metavar="EVENT", help="event name, pattern or @SET", completes="event"),
        WHERE,
        BACKEND,
        arg("--timeout", metavar="TIME", type=duration, help="give up after this long: exit 124"),
        TIME,
        NDJSON,
    ),
    examples=(
        "qtctl wait virtio_blk_req_complete --where 'status != 0' --timeout 30s",
        "qtctl wait 'nvme_err_*' && echo happened",
    ),
)
async def wait(context: Context, options: argparse.Namespace) -> Result:
    """Wait for one record."""
    from qtctl.records import schema
    from qtctl.records.batch import Batch

    found: Batch | None = None
    async with context.attached(lend=True) as session:
        follow = follow_of(options, Selection.of(options.event))
        stream = session.stream(follow._replace(limit=1, news=False))
        async with following(context, stream, warns=False, sums=False) as items:
            try:
                async with asyncio.timeout(options.timeout):
                    async for item in items:
                        found = item if isinstance(item, Batch) else found
            except TimeoutError:
                raise TimedOut(
                    f"{options.event} did not happen on {session.where} "
                    f"within {options.timeout:g} s",
                    hint="a longer --timeout, or qtctl tail",
                ) from None
            writer = _writer(context, options, stream)
    if found is None:
        raise QtctlError(f"{options.event} did not happen before the stream ended")
    one, record = found, next(found.records())
    return Result(schema.record(record), lambda style: writer.lines(one, 1))
