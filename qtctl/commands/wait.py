"""The verb wait: block until an event happens."""

from __future__ import annotations

import asyncio
import time

from qtctl.commands.context import Context, Result
from qtctl.commands.following import follow_of, following, records_read
from qtctl.commands.formatting import formatter_of
from qtctl.commands.options import BACKEND, CLOCK, EVENT, NDJSON, OWN, TIME, WHERE
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import duration
from qtctl.errors import QtctlError, TimedOut
from qtctl.events.selection import Selection


@command(
    "wait",
    arguments=(
        EVENT.but(help="event name, pattern or @SET"),
        WHERE,
        BACKEND,
        CLOCK,
        arg("--timeout", metavar="TIME", type=duration, help="give up after this long: exit 124"),
        TIME,
        NDJSON,
        OWN,
    ),
    examples=(
        "qtctl wait virtio_blk_req_complete --where 'status != 0' --timeout 30s",
        "qtctl wait 'nvme_err_*' && echo happened",
        "qtctl wait migration_completion_file_err --ndjson",
    ),
    guests="together",
)
async def wait(context: Context, options: Options) -> Result:
    """Wait for one record."""
    from qtctl.records import schema
    from qtctl.records.batch import Batch

    found: Batch | None = None
    async with context.guests() as session:
        follow = follow_of(options, Selection.of(options.event))
        stream = session.stream(follow._replace(limit=1, news=False))
        began = time.monotonic()
        within = f" of {options.timeout:g}" if options.timeout else ""

        def progress() -> str:
            waited = f"{time.monotonic() - began:.0f}{within} s"
            return f"waiting for {options.event}: {waited}, {records_read(stream)}"

        async with following(context, stream, warns=False, sums=False, progress=progress) as items:
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
            formatter = formatter_of(context, options, stream)
    if found is not None:
        context.failures.clear()  # it happened, whichever guests failed
    else:
        raise QtctlError(f"{options.event} did not happen before the stream ended")
    one, record = found, next(found.records())
    return Result(schema.record(record), lambda style: formatter.lines(one, 1))
