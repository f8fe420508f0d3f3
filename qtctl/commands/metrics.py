"""The verb metrics: serve figures of a stream to Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

from qtctl.commands.context import Context, Result
from qtctl.commands.following import check_lost, follow_of, following, records_read
from qtctl.commands.options import BY, FOLLOW, GUARD, KERNEL, LIMIT, PAIR, SELECTION, STRICT
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import listener, selection
from qtctl.errors import UsageError
from qtctl.events.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from qtctl.analysis.meters import Pair
    from qtctl.model import Declaration
    from qtctl.session.several import Guests

_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - to warn of them
_LABELS = 50


@command(
    "metrics",
    arguments=(
        *SELECTION,
        PAIR.but(help="also a histogram of the latency of this pair of events; may be repeated"),
        BY.but(default=None, help="also count apart by this argument (no pointer), or tid"),
        LIMIT.but(
            default=_LABELS,
            help=f"values of --by beyond the first N are counted as one (default: {_LABELS})",
        ),
        arg(
            "--listen",
            metavar="HOST:PORT",
            type=listener,
            default=("127.0.0.1", 9464),
            help="where Prometheus asks for them (default: 127.0.0.1:9464)",
        ),
        *FOLLOW,
        KERNEL,
        GUARD,
        STRICT,
    ),
    examples=(
        "qtctl metrics 'virtio_blk_*' --pair virtio_blk_handle_read,virtio_blk_req_complete",
        "qtctl metrics 'memory_region_ops_*' --by name --limit 20",
        "qtctl metrics 'nvme_*' --listen '[::1]:9500' --duration 1h",
    ),
    details=(
        "Switches the patterns on while it runs, restores on exit (Ctrl-C). Without a pattern:\n"
        "counts what is on, and with --pair its events. Names of metrics begin with qtctl_:\n"
        "records_total, record_bytes_total, lost_records_total, unknown_losses_total,\n"
        "latency_seconds, in_flight, latency_left_out_total. Whoever reaches HOST:PORT can read\n"
        "them. Figures begin when the verb does, and are gone when it ends.\n"
        "Needs qtctl[prometheus]."
    ),
    selects=True,
    guests="together",
)
async def metrics(context: Context, options: Options) -> Result:
    """Serve figures until stopped."""
    from qtctl.records.extra import need_analysis

    need_analysis("metrics", "prometheus_client", install="'qtctl[prometheus]'")
    from qtctl.analysis.meters import Label, Meters
    from qtctl.records import schema
    from qtctl.writers.prometheus import MetricsServer

    chosen = with_pairs(options)
    context.stops = True
    async with context.guests(elsewhere=False) as guests:
        names = list(await guests.all_states())
        declared = await asyncio.to_thread(guests.declared)
        pairs = pairs_of(options, names, declared, guests.where)
        by = None
        if options.by is not None:
            picked = chosen.pick(names) if chosen else names
            by = Label.ask(options.by, options.limit or _LABELS, picked, declared)
        stream = guests.stream(follow_of(options, chosen))
        meters = Meters(None if context.several else guest_name(guests), pairs, by)
        host, port = options.listen
        with contextlib.closing(
            MetricsServer(meters, host, port, partial(_facts, guests))
        ) as server:
            context.say(f"metrics at {server.url}")
            if host in _ANYWHERE:
                context.complain(f"{host} is every network of this host: anyone there can read")
            progress = partial(records_read, stream)
            async with following(
                context, stream, duration=options.duration, progress=progress
            ) as items:
                async for item in items:
                    await asyncio.to_thread(meters.take, item)
    if options.strict:
        check_lost(stream.counts)
    document = schema.summary(stream.counts)
    return Result({**document, "type": "metrics", "url": server.url}, lambda style: ())


def with_pairs(options: Options) -> Selection:
    """Return the selection of a verb, with the events of its pairs.

    Raises:
        UsageError: what :func:`selection` does; or there is a pair and ``--where``.
    """
    if options.pair and options.where is not None:
        raise UsageError(
            "--where filters single records, and a --pair has two",
            hint="qtctl latency START END --where EXPR",
        )
    events = [name for start, end, _ in options.pair for name in (start, end)]
    return Selection.of(selection(options), *events)


def pairs_of(
    options: Options, names: Sequence[str], declared: Mapping[str, Declaration], source: str
) -> list[Pair]:
    """Return the checked pairs of a verb.

    Raises:
        NothingMatched: a pattern of a pair matches none of ``names``, the events of ``source``.
        UsageError: a key does not fit its events.
    """
    from qtctl.analysis.latency import Question
    from qtctl.analysis.meters import Pair

    return [
        Pair(start, end, Question.ask(start, end, names, declared, source, key=key))
        for start, end, key in options.pair
    ]


def guest_name(session: Guests) -> str:
    """Return the name by which figures and records of a guest are sent on.

    It is for those that name none: of several guests, all do.
    """
    guest = getattr(session, "guest", None)
    if guest is None:
        return session.where
    return str(guest.name or f"pid {guest.pid}")


def _facts(guests: Guests) -> Iterator[dict[str, str]]:
    """Yield the labels of the own metric of each guest that is attached now."""
    from qtctl.session.several import Several

    sessions = guests.sessions if isinstance(guests, Several) else {guest_name(guests): guests}
    for name, session in sessions.items():
        version = ".".join(map(str, session.monitor.version))
        facts = {"guest": name, "qemu_version": version}
        yield facts if session.guest is None else {**facts, "pid": str(session.guest.pid)}
