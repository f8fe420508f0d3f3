"""The verb that measures how long things take: latency."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtctl.commands.context import Context
from qtctl.commands.progress import Progress
from qtctl.commands.registry import Result, arg, command
from qtctl.commands.stream import BACKEND, announce, stop_when
from qtctl.commands.values import duration
from qtctl.commands.writing import say_sums
from qtctl.errors import LinkLost, QtctlError, UsageError
from qtctl.events.patterns import Selection

if TYPE_CHECKING:
    from qtctl.records.distribution import Spread
    from qtctl.session.latency import Latency, Question
    from qtctl.text.style import Style

_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_COLUMNS = ("count", *_SHARES, "max", "mean")
_MANY_REUSED = 0.1
_TOLD = {
    "in_flight": "in flight",
    "unpaired": "END without START",
    "reused": "START again before END",
    "dropped": "open at a loss",
    "forgotten": "open for too long, too many",
    "unreadable": "without a key",
    "filtered": "not matching --where",
    "disordered": "END before START by time",
}
"""What became of records that are in no figure: always the first two, the rest where it is so."""


def _keys(text: str) -> tuple[str, ...]:
    """Read ``req``, ``vdev,req`` or ``none``."""
    if text == "none":
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"not arguments: {text!r} (say req, or vdev,req)")
    return names


@command(
    "latency",
    "how long it takes from one event to another: percentiles and a histogram",
    arguments=(
        arg("start", metavar="START", help="event name or pattern", completes="event"),
        arg("end", metavar="END", help="event name or pattern", completes="event"),
        arg(
            "--key",
            metavar="ARG[,ARG]",
            type=_keys,
            help="arguments that are the same in a START and its END; tid: the same thread; "
            "none: the last START (default: the pointers they share, if nothing else)",
        ),
        arg("--by", metavar="ARG", help="a row for each value of this argument, tid or event"),
        arg(
            "--where",
            metavar="EXPR",
            help="only pairs whose START matches; whose END does, where only that can",
        ),
        arg("--from", metavar="FILE", dest="trace", type=Path, help="measure a file, not a guest"),
        BACKEND,
        arg("--duration", metavar="TIME", type=duration, help="stop after this long (10s, 2m)"),
    ),
    examples=(
        "qtctl latency virtio_blk_handle_read virtio_blk_req_complete --duration 10s",
        "qtctl latency 'virtio_blk_handle_*' virtio_blk_req_complete --key req --by event",
        "qtctl latency nvme_submit_command nvme_complete_command --key s,q_index,cid",
        "qtctl latency virtio_queue_notify virtio_queue_notify --key vq --where 'n == 0'",
        "qtctl latency thread_pool_submit_aio thread_pool_complete_aio --from trace-4711 --json",
    ),
    details=(
        "Switches START and END on while it runs, gives back on exit (Ctrl-C), then shows what it\n"
        "found. One event for both measures from each time to the next. An END belongs to the\n"
        "last START of the same key. A loss drops what was open, lest it be paired wrongly; what\n"
        "is in no figure is counted. Percentiles are within 0.4 %; count, mean, max are exact."
    ),
)
async def latency(context: Context, options: argparse.Namespace) -> int:
    """Measure until told to stop, or to the end of a file."""
    if options.trace is not None:
        measured, lost, problem = await _from_file(context, options)
    else:
        measured, lost, problem = await _live(context, options)
    _explain(context, measured)
    code = context.show(_result(measured, lost))
    if problem is not None:
        raise problem
    return code


def _ask(options: argparse.Namespace, names: list[str], declared: Any, source: str) -> Question:
    from qtctl.session.latency import Question

    return Question.ask(
        options.start,
        options.end,
        names,
        declared,
        source,
        key=options.key,
        by=options.by,
        where=options.where,
    )


_Found = tuple["Latency", int, QtctlError | None]


async def _live(context: Context, options: argparse.Namespace) -> _Found:
    from qtctl.session.latency import Latency

    context.stops = True
    problem: QtctlError | None = None
    async with context.attached() as session:
        names = list(await session.all_states())
        declared = await asyncio.to_thread(lambda: session.facts.declarations.by_name)
        measured = Latency(_ask(options, names, declared, session.where))
        stream = session.follow(options.start, options.end, backend=options.backend)
        try:
            async with stream:
                announce(context, stream)
                _announce_key(context, measured.question)
                stopping = asyncio.ensure_future(stop_when(context.stop, options.duration, stream))
                try:
                    async with contextlib.aclosing(aiter(stream)) as items:
                        async for item in items:
                            await asyncio.to_thread(measured.take, item)
                finally:
                    stopping.cancel()
        except LinkLost as error:
            problem = error
        say_sums(context, stream.counts)
    return measured, stream.counts.lost, problem


async def _from_file(context: Context, options: argparse.Namespace) -> _Found:
    from qtctl.session.latency import Latency
    from qtctl.session.replaying import Replay

    if options.duration is not None or options.backend != "auto":
        raise UsageError("--duration and --backend are for a guest, not for a file")
    trace = await asyncio.to_thread(
        Replay,
        options.trace,
        events_all=context.events_all,
        selection=Selection.of(options.start, options.end),
    )
    with contextlib.closing(trace):
        for note in trace.notes:
            context.say(note)
        table = trace.table
        question = _ask(options, list(table.names), table.declarations, str(trace.path))
        _announce_key(context, question)
        measured = Latency(question)
        context.stops = True

        def step() -> bool:
            items = trace.step()
            for item in items or ():
                measured.take(item)
            return items is not None

        progress = Progress(context, trace.size, alone=True)
        try:
            while not context.stop.is_set() and await asyncio.to_thread(step):
                progress.tell(trace.taken)
        finally:
            progress.clear()
        say_sums(context, trace.counts)
    return measured, trace.counts.lost, QtctlError(trace.problem) if trace.problem else None


def _announce_key(context: Context, question: Question) -> None:
    if question.learned:
        context.say(f"pairs have the same {' and '.join(question.key)} (else: --key)")


def _explain(context: Context, measured: Latency) -> None:
    """Tell on stderr why figures may not be what they seem."""
    counts = measured.counts
    if counts.reused > _MANY_REUSED * (counts.paired + counts.reused):
        context.complain(
            f"{counts.reused} STARTs came again before their END: is --key "
            f"{measured.question.key_words} enough to tell them apart?"
        )
    if measured.arrived:
        context.complain(
            "times are those at which qtctl read the records, for QEMU gave none: differences mean "
            "little; start QEMU with -msg timestamp=on, or try another backend"
        )


def _result(measured: Latency, lost: int) -> Result:
    question = measured.question
    groups = [] if question.by is None else list(_groups(measured))
    whole = measured.spans.spread()
    document = {
        "start": question.starts,
        "end": question.ends,
        "key": question.key,
        "by": question.by,
        "unit": "ns",
        **_figures(whole),
        "histogram": [[bar.low, bar.high, bar.count] for bar in whole.log2()],
        "groups": [{"value": value, **_figures(spread)} for value, spread in groups],
        **_rest(measured),
        "lost": lost,
    }
    return Result(document, lambda style: _lines(style, measured, whole, groups))


def _groups(measured: Latency) -> Iterator[tuple[int | str | None, Spread]]:
    """Yield value and latencies of each group that has pairs, the most frequent first."""
    values = [*measured.groups.values, "(others)"]
    spreads = ((values[n], measured.spans.spread(n)) for n in range(len(measured.spans)))
    found = [(value, spread) for value, spread in spreads if spread.count]
    return iter(sorted(found, key=lambda one: -one[1].count))


def _figures(spread: Spread) -> dict[str, float | None]:
    """Return the figures of some latencies, in ns; None where there is no pair."""
    if not spread.count:
        return {"count": 0, **dict.fromkeys(_COLUMNS[1:])}
    shares = zip(_SHARES, spread.percentiles(list(_SHARES.values())), strict=True)
    return {
        "count": spread.count,
        **dict(shares),
        "max": spread.most,
        "mean": round(spread.mean, 1),
    }


def _rest(measured: Latency) -> dict[str, int]:
    """Return what became of the records that are in no figure, by the names in ``_TOLD``."""
    own = ("filtered", "disordered")
    return {name: getattr(measured if name in own else measured.counts, name) for name in _TOLD}


def _lines(
    style: Style,
    measured: Latency,
    whole: Spread,
    groups: list[tuple[int | str | None, Spread]],
) -> Iterator[str]:
    from qtctl.text.histogram import duration_words, histogram
    from qtctl.text.tables import pairs, table

    rest = [(words, _rest(measured)[name]) for name, words in _TOLD.items()]
    told = [(words, str(count)) for place, (words, count) in enumerate(rest) if count or place < 2]
    figures = _words(whole)
    if measured.question.by is None:
        yield from pairs(style, [*zip(_COLUMNS, figures, strict=True), *told])
    else:
        rows = [[_value(measured.question, value), *_words(spread)] for value, spread in groups]
        yield from table(style, [measured.question.by, *_COLUMNS], [*rows, ["all", *figures]])
        yield from pairs(style, told)
    yield from histogram(style, whole.log2(), duration_words)


def _words(spread: Spread) -> list[str]:
    from qtctl.text.histogram import duration_words

    count, *spans = _figures(spread).values()
    return [str(count), *("-" if span is None else duration_words(span) for span in spans)]


def _value(question: Question, value: int | str | None) -> str:
    """Return a group's value as people write it."""
    if value is None:
        return "(none)"
    return f"{value:#x}" if question.by_hex and isinstance(value, int) else str(value)
