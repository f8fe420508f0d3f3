"""The verb count: count records by event or argument, or as a histogram."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import partial
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
from qtctl.commands.following import check_lost
from qtctl.commands.formatting import lost_words
from qtctl.commands.options import BY, LIMIT, SELECTION, WHERE
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.values import selection
from qtctl.errors import UsageError
from qtctl.recordings.data_sets import may_be_data_set

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from qtctl.analysis.counts import ArgumentValues, Tally
    from qtctl.analysis.distribution import Bar, Statistics
    from qtctl.events.selection import Selection
    from qtctl.query.data_set import SetTally
    from qtctl.text.style import Style


@command(
    "count",
    arguments=(
        *SELECTION,
        WHERE,
        BY.but(help="group by an argument, tid, guest (run, process), file or event (default)"),
        arg(
            "--hist",
            metavar="ARG",
            help="a histogram of this argument's numbers instead",
            completes="argument",
        ),
        arg("--linear", action="store_true", help="bars of one width, not of powers of two"),
        LIMIT._replace(hidden=("--top",)).but(default=20, help="the N most frequent (default: 20)"),
        *SOURCE,
    ),
    examples=(
        "qtctl count 'virtio_*' --duration 10s",
        "qtctl count virtio_blk_handle_read --by nsectors --duration 10s",
        "qtctl count 'virtio_*' --interval 5s",
        "qtctl count 'memory_region_ops_*' --where 'size == 4' --by addr --limit 5 --duration 2s",
        "qtctl count virtio_blk_handle_read --hist sector --linear --from trace-4711",
        "qtctl count 'kvm:kvm_exit' --by exit_reason --duration 10s",
        "qtctl count --by file --from vm1.log --from vm2.log",
        "qtctl count --by guest --from s3://traces/disks",
    ),
    details=(
        "Switches the patterns on while it runs, restores on exit (Ctrl-C), then prints what it\n"
        "counted; without a pattern it counts what is on. --json has all values, whatever\n"
        "--limit. qtctl top shows rates while they happen."
    ),
    selects=True,
    guests="together",
)
async def count(context: Context, options: Options) -> int:
    """Count until stopped, or to the end of a file."""
    chosen = selection(options)
    if sets := [path for path in options.traces if may_be_data_set(path)]:
        return await _count_sets(context, options, chosen, sets)
    in_hex = False

    def ready(known: KnownEvents) -> Tally | ArgumentValues:
        from qtctl.analysis.counts import ArgumentValues, Tally, check_argument
        from qtctl.analysis.groups import OWN
        from qtctl.records.printf import hex_arguments

        nonlocal in_hex
        picked = known.pick(chosen)
        name = options.hist or options.by
        if options.hist or name not in OWN:
            check_argument(name, picked, known.declared, number=bool(options.hist))
            declared = [known.declared[one] for one in picked if one in known.declared]
            having = (one for one in declared if any(a.name == name for a in one.arguments))
            in_hex = any(name in hex_arguments(one) for one in having)
        return ArgumentValues(name) if options.hist else Tally(name)

    def result(collector: Tally | ArgumentValues) -> Result:
        from qtctl.analysis.counts import ArgumentValues

        if isinstance(collector, ArgumentValues):
            return _distribution(collector, options.linear, in_hex)
        return _tally(collector, options.limit, in_hex)

    return await Gathering(context, options, chosen, ready, result, where=options.where).run()


async def _count_sets(
    context: Context, options: Options, chosen: Selection, paths: Sequence[Path]
) -> int:
    """Count the records of data sets."""
    from qtctl.records.extra import need_analysis

    need_analysis("a data set", "pyarrow", "duckdb")
    from qtctl.query.data_set import QueriedSet, SetTally, data_set_at
    from qtctl.records.counts import Counts

    others = {"where", "hist", "linear", "duration", "interval", "backend", "guard"}
    if others & {*options.given} or len(paths) < len(options.traces):
        raise UsageError(
            "a data set is counted by event, guest, host, tid or argument, and not beside files",
            hint="qtctl query 'SELECT event, count(*) FROM events GROUP BY event' DIR",
        )

    def counted() -> tuple[Result, Counts]:
        places = [data_set_at(path) for path in paths]
        for path, place in zip(paths, places, strict=True):
            if place is None:
                raise UsageError(f"{path} holds no data set of qtctl")
        sets = [QueriedSet(place) for place in places if place is not None]
        tally, lost = SetTally(sets, chosen, options.by), Counts()
        for one in sets:
            lost += one.counts()
        shown = _tally(tally, options.limit, False)
        losses = {"lost": lost.lost, "unknown_losses": lost.unknown_losses}
        return shown._replace(document={**shown.document, **losses}), lost

    shown, lost = await asyncio.to_thread(counted)
    if lost.lost or lost.unknown_losses:
        context.complain(f"{lost_words(lost)} records are missing")
    if options.strict:
        check_lost(lost)
    if options.ndjson:
        context.write([json.dumps(shown.document)])
        return 0
    return context.show(shown)


def _tally(collector: Tally | SetTally, top: int | None, in_hex: bool) -> Result:
    found = collector.found()
    document = {
        "type": "count",
        "by": collector.by,
        "count": sum(number for _, number in found),
        "groups": [{"value": value, "count": number} for value, number in found],
    }
    return Result(document, lambda style: _table(style, collector.by, found, top, in_hex))


def _distribution(collector: ArgumentValues, linear: bool, in_hex: bool) -> Result:
    spread = collector.numbers.statistics()
    bars = spread.linear() if linear else spread.log2()
    document = {
        "type": "count",
        "hist": collector.argument,
        **figures(spread),
        "histogram": [[bar.low, bar.high, bar.count] for bar in bars],
    }
    return Result(document, lambda style: _histogram(style, spread, bars, in_hex))


def _table(
    style: Style, by: str, found: list[tuple[int | str | None, int]], top: int | None, in_hex: bool
) -> Iterator[str]:
    from qtctl.text.tables import table

    whole = sum(number for _, number in found)
    rows = [(value_words(value, in_hex), number) for value, number in found[:top]]
    if top is not None and found[top:]:
        rows.append((f"({len(found) - top} more)", sum(number for _, number in found[top:])))
    cells = [[str(number), f"{100 * number / whole:.1f}%", words] for words, number in rows]
    yield from table(style, ["COUNT", "SHARE", by.upper()], cells)


def _histogram(style: Style, spread: Statistics, bars: list[Bar], in_hex: bool) -> Iterator[str]:
    from qtctl.text.bars import histogram
    from qtctl.text.tables import pairs

    label = partial(value_words, in_hex=in_hex)
    yield from pairs(style, figure_words(spread, label))
    yield from histogram(style, bars, label)
