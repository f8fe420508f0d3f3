"""The verb forward: send the records of a guest on while they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from qtctl.commands.context import Context, Result
from qtctl.commands.following import Following, check_lost, follow_of, following
from qtctl.commands.formatting import lost_words
from qtctl.commands.metrics import guest_name, pairs_of, with_pairs
from qtctl.commands.options import ALL, FOLLOW, GUARD, KERNEL, PAIR, SELECTION, STRICT
from qtctl.commands.registry import Options, arg, command
from qtctl.errors import DataLost, UsageError
from qtctl.text.units import short

if TYPE_CHECKING:
    from qtctl.session.session import Session
    from qtctl.session.stream import Stream
    from qtctl.writers.otlp.writer import OtlpWriter

_TICK_S = 1.0


@command(
    "forward",
    arguments=(
        *SELECTION,
        arg(
            "--otlp",
            metavar="ENDPOINT",
            help="send to a receiver of OTLP over HTTP, such as http://127.0.0.1:4318",
        ),
        PAIR.but(help="also a span from each START to its END; may be repeated"),
        *FOLLOW,
        KERNEL,
        GUARD,
        ALL,
        STRICT,
    ),
    examples=(
        "qtctl forward 'virtio_blk_*' --otlp http://127.0.0.1:4318",
        "qtctl forward --otlp collector.example --max-events 1000 'nvme_*' --where 'cid == 3'",
        "qtctl forward --otlp collector --pair virtio_blk_handle_read,virtio_blk_req_complete",
    ),
    details=(
        "Switches the patterns on while it runs, restores on exit (Ctrl-C). Without a pattern:\n"
        "sends what is on, and with --pair its events. Records are logs, pairs spans, counts and\n"
        "losses metrics. A receiver that is busy is asked again, for 30 s a request. Up to 64 MiB\n"
        "wait meanwhile; what comes then is dropped and counted (--strict: exit 6).\n"
        "$OTEL_EXPORTER_OTLP_HEADERS and _COMPRESSION=gzip hold. Needs qtctl[otlp]."
    ),
    selects=True,
)
async def forward(context: Context, options: Options) -> Result:
    """Send until stopped."""
    from qtctl.records import schema
    from qtctl.records.extra import need_analysis

    if options.otlp is None:
        raise UsageError("forward needs a place to send to", hint="--otlp http://127.0.0.1:4318")
    need_analysis("--otlp", "opentelemetry.proto", install="'qtctl[otlp]'")
    from qtctl.writers.otlp.sender import Endpoint
    from qtctl.writers.otlp.writer import STOP_S, OtlpWriter

    endpoint, chosen = Endpoint.parse(options.otlp), with_pairs(options)
    context.stops = True
    async with context.attached(lend=True) as session:
        names = list(await session.all_states())
        declared = await asyncio.to_thread(lambda: session.facts.declarations.by_name)
        pairs = pairs_of(options, names, declared, session.where)
        stream = session.stream(follow_of(options, chosen))
        opened = partial(OtlpWriter, endpoint, _guest(session), pairs)
        with contextlib.closing(await asyncio.to_thread(opened)) as writer:
            context.say(f"sending to {endpoint}")
            progress = partial(_progress, stream, writer)
            async with following(
                context, stream, duration=options.duration, progress=progress
            ) as items:
                await _send(context, writer, items)
            await asyncio.to_thread(writer.end, STOP_S)
    sender = writer.sender
    dropped = sender.dropped.total()
    context.say(f"{sender.sent} sent, {dropped} dropped")
    for why, count in sender.dropped.items():
        context.complain(f"{count} dropped: {why}")
    if writer.timeless:
        context.complain(f"{writer.timeless} pairs made no span: their times are since boot")
    if options.strict:
        check_lost(stream.counts)
        if dropped:
            raise DataLost(f"{dropped} records were not taken by {endpoint}")
    document = {
        **schema.summary(stream.counts),
        "type": "forward",
        "sent": sender.sent,
        "dropped": dict(sender.dropped),
    }
    return Result(document, lambda style: ())


async def _send(context: Context, writer: OtlpWriter, items: Following) -> None:
    """Write the items of a stream, and say once each time that the receiver begins to fail."""
    async with _ticking(context, writer):
        async for item in items:
            await asyncio.to_thread(writer.write, item)


@contextlib.asynccontextmanager
async def _ticking(context: Context, writer: OtlpWriter) -> AsyncIterator[None]:
    said: set[str] = set()

    async def tick() -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            await asyncio.to_thread(writer.tick)
            problem = writer.sender.problem
            if problem and problem not in said:
                said.add(problem)
                context.complain(f"{writer.sender.endpoint}: {problem}")

    ticking = asyncio.ensure_future(tick())
    try:
        yield
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)


def _progress(stream: Stream, writer: OtlpWriter) -> str:
    sent, dropped = writer.sender.sent, writer.sender.dropped.total()
    return f"{short(sent)} sent, {short(dropped)} dropped, {lost_words(stream.counts)} lost"


def _guest(session: Session) -> Any:
    """Return the guest of the records, and what its resource says of it."""
    from qtctl.writers.otlp.writer import GuestFacts

    version = ".".join(map(str, session.monitor.version))
    pid = None if session.guest is None else session.guest.pid
    return GuestFacts(guest_name(session), pid, {"service.version": version})
