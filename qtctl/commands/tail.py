"""The verb tail: print records while they come."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtctl.commands.context import Context
from qtctl.commands.following import Following, check_lost, follow_of, following, records_read
from qtctl.commands.formatting import count_records, formatter_of
from qtctl.commands.options import (
    ALL,
    FOLLOW,
    GUARD,
    KERNEL,
    NDJSON,
    OUTPUT,
    SELECTION,
    STRICT,
    TIME,
    WAITS,
    WRAP,
)
from qtctl.commands.output import put
from qtctl.commands.places import Out
from qtctl.commands.registry import Options, command
from qtctl.commands.values import selection
from qtctl.errors import UsageError
from qtctl.model import Control, GuestEvent, Mark

if TYPE_CHECKING:
    from qtctl.commands.output import Output
    from qtctl.session.merged_stream import Followed


@command(
    "tail",
    arguments=(*SELECTION, *FOLLOW, TIME, WRAP, NDJSON, KERNEL, ALL, WAITS, OUTPUT, GUARD, STRICT),
    examples=(
        "qtctl tail 'virtio_blk_*'",
        "qtctl tail @migration @qmp",
        "qtctl tail 'memory_region_ops_*' --where 'size == 4 and addr > 0xfee00000'",
        "qtctl tail 'virtio_*' --except 'virtio_gpu*' --ndjson --duration 10s",
        "qtctl tail 'virtio_blk_*' --clock kernel --time delta",
        "qtctl tail '*' --guard 100000 -o everything",
        "qtctl -t vm1 tail --wait @qmp",
        "qtctl tail",
    ),
    details="Without a pattern: follows the events that are on, and switches none.",
    selects=True,
    guests="together",
)
async def tail(context: Context, options: Options) -> int:
    """Print records until stopped."""
    if context.json:
        raise UsageError("tail prints a stream, not one document", hint="--ndjson")
    chosen = selection(options)
    out = Out(options.out)
    await context.await_reader(out)
    context.stops = True
    output = context.output(out)
    on_screen = context.style_at(out).terminal and not options.ndjson
    async with context.guests() as session:
        stream = session.stream(follow_of(options, chosen))
        async with following(
            context,
            stream,
            duration=options.duration,
            output=output,
            warns=not on_screen,
            progress=None if out.is_stdout else partial(records_read, stream),
        ) as items:
            await print_items(context, options, stream, items, output, out)
    if options.strict:
        check_lost(stream.counts)
    return 0


async def print_items(
    context: Context,
    options: Options,
    stream: Followed,
    items: Following,
    output: Output,
    out: Out,
) -> None:
    """Print the items of a stream, and its sums, until it ends or nobody reads them."""
    formatter = formatter_of(context, options, stream, out)
    await output.put(lambda _: formatter.began(stream))
    try:
        async for item in items:
            if output.tells_news and isinstance(item, GuestEvent | Mark | Control):
                continue
            lines, records = partial(formatter.lines, item), count_records(item)
            if output.error is not None or not await put(output, lines, context.stop, records):
                break
    finally:
        await put(output, lambda _: formatter.ended(stream.counts), context.stop)
        context.shown = True
