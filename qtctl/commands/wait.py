"""The verb wait: block until an event happens."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from qtctl.commands.context import Context, Result
from qtctl.commands.following import follow_of, following, records_read
from qtctl.commands.formatting import formatter_of
from qtctl.commands.options import BACKEND, CLOCK, EVENT, NDJSON, OWN, TIME, WHERE
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import duration
from qtctl.errors import QtctlError, TimedOut, UsageError
from qtctl.events.selection import Selection
from qtctl.text.style import escaped

if TYPE_CHECKING:
    from qtctl.session.several import Guests


@command(
    "wait",
    arguments=(
        EVENT.but(nargs="?", help="event name, pattern or @SET"),
        arg(
            "--for-guest",
            dest="waits",
            action="store_true",
            help="wait for the guest (-t) first, if it is not there yet; without EVENT only for it",
        ),
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
        "qtctl -t vm1 wait --for-guest && echo vm1 runs",
    ),
    guests="together",
)
async def wait(context: Context, options: Options) -> Result:
    """Wait for one record."""
    event: str | None = vars(options)["event"]
    if event is None and not options.waits:
        raise UsageError("what is waited for?", hint="qtctl wait EVENT, or --for-guest")
    place = ", ".join(one.name for one in context.several) or "the guest"
    try:
        async with asyncio.timeout(options.timeout if options.waits else None):
            async with context.guests() as guests:
                if event is None:
                    document = {"type": "guest", "guest": guests.where}
                    return Result(document, lambda style: [escaped(guests.where)])
                place = guests.where
                return await _record(context, options, guests)
    except TimeoutError:
        happened = "was not there" if event is None else f"had no {event}"
        raise TimedOut(
            f"{place} {happened} within {options.timeout:g} s",
            hint="a longer --timeout, or qtctl ps",
        ) from None


async def _record(context: Context, options: Options, guests: Guests) -> Result:
    """Wait for one record of guests that are attached."""
    from qtctl.records import schema
    from qtctl.records.batch import Batch

    found: Batch | None = None
    follow = follow_of(options, Selection.of(options.event))
    stream = guests.stream(follow._replace(limit=1, news=False))
    began = time.monotonic()
    within = f" of {options.timeout:g}" if options.timeout else ""

    def progress() -> str:
        waited = f"{time.monotonic() - began:.0f}{within} s"
        return f"waiting for {options.event}: {waited}, {records_read(stream)}"

    async with following(context, stream, warns=False, sums=False, progress=progress) as items:
        try:
            async with asyncio.timeout(None if options.waits else options.timeout):
                async for item in items:
                    found = item if isinstance(item, Batch) else found
        except TimeoutError:
            raise TimedOut(
                f"{options.event} did not happen on {guests.where} within {options.timeout:g} s",
                hint="a longer --timeout, or qtctl tail",
            ) from None
        formatter = formatter_of(context, options, stream)
    if found is not None:
        context.failures.clear()  # it happened, whichever guests failed
    else:
        raise QtctlError(f"{options.event} did not happen before the stream ended")
    one, record = found, next(found.records())
    return Result(schema.record(record), lambda style: formatter.lines(one, 1))
