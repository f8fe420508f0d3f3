"""The verb record: write the records of events to a file."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qtctl.commands.context import Context, Result
from qtctl.commands.following import Following, check_lost, follow_of, following
from qtctl.commands.formatting import lost_words
from qtctl.commands.forward import record_data_set
from qtctl.commands.keys import keys
from qtctl.commands.options import (
    ALL,
    EXCEPT,
    FILE,
    FOLLOW,
    GUARD,
    KERNEL,
    OUTPUT,
    PARQUET,
    PATTERNS,
    RING,
    STRICT,
)
from qtctl.commands.places import Out
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import selection
from qtctl.errors import QtctlError, UsageError
from qtctl.model import Control
from qtctl.text.tables import table
from qtctl.text.units import short

if TYPE_CHECKING:
    from qtctl.commands.destinations import Destination, RingFiles
    from qtctl.session.merged_stream import Followed

_TICK_S = 1.0


@command(
    "record",
    arguments=(
        PATTERNS,
        OUTPUT.but(help="the new file"),
        PARQUET.but(help=f"instead of a file: {PARQUET.options['help']}"),
        EXCEPT,
        FILE,
        *FOLLOW,
        RING,
        arg(
            "--dump-on",
            metavar="WHEN",
            action="append",
            default=[],
            help="write the ring to a file when this event or QMP event (GUEST_PANICKED) comes, "
            "or this expression holds for a record",
        ),
        KERNEL,
        GUARD,
        ALL,
        STRICT,
    ),
    examples=(
        "qtctl record 'virtio_blk_*' -o disk.qtr --duration 1m",
        "qtctl record '*' --except 'memory_region_*' -o all.qtr",
        "qtctl record 'nvme_*' --ring 30s --dump-on GUEST_PANICKED --dump-on 'status != 0' "
        "-o crash.qtr",
        "qtctl record 'virtio_blk_*' --parquet traces --duration 1h",
    ),
    details=(
        "Without a pattern: records what is on, and switches nothing. Never overwrites a file.\n"
        "If it is killed or the disk is full, the file can be read up to its last second.\n"
        "\n"
        "A ring is written to FILE, the next time to FILE.1 and so on, each time what came since\n"
        "the last: on --dump-on (at most once a second, and 16 times), on SIGUSR1 or the key d,\n"
        "when the guest goes away, and without --dump-on at the end. It counts compressed bytes:\n"
        "FILE becomes as large. A ring of a TIME holds no more than 256 MiB."
    ),
    selects=True,
    guests="together",
)
async def record(context: Context, options: Options) -> Result:
    """Record until stopped."""
    from qtctl.commands.destinations import OneFile, RingFiles
    from qtctl.records import schema
    from qtctl.session.conditions import Condition, When

    chosen = selection(options)
    if (options.out is None) == (options.parquet is None):
        raise UsageError("record needs -o FILE, or --parquet DIR", hint="-o FILE.qtr")
    if options.parquet is not None:
        if options.ring is not None or options.dump_on:
            raise UsageError("a --ring is written to -o FILE, not to a data set", hint="-o FILE")
        return await record_data_set(context, options, chosen)
    if options.dump_on and options.ring is None:
        raise UsageError("--dump-on writes a ring, and there is none", hint="--ring 64MiB")
    out = Out(options.out, needs_file="a recording")
    context.stops = True
    async with context.guests() as session:
        conditions: list[Condition] = []
        if options.dump_on:
            declared, known = session.declared(), list(await session.all_states())
            names = chosen.pick(known) if chosen else known
            conditions = [Condition(When.parse([one]), names, declared) for one in options.dump_on]
        stream = session.stream(follow_of(options, chosen))
        into: OneFile | RingFiles | None = None
        began = time.monotonic()

        def progress() -> str:
            if into is None:
                return ""
            shown, lost = stream.counts.shown, lost_words(stream.counts)
            per_s = shown / max(time.monotonic() - began, 1e-9)
            rates = f"{short(shown)} records, {short(per_s)}/s, {short(into.size)}B"
            return f"{rates}, {lost} lost"

        async with following(
            context, stream, duration=options.duration, progress=progress
        ) as items:
            if options.ring is None:
                into = OneFile(stream, out)
                await write_items(context, stream, items, into)
            else:
                into = RingFiles(stream, out, options.ring, conditions, at_end=not conditions)
                with _dump_on_request(context, into):
                    await write_items(context, stream, items, into)
    counts = stream.counts
    if options.strict:
        check_lost(counts)
    rows = [(str(one.path), one.records, one.size) for one in into.files]
    document = {
        "files": [dict(zip(("path", "records", "bytes"), row, strict=True)) for row in rows],
        "read": counts.read,
        "shown": counts.shown,
        "filtered": counts.filtered,
        **schema.losses(counts),
        **schema.rare(counts),
    }
    cells = [tuple(map(str, row)) for row in rows]
    return Result(document, lambda style: table(style, ("FILE", "RECORDS", "BYTES"), cells))


@contextlib.contextmanager
def _dump_on_request(context: Context, ring: RingFiles) -> Iterator[None]:
    """For the length of the block, dump the ring on SIGUSR1 and on the key d."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, ring.ask, "SIGUSR1")
    try:
        with keys({"d": lambda: ring.ask("d")} if context.interrupt is None else {}) as there:
            if there:
                context.say("d writes the ring to a file now")
            yield
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


async def write_items(
    context: Context, stream: Followed, items: Following, into: Destination
) -> None:
    """Write the items of a stream until it ends or a file cannot be written."""
    ticking = asyncio.ensure_future(_tick(context, stream, into))
    try:
        if stream.report is not None:
            changed, patterns = len(stream.report.changed), tuple(stream.selection.words())
            into.add(Control("enable", patterns, changed, stream.began_ns))
        async for item in items:
            context.say(*await asyncio.to_thread(into.add, item))
            if ticking.done():
                break
    finally:
        failed = ticking.done()
        ticking.cancel()
        lost = items.lost is not None
        context.say(*await asyncio.to_thread(lambda: into.end(lost=lost)))
    if failed:
        ticking.result()


async def _tick(context: Context, stream: Followed, into: Destination) -> None:
    """Flush to the file now and then, until cancelled or the file cannot be written."""
    try:
        while True:
            await asyncio.sleep(_TICK_S)
            context.say(*await asyncio.to_thread(into.tick))
    except QtctlError:
        stream.stop()
        raise
