"""The verb latency: measure the time from one event to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from qtctl.commands.collecting import (
    SOURCE,
    Gathering,
    KnownEvents,
    figure_words,
    figures,
    value_words,
)
from qtctl.commands.context import Context, Result
from qtctl.commands.options import BY, CLOCK, KEY, WHERE
from qtctl.commands.registry import Options, arg, command
from qtctl.events.selection import Selection

if TYPE_CHECKING:
    from qtctl.analysis.distribution import Statistics
    from qtctl.analysis.latency import Latency
    from qtctl.text.style import Style

_MANY_REUSED = 0.1
_REASONS = {
    "in_flight": "in flight",
    "unpaired": "END without START",
    "reused": "START again before END",
    "unseen": "END of an earlier START",
    "dropped": "open at a loss",
    "forgotten": "open for too long, too many",
    "unreadable": "without a key",
    "filtered": "not matching --where",
    "disordered": "where times step back",
    "mixed": "of two clocks",
    "arrived": "by arrival times",
}
"""Why records are in no figure. An earlier START came before the first record, or was lost."""


@command(
    "latency",
    arguments=(
        arg("start", metavar="START", help="event name or pattern", completes="event"),
        arg("end", metavar="END", help="event name or pattern", completes="event"),
        KEY,
        BY.but(default=None, help="a row for each value of this argument, tid, guest, file, event"),
        WHERE.but(help="only pairs whose START matches; whose END does, where only that can"),
        *(one for one in SOURCE if one is not CLOCK),
        CLOCK.but(
            default="auto",
            help="times of log lines that have none: when QEMU wrote them, by the kernel (as "
            "root), or when qtctl reads them (arrival); auto (default): the kernel's if permitted",
        ),
    ),
    examples=(
        "qtctl latency virtio_blk_handle_read virtio_blk_req_complete --duration 10s",
        "qtctl latency 'virtio_blk_handle_*' virtio_blk_req_complete --key req --by event",
        "qtctl latency nvme_submit_command nvme_complete_command --key s,q_index,cid",
        "qtctl latency virtio_queue_notify virtio_queue_notify --key vq --where 'n == 0'",
        "qtctl latency virtio_blk_handle_read virtio_blk_req_complete --interval 1s --ndjson",
        "qtctl latency virtio_blk_handle_read virtio_blk_req_complete --clock kernel",
        "qtctl latency thread_pool_submit_aio thread_pool_complete_aio --from trace-4711 --json",
        "qtctl latency kvm:kvm_exit kvm:kvm_entry --key vcpu_id --duration 10s",
    ),
    details=(
        "Switches START and END on while it runs, restores on exit (Ctrl-C), then prints what it\n"
        "found. One event for both measures from each time to the next. An END belongs to the\n"
        "last START of the same key. A loss drops what was open, lest it be paired wrongly; what\n"
        "is in no figure is counted. What came before both were on, or after one went off, is\n"
        "passed over. Pairs by times at which qtctl read the records are in no figure; where it\n"
        "may, qtctl has the kernel tell when a log without times was written (--clock auto).\n"
        "Percentiles occurred, and are within 0.8 %; count, mean, max are exact."
    ),
    guests="together",
)
async def latency(context: Context, options: Options) -> int:
    """Measure until stopped, or to the end of a file."""

    def ready(known: KnownEvents) -> Latency:
        from qtctl.analysis.latency import Latency, Question

        question = Question.ask(
            options.start,
            options.end,
            known.names,
            known.declared,
            known.source,
            key=options.key,
            by=options.by,
            where=options.where,
        )
        if question.learned:
            context.say(f"pairs have the same {' and '.join(question.key)} (else: --key)")
        others.extend(question.other_ends(known.declared))
        return Latency(question)

    others: list[str] = []
    printed: set[str] = set()

    def result(measured: Latency) -> Result:
        for kind, text in warnings(measured, others):
            if kind not in printed:
                context.complain(text)
            printed.add(kind)
        return _result(measured)

    chosen = Selection.of(options.start, options.end)
    return await Gathering(context, options, chosen, ready, result, whole=True).run()


def warnings(measured: Latency, others: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield warnings about the figures, each with its kind.

    ``others`` are further events that may complete a START.
    """
    counts = measured.counts
    if others and counts.reused + counts.in_flight > _MANY_REUSED * counts.paired:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        yield (
            "ends",
            f"{counts.reused + counts.in_flight} STARTs have no END: other events may complete "
            f"them too: {', '.join(others[:3])}{more} (END may be a pattern)",
        )
    if counts.reused > _MANY_REUSED * (counts.paired + counts.reused):
        yield (
            "key",
            f"{counts.reused} STARTs came again before their END: does --key "
            f"{measured.question.key_words} identify them?",
        )
    if measured.coarse and measured.coarse == measured.spans.statistics().count:
        yield (
            "second",
            "times are of whole seconds, as a system log writes them: differences mean little; "
            "journalctl -o short-unix and rsyslog's RSYSLOG_FileFormat have more",
        )
    if measured.arrived:
        yield (
            "time",
            f"{measured.arrived} pairs are in no figure: QEMU gave their records no times, and "
            "those at which qtctl read them say little; as root --clock kernel has exact ones; "
            "or start QEMU with -msg timestamp=on, or try another backend",
        )


def _result(measured: Latency) -> Result:
    question = measured.question
    groups = [] if question.by is None else _groups(measured)
    whole = measured.spans.statistics()
    document = {
        "type": "latency",
        "start": question.starts,
        "end": question.ends,
        "key": question.key,
        "by": question.by,
        "unit": "ns",
        **figures(whole),
        "histogram": [[bar.low, bar.high, bar.count] for bar in whole.log2()],
        "groups": [{"value": value, **figures(spread)} for value, spread in groups],
        **_rest(measured),
    }
    refused = bool(measured.arrived and not whole.count)
    return Result(document, lambda style: _lines(style, measured, whole, groups), int(refused))


def _groups(measured: Latency) -> list[tuple[int | str | None, Statistics]]:
    """Return the value and statistics of each group with pairs, the most frequent first."""
    spreads = map(measured.spans.statistics, range(len(measured.spans)))
    found = [pair for pair in zip(measured.groups.values, spreads, strict=False) if pair[1].count]
    return sorted(found, key=lambda pair: -pair[1].count)


def left_out(measured: Latency, least: int = 3) -> list[tuple[str, int]]:
    """Return why records are in no figure, and how many; the first ``least`` reasons always."""
    rest = _rest(measured)
    return [(_REASONS[one], rest[one]) for n, one in enumerate(_REASONS) if rest[one] or n < least]


def _rest(measured: Latency) -> dict[str, int]:
    """Return the counts of records that are in no figure, by the names in ``_REASONS``."""
    own = ("filtered", "disordered", "mixed", "arrived")
    return {name: getattr(measured if name in own else measured.counts, name) for name in _REASONS}


def _lines(
    style: Style,
    measured: Latency,
    whole: Statistics,
    groups: list[tuple[int | str | None, Statistics]],
) -> Iterator[str]:
    from qtctl.text.bars import histogram
    from qtctl.text.tables import pairs, table
    from qtctl.text.units import duration_words

    reasons = [(words, str(count)) for words, count in left_out(measured)]
    by, in_hex = measured.question.by, measured.question.by_hex
    if by is None:
        yield from pairs(style, [*figure_words(whole, duration_words), *reasons])
    else:
        named = [(value_words(value, in_hex), spread) for value, spread in groups]
        cells = [
            [name, *dict(figure_words(spread, duration_words)).values()]
            for name, spread in [*named, ("all", whole)]
        ]
        yield from table(style, [by, *figures(whole)], cells)
        yield from pairs(style, reasons)
    yield from histogram(style, whole.log2(), duration_words)
