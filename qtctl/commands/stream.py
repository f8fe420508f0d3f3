"""Verbs that follow a guest: tail, wait."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.commands.context import Context
from qtctl.commands.control import EXCEPT, FILE, PATTERNS
from qtctl.commands.output import Formatter, Output
from qtctl.commands.registry import Result, arg, command
from qtctl.commands.values import count, duration, selection
from qtctl.commands.writing import (
    GUARD,
    NDJSON,
    TIME,
    WHERE,
    Writer,
    count_records,
    flood_words,
    lost_words,
    make_writer,
    say_sums,
)
from qtctl.errors import DataLost, QtctlError, TimedOut, UsageError
from qtctl.events.patterns import Selection
from qtctl.model import Control, Flood, GuestEvent, Mark
from qtctl.text.style import counted

if TYPE_CHECKING:
    from qtctl.records.items import Item
    from qtctl.session.filter import Counts
    from qtctl.session.stream import Stream

_FLUSH_S = 1.0
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
    """Follow a guest until told to stop."""
    if context.json:
        raise UsageError("tail prints a stream, not one document", hint="--ndjson")
    chosen = selection(options)
    context.stops = True
    output = context.output(options.out, context.stop.set)
    async with context.attached(lend=True) as session:
        stream = session.follow(
            chosen,
            where=options.where,
            backend=options.backend,
            text=options.all,
            limit=options.max_events,
            kernel=options.kernel,
            guard=options.guard,
        )
        try:
            await _pump(context, options, stream, output)
        finally:
            if stream.began_ns:
                say_sums(context, stream.counts)
        output.check()
    if options.strict:
        check_lost(stream.counts)
    return 0


def check_lost(counts: Counts) -> None:
    """Raise for ``--strict``.

    Raises:
        DataLost: records were lost.
    """
    if counts.lost or counts.unknown_losses:
        raise DataLost(f"{lost_words(counts)} lost", hint="a --where or fewer patterns")


async def _pump(
    context: Context, options: argparse.Namespace, stream: Stream, output: Output
) -> None:
    """Enter the stream, write what it yields, and leave it when asked to."""
    writer: Writer | None = None
    on_screen = context.out_style.terminal and not (options.ndjson or options.out)
    async with stream:
        announce(context, stream)
        writer = _writer(context, options, stream)
        await output.put(lambda _: writer.began(stream))
        stopping = asyncio.ensure_future(stop_when(context.stop, options.duration, stream))
        try:
            async with contextlib.aclosing(aiter(stream)) as items:
                async for item in items:
                    if output.tells_news and isinstance(item, GuestEvent | Mark | Control):
                        continue
                    if not on_screen:
                        warn(context, item)
                    lines, records = partial(writer.lines, item), count_records(item)
                    if output.error is not None or not await put(
                        output, lines, context.stop, records
                    ):
                        break
        finally:
            stopping.cancel()
            await put(output, lambda _: writer.ended(stream.counts), context.stop)
    if not await output.finish(_FLUSH_S if context.stop.is_set() else 5.0):
        context.complain("the reader of the records has stalled: not all of them were written")


def warn(context: Context, item: Item) -> None:
    """Tell of a flood on stderr."""
    if isinstance(item, Flood):
        context.complain(flood_words(item))


async def put(output: Output, lines: Formatter, stop: asyncio.Event, records: int = 0) -> bool:
    """Queue lines; once asked to stop, wait no longer than a moment. Tell whether they are."""
    put = asyncio.ensure_future(output.put(lines, records))
    if not stop.is_set():
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({put, stopped}, return_when="FIRST_COMPLETED")
        stopped.cancel()
    if not put.done():
        await asyncio.wait({put}, timeout=_FLUSH_S)
        put.cancel()
    return put.done()


async def stop_when(stop: asyncio.Event, seconds: float | None, stream: Stream) -> None:
    """Stop a stream when told to, or after so many seconds, whatever its reader does."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    stream.stop()
    # A reader that has stalled keeps the stream from coming to it. It tries again, and tells.
    with contextlib.suppress(QtctlError):
        await stream.release()


def announce(context: Context, stream: Stream) -> None:
    """Tell on stderr what an entered stream follows, and what it lacks."""
    for backend, why in stream.passed_over.items():
        context.say(f"not by {backend}: {why}")
    if stream.choices > 1:
        context.say(f"by {stream.backend}: of what can be followed here the cheapest for the guest")
    report = stream.report
    if report is None:
        context.say(f"following what is on, from {stream.source}; Ctrl-C ends")
    else:
        context.say(
            f"{counted(len(report.matched), 'event')} on ({len(report.changed)} changed), "
            f"from {stream.source}; Ctrl-C gives back"
        )
        for pattern in report.unmatched:
            context.say(f"no event matches {pattern!r}")
        if report.failed:
            context.complain(f"{counted(len(report.failed), 'event')} read back as not enabled")
    undeclared = stream.undeclared()
    if undeclared:
        source = stream.session.facts.declarations_path
        where = f"not declared in {source}" if source else "without a trace-events-all"
        events = counted(len(undeclared), "event")
        context.say(f"{events} {where}: arguments stay text; try: --events-all FILE")


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
        stream = session.follow(
            Selection.of(options.event),
            where=options.where,
            backend=options.backend,
            limit=1,
            news=False,
        )
        async with stream:
            announce(context, stream)
            try:
                async with asyncio.timeout(options.timeout):
                    async with contextlib.aclosing(aiter(stream)) as items:
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
