"""The verb forward: send the records of a guest on while they come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from qtctl.commands.context import Context, Result
from qtctl.commands.following import check_lost, follow_of, following
from qtctl.commands.formatting import lost_words
from qtctl.commands.metrics import guest_name, pairs_of, with_pairs
from qtctl.commands.options import ALL, FOLLOW, GUARD, KERNEL, PAIR, PARQUET, SELECTION, STRICT
from qtctl.commands.registry import Options, arg, command
from qtctl.errors import DataLost, UsageError
from qtctl.text.units import short

if TYPE_CHECKING:
    from qtctl.analysis.meters import Pair
    from qtctl.events.selection import Selection
    from qtctl.records.items import Item
    from qtctl.session.merged_stream import Followed
    from qtctl.session.several import Guests

_TICK_S = 1.0
_END_S = 3.0


class Receiver(Protocol):
    """Takes the items of a stream, and accounts for them. All methods block.

    ``problem`` is the newest reason for which it could not take something, ``dropped`` how many
    records those were so far.
    """

    @property
    def problem(self) -> str: ...  # noqa: D102
    @property
    def dropped(self) -> int: ...  # noqa: D102

    def write(self, item: Item) -> None:
        """Take the next item."""

    def tick(self) -> None:
        """Do what is due; called each second."""

    def end(self, seconds: float) -> None:
        """Finish, in so many seconds if it waits for somebody."""

    def account(self) -> Mapping[str, Any]:
        """Return members of the result."""

    def words(self) -> str:
        """Return the same in words."""

    def close(self) -> None:
        """Close what is open, finished or not."""


Opener = Callable[["Guests", "Sequence[Pair]"], Receiver]


@command(
    "forward",
    arguments=(
        *SELECTION,
        arg(
            "--otlp",
            metavar="ENDPOINT",
            help="send to a receiver of OTLP over HTTP, such as http://127.0.0.1:4318",
        ),
        PARQUET,
        PAIR.but(help="otlp: also a span from each START to its END; may be repeated"),
        *FOLLOW,
        KERNEL,
        GUARD,
        ALL,
        STRICT,
    ),
    examples=(
        "qtctl forward 'virtio_blk_*' --otlp http://127.0.0.1:4318",
        "qtctl forward 'virtio_blk_*' --parquet s3://traces/disks --duration 1h",
        "qtctl forward --otlp collector --pair virtio_blk_handle_read,virtio_blk_req_complete",
    ),
    details=(
        "Switches the patterns on while it runs, restores on exit (Ctrl-C). Without a pattern:\n"
        "sends what is on, and with --pair its events.\n"
        "\n"
        "OTLP: records are logs, pairs spans, counts and losses metrics. A receiver that is busy\n"
        "is asked again, for 30 s a request. Up to 64 MiB wait meanwhile; what comes then is\n"
        "dropped and counted (--strict: exit 6). $OTEL_EXPORTER_OTLP_HEADERS and _COMPRESSION\n"
        "hold. Needs qtctl[otlp].\n"
        "\n"
        "Parquet: a data set that several guests and hosts may write to at once; files are there\n"
        "when complete, after a minute or with 64 MiB. qtctl query and count read it. Needs\n"
        "qtctl[analysis]."
    ),
    selects=True,
    guests="together",
)
async def forward(context: Context, options: Options) -> Result:
    """Send until stopped."""
    openers = []
    if options.otlp is not None:
        openers.append(_otlp(options.otlp))
    if options.parquet is not None:
        openers.append(_parquet(options.parquet))
    if not openers:
        raise UsageError("forward needs a place to send to", hint="--otlp http://127.0.0.1:4318")
    return await _forward(context, options, with_pairs(options), openers)


async def record_data_set(context: Context, options: Options, chosen: Selection) -> Result:
    """Write to the data set of the verb record."""
    return await _forward(context, options, chosen, [_parquet(options.parquet)])


def _otlp(text: str) -> Opener:
    from qtctl.records.extra import need_analysis

    need_analysis("--otlp", "opentelemetry.proto", install="'qtctl[otlp]'")
    from qtctl.writers.otlp.sender import Endpoint
    from qtctl.writers.otlp.writer import GuestFacts, OtlpWriter

    endpoint = Endpoint.parse(text)

    def opened(session: Guests, pairs: Sequence[Pair]) -> Receiver:
        return OtlpWriter(endpoint, GuestFacts(guest_name(session), *_known(session)), pairs)

    return opened


def _known(session: Guests) -> tuple[int | None, Mapping[str, str]]:
    """Return the pid and attributes of a guest; nothing of several."""
    from qtctl.session.session import Session

    if not isinstance(session, Session):
        return None, {}
    pid = None if session.guest is None else session.guest.pid
    return pid, {"service.version": ".".join(map(str, session.monitor.version))}


def _parquet(text: str) -> Opener:
    from qtctl.records.extra import need_analysis

    need_analysis("--parquet", "pyarrow")
    from qtctl.writers.dataset import DataSetPlace, DataSetWriter

    place = DataSetPlace.parse(text)
    return lambda session, _: DataSetWriter(place, guest_name(session))


async def _forward(
    context: Context, options: Options, chosen: Selection, openers: Sequence[Opener]
) -> Result:
    from qtctl.records import schema

    context.stops = True
    async with context.guests() as session:
        names = list(await session.all_states())
        declared = await asyncio.to_thread(session.declared)
        pairs = []
        if getattr(options, "pair", ()):
            pairs = pairs_of(options, names, declared, session.where)
        stream = session.stream(follow_of(options, chosen))
        with contextlib.ExitStack() as stack:
            receivers = []
            for opener in openers:
                receivers.append(await asyncio.to_thread(opener, session, pairs))
                stack.callback(receivers[-1].close)
            progress = partial(_progress, stream, receivers)
            async with (
                following(context, stream, duration=options.duration, progress=progress) as items,
                _ticking(context, stream, receivers),
            ):
                async for item in items:
                    for receiver in receivers:
                        await asyncio.to_thread(receiver.write, item)
            for receiver in receivers:
                await asyncio.to_thread(receiver.end, _END_S)
    document = {**schema.summary(stream.counts), "type": "forward"}
    for receiver in receivers:
        context.say(receiver.words())
        document |= receiver.account()
    if options.strict:
        check_lost(stream.counts)
        if dropped := sum(one.dropped for one in receivers):
            raise DataLost(f"{dropped} records were not taken")
    return Result(document, lambda style: ())


@contextlib.asynccontextmanager
async def _ticking(
    context: Context, stream: Followed, receivers: Sequence[Receiver]
) -> AsyncIterator[None]:
    """Call the receivers' ``tick``, and say each of their problems once."""
    said = {""}

    async def tick() -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            for receiver in receivers:
                await asyncio.to_thread(receiver.tick)
                if (problem := receiver.problem) not in said:
                    said.add(problem)
                    context.complain(problem)

    ticking = asyncio.ensure_future(tick())
    ticking.add_done_callback(lambda _: stream.stop())
    try:
        yield
    finally:
        failed = ticking.done()
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
    if failed:
        ticking.result()


def _progress(stream: Followed, receivers: Sequence[Receiver]) -> str:
    dropped = sum(one.dropped for one in receivers)
    shown, lost = short(stream.counts.shown), lost_words(stream.counts)
    return f"{shown} records, {short(dropped)} dropped, {lost} lost"
