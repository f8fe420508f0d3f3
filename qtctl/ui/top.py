"""The verb top: rates of events, live on a terminal, as a table or JSON elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtctl.commands.context import Context, Result
from qtctl.commands.following import Following, check_lost, follow_of, following, records_read
from qtctl.commands.formatting import JsonFormatter, count_records
from qtctl.commands.options import (
    BACKEND,
    BY,
    CLOCK,
    DURATION,
    GUARD,
    INTERVAL,
    LIMIT,
    NDJSON,
    OWN,
    SELECTION,
    STRICT,
    TIME,
    WHERE,
)
from qtctl.commands.output import MakeLines, Output, put
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import selection
from qtctl.config import settings
from qtctl.ui.rate_table import rate_table

if TYPE_CHECKING:
    from qtctl.analysis.rates import Snapshot
    from qtctl.events.selection import Selection
    from qtctl.session.merged_stream import Followed
    from qtctl.ui.stream_rates import StreamRates

_SORTS = ("rate", "bytes", "name", "total")
VIEWED = (
    WHERE,
    BACKEND,
    CLOCK,
    BY,
    arg("--sort", choices=_SORTS, default="rate", help="order of the rates (default: rate)"),
    INTERVAL.but(default=1.0, help="rates are over this long (default: 1s)"),
    DURATION,
    TIME,
    GUARD,
    STRICT,
    OWN,
)
"""The options of verbs that show a view."""


@command(
    "top",
    arguments=(
        *SELECTION,
        *VIEWED,
        LIMIT,
        arg("--once", action="store_true", help="one table after one interval"),
        NDJSON,
    ),
    examples=(
        "qtctl top 'virtio_*'",
        "qtctl top 'memory_region_ops_*' --by size --where 'size > 1'",
        "qtctl top 'memory_region_ops_*' --by mr --once",
        "qtctl top --by tid --once --json | jq '.rows[0]'",
        "qtctl top 'virtio_*' --ndjson --interval 5s --duration 1m",
    ),
    details="""\
Without a pattern: counts the events that are on, and switches nothing.
A live view needs a terminal; elsewhere, and in the prompt, it is as with --once. Keys: s sorts by
the next column, b counts by something else, t shows the records themselves, h lists all keys.
Off a terminal a row is: name, records/s, bytes/s, share in per cent, records in all.""",
    selects=True,
    guests="together",
)
async def top(context: Context, options: Options) -> Result | int:
    """Print the rates of a guest's records."""
    from qtctl.ui.stream_rates import StreamRates, check

    chosen = selection(options)
    context.stops = True
    if not (options.once or context.json or options.ndjson) and has_a_screen(context):
        from qtctl.ui.view import view

        return await view(context, options, chosen, "top", view_call)
    output = None
    if options.ndjson and not options.once:
        output = context.output()
    async with context.guests() as session:
        await check(session, chosen, options.where, options.by)
        names = await session.names()
        stream = session.stream(follow_of(options, chosen))
        duration = options.duration if output is not None else None
        progress = partial(records_read, stream) if output is None else None
        async with following(
            context, stream, duration=duration, output=output, progress=progress
        ) as items:
            rating = StreamRates(stream, names, options.by, options.interval)
            snapshot = await _count(context, options, stream, items, rating, output)
    if options.strict:
        check_lost(stream.counts)
    if output is not None:
        return 0
    document = rating.document(snapshot, time.time_ns())
    if options.ndjson:
        return Result(document, lambda style: _line(document, 0))
    return Result(
        document, lambda style: rate_table(style, snapshot, rating.label, title=rating.title)
    )


def has_a_screen(context: Context) -> bool:
    """Return whether the verb has a capable terminal for itself."""
    capable = os.environ.get("TERM", "dumb") != "dumb"
    alone = context.owner is None and not context.several
    return capable and context.out_style.terminal and sys.stdin.isatty() and alone


def view_call(
    options: Options, chosen: Selection, target: str, events_all: Path | None
) -> list[str]:
    """Return the arguments of ``qtctl`` that show the view of the guest ``target``."""
    words = ["-t", target, "pane", "--here", "--view", options.view]
    if events_all is not None:
        words += ["--events-all", str(events_all.resolve())]
    for one in VIEWED:
        value = getattr(options, one.flags[0].removeprefix("--").replace("-", "_"))
        if value is True:
            words.append(one.flags[0])
        elif value not in (None, False):
            words.append(f"{one.flags[0]}={value}")
        elif value is False and settings().defaults("pane").get(one.name, (False,))[0] is True:
            words.append(f"--no-{one.name}")
    if pair := getattr(options, "pair", None):
        words.append(f"--pair={pair}")
    rules = (pattern if include else f"-{pattern}" for include, pattern in chosen.rules)
    return [*words, "--", *rules]


async def _count(
    context: Context,
    options: Options,
    stream: Followed,
    items: Following,
    rating: StreamRates,
    output: Output | None,
) -> Snapshot:
    """Print rates every interval until stopped; without an output, count one interval.

    Returns the last rates.
    """

    async def show(lines: MakeLines) -> None:
        if output is not None:
            await put(output, lines, context.stop)

    taking = asyncio.ensure_future(_take(stream, items, rating, show))
    loop = asyncio.get_running_loop()
    due = loop.time()
    try:
        while not taking.done():
            due += options.interval
            await asyncio.wait({taking}, timeout=due - loop.time())
            snapshot = rating.snapshot(options.sort, options.limit)
            if output is None:
                stream.stop()
                break
            if not taking.done() and not context.stop.is_set():
                await show(partial(_line, rating.document(snapshot, time.time_ns())))
        await taking
    finally:
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await show(lambda _: JsonFormatter().ended(stream.counts))
    return snapshot


def _line(document: dict[str, Any], _: int) -> list[str]:
    return [json.dumps(document)]


async def _take(
    stream: Followed,
    items: Following,
    rating: StreamRates,
    show: Callable[[MakeLines], Awaitable[None]],
) -> None:
    """Count the records of a stream; show losses and news at their place."""
    writer = JsonFormatter()
    await show(lambda _: writer.began(stream))
    async for item in items:
        rating.take(item)
        if not count_records(item):
            await show(partial(writer.lines, item))
