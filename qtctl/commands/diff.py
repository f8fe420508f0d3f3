"""The verb diff: compare two runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtctl.commands.collecting import figures, value_words
from qtctl.commands.context import Context, Result
from qtctl.commands.formatting import loss_words, lost_words
from qtctl.commands.options import EXCEPT, FILE, KEY, PAIR, PATTERNS, STRICT, WHERE
from qtctl.commands.progress import bytes_progress
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.replaying import open_replay, say_doubts
from qtctl.commands.values import selection
from qtctl.errors import DataLost, QtctlError, UsageError
from qtctl.text.style import escaped
from qtctl.text.units import ABOUT, short

if TYPE_CHECKING:
    from qtctl.analysis.alignment import Alignment
    from qtctl.analysis.compare import Comparison, EventChange, Profile
    from qtctl.records.columns import Record
    from qtctl.records.items import Loss
    from qtctl.session.replay import Replay
    from qtctl.text.style import Style

_RATE = 1.25
_SHARE = 0.1
_ROWS = 20
_PLACES = 5
_QUANTILES = {"p50": 0.5, "p99": 0.99}


@command(
    "diff",
    arguments=(
        arg("one", metavar="A", type=Path, help="a recording, a trace or a log", completes="file"),
        arg("two", metavar="B", type=Path, help="the file to compare it with", completes="file"),
        PATTERNS.but(help="only these events"),
        EXCEPT,
        FILE,
        WHERE,
        PAIR,
        KEY.but(help="the key of each --pair that has none of its own"),
        arg("--all", action="store_true", help="also print what did not change"),
        STRICT,
    ),
    examples=(
        "qtctl diff before.qtr after.qtr",
        "qtctl diff good.log bad.log 'virtio_*' --all",
        "qtctl diff a.qtr b.qtr --pair virtio_blk_handle_read,virtio_blk_req_complete --json",
    ),
    details=(
        "records    arguments that differ, records of one run only, and the places where the runs\n"
        "           part. Host addresses and threads match in order of appearance.\n"
        "events     that occur in one run only, or with rates 1.25 times apart (by counts where\n"
        "           times are unknown)\n"
        "order      events whose first occurrence changed its order; and successions: B right\n"
        "           after A in a share of cases, on one thread where threads are known,\n"
        "           where that differs by a tenth\n"
        "latencies  of pairs that names and arguments make obvious (*_start and *_end with one\n"
        "           pointer), and of each --pair\n"
        "Shows the 20 greatest changes of each and 5 places; --all and --json have everything\n"
        '(and 100 places). It prints "no differences" only if the records are the same, their\n'
        "times too. ~ marks figures by times at which qtctl read the records."
    ),
    selects=True,
)
async def diff(context: Context, options: Options) -> Result:
    """Read two files and print their differences."""
    from qtctl.analysis.alignment import Alignment
    from qtctl.analysis.compare import compare, profile_of

    chosen = selection(options)
    context.stops = True
    with contextlib.ExitStack() as stack:
        traces, profiles = [], []
        for path in (options.one, options.two):
            trace = await open_replay(context, path, chosen, options.where, named=True)
            stack.callback(trace.close)
            traces.append(trace)
            table, source = trace.table, str(path)
            asked = [
                (start, end, options.key if key is None else key)
                for start, end, key in options.pair
            ]
            profiles.append(profile_of(table.names, table.declarations, asked, source))
        alignment = Alignment()
        await _read(context, traces, profiles, alignment)
    if context.stop.is_set():
        raise QtctlError("stopped before all was read: there is nothing to compare")
    for trace, profile in zip(traces, profiles, strict=True):
        _say_read(context, trace, profile)
    found = compare(*profiles)
    problems = [trace.problem for trace in traces if trace.problem]
    for problem in problems:
        context.complain(problem)
    whole = not problems and not any(map(_missing, traces))
    every = not chosen and options.where is None
    lines = [trace.counts.filtered if every else 0 for trace in traces]
    in_hex = traces[0].hex_arguments() | traces[1].hex_arguments()
    everything = options.all or context.json
    return Result(
        {**_document(traces, profiles, found), **_records(alignment, whole and not any(lines))},
        lambda style: chain(
            _lines(style, found, profiles, alignment, everything, in_hex),
            _verdict(alignment, whole, lines),
            _places(style, alignment, None if options.all else _PLACES, in_hex),
        ),
        _exit_code(options, traces),
    )


def _exit_code(options: Options, traces: list[Replay]) -> int:
    if options.strict and any(map(_missing, traces)):
        return DataLost.exit_code
    return int(any(trace.problem for trace in traces))


async def _read(
    context: Context, traces: list[Replay], profiles: list[Profile], alignment: Alignment
) -> None:
    """Read both files side by side."""

    def step() -> bool:
        side = alignment.behind()
        if side is None:
            return False
        items = traces[side].step()
        if items is None:
            alignment.end(side)
        for item in items or ():
            profiles[side].take(item)
            alignment.take(side, item)
        return True

    with bytes_progress(context, sum(trace.size for trace in traces)) as progress:
        while not context.stop.is_set() and await asyncio.to_thread(step):
            progress.update(sum(trace.taken for trace in traces))


def _say_read(context: Context, trace: Replay, profile: Profile) -> None:
    say_doubts(context, trace)
    counts, seconds = trace.counts, profile.seconds
    if not counts.shown:
        raise UsageError(
            f"{trace.path} has no record of these events: nothing to compare", hint=trace.problem
        )
    took = "" if seconds is None else f" in {_about(profile)}{seconds:.3g} s"
    lost = f", {lost_words(counts)} lost" if counts.lost or counts.unknown_losses else ""
    context.say(f"{trace.path}: {counts.shown} records{took}{lost}")


def _missing(trace: Replay) -> bool:
    counts = trace.counts
    return bool(counts.lost or counts.unknown_losses or counts.unread)


def _about(profile: Profile) -> str:
    """Return the mark of figures by times at which qtctl read the records."""
    return ABOUT if profile.arrived else ""


def _document(traces: list[Replay], profiles: list[Profile], found: Comparison) -> dict[str, Any]:
    from qtctl.records.schema import declarations

    one, two = (
        {
            "path": str(trace.path),
            "seconds": profile.seconds,
            "arrived": profile.arrived,
            **declarations(trace.counts),
        }
        for trace, profile in zip(traces, profiles, strict=True)
    )
    return {
        "a": one,
        "b": two,
        "events": [{**asdict(one), "change": one.change} for one in found.events],
        "moved": found.moved,
        "order": list(map(asdict, found.order)),
        "latencies": [
            {
                "start": question.starts,
                "end": question.ends,
                "key": question.key,
                "unit": "ns",
                "a": figures(spreads[0], _QUANTILES),
                "b": figures(spreads[1], _QUANTILES),
            }
            for question, spreads in found.latencies
        ],
    }


def _records(alignment: Alignment, whole: bool) -> dict[str, Any]:
    """Return what a comparison record by record found, as JSON."""
    from qtctl.records import schema
    from qtctl.records.items import Loss

    def row(one: Record | Loss) -> dict[str, Any]:
        return schema.to_object(one) if isinstance(one, Loss) else schema.record(one)

    return {
        "same": alignment.alike and whole and not alignment.differ,
        "records": {
            "same": alignment.same,
            "changed": alignment.changes,
            "only_a": alignment.only[0],
            "only_b": alignment.only[1],
            "differ": sorted(alignment.differ),
            "addresses": _mismatch(alignment.addresses.differ, alignment.first_addresses),
            "threads": _mismatch(alignment.threads.differ, alignment.first_threads),
            "parted": alignment.parted,
        },
        "arguments": [asdict(one) for one in alignment.changed.values()],
        "places": [
            {
                "at": place.at,
                "counts": place.counts,
                "before": list(map(schema.record, place.before)),
                "a": list(map(row, place.rows[0])),
                "b": list(map(row, place.rows[1])),
            }
            for place in alignment.places
        ],
        "place_count": alignment.place_count,
    }


def _mismatch(count: int, first: tuple[int, int] | None) -> dict[str, Any]:
    return {"count": count, "first": first}


def _verdict(alignment: Alignment, whole: bool, lines: list[int]) -> Iterator[str]:
    """Yield whether the records are the same, or how many differ; ``lines`` were not compared."""
    same, differ = alignment.same, alignment.differ
    if not alignment.alike:
        only, more = alignment.only, "at least " if alignment.parted else ""
        yield (
            f"records: {same} the same, {more}{alignment.changes} changed, "
            f"{more}{only[0]} only in A, {more}{only[1]} only in B"
        )
    elif not whole:
        yield f"no differences in {same} records; others could not be read, or were lost"
    elif differ:
        yield f"the same {same} records in the same order; {_and(sorted(differ))} differ"
    else:
        yield f"no differences in {same} records" if any(lines) else "no differences"
    if any(lines):
        yield f"not compared: {lines[0]} lines of A and {lines[1]} of B that are no records"


def _places(
    style: Style, alignment: Alignment, most: int | None, in_hex: Mapping[str, frozenset[str]]
) -> Iterator[str]:
    """Yield the first places where the runs differ, with the records before each."""
    from qtctl.records.items import Loss

    for place in alignment.places[:most]:
        part = "at" if place is not alignment.places[0] else "the runs part at"
        yield f"{part} record {place.at[0]} of A, {place.at[1]} of B:"
        yield from (f"  {_row(one, in_hex)}" for one in place.before)
        for sign, rows, count in zip("-+", place.rows, place.counts, strict=True):
            role = "bad" if sign == "-" else "good"
            yield from (style.paint(f"{sign} {_row(one, in_hex)}", role) for one in rows)
            left = count - sum(not isinstance(one, Loss) for one in rows)
            if left > 0:
                yield style.paint(f"{sign} and {left} more", role)
    shown = len(alignment.places[:most])
    if shown < alignment.place_count:
        hint = ": --all" if shown < len(alignment.places) else ""
        yield style.paint(f"and {alignment.place_count - shown} more places{hint}", "faint")
    if alignment.parted:
        yield (
            f"from record {alignment.parted[0]} of A and {alignment.parted[1]} of B on the runs "
            "are too different to be compared record by record"
        )


def _row(one: Record | Loss, in_hex: Mapping[str, frozenset[str]]) -> str:
    """Return a record as text, safe to print."""
    from qtctl.records.items import Loss

    if isinstance(one, Loss):
        return loss_words(one)
    shown = in_hex.get(one.name, frozenset())
    words = [f"{name}={value_words(value, name in shown)}" for name, value in one.args.items()]
    return escaped(" ".join([one.name, *words, *([one.raw] if one.raw else [])]))


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _differs(ratio: float | None) -> bool:
    return ratio is None or not 1 / _RATE < ratio < _RATE


def _lines(
    style: Style,
    found: Comparison,
    profiles: list[Profile],
    alignment: Alignment,
    everything: bool,
    in_hex: Mapping[str, frozenset[str]],
) -> Iterator[str]:
    """Yield the table of differences; nothing if there are none."""
    from qtctl.text.tables import table
    from qtctl.text.units import duration_words

    most = None if everything else _ROWS
    abouts = [_about(profile) for profile in profiles]
    events = [one for one in found.events if everything or _differs(one.change)]
    order = [one for one in found.order if everything or abs(one.change) >= _SHARE]
    rows = []
    for one in events[:most]:
        sides = list(map(str, one.counts))
        if one.rates:
            sides = [
                f"{about}{short(rate)}/s" for about, rate in zip(abouts, one.rates, strict=True)
            ]
        rows.append(("event", one.name, *sides, _event_words(one)))
    for name in found.moved[:most]:
        rows.append(("order", f"first {name}", "", "", "changed its place"))
    for step in order[:most]:
        shares = [f"{100 * share:.0f} %" for share in step.shares]
        change = f"{100 * step.change:+.0f}"
        rows.append(("order", f"{step.before} > {step.after}", *shares, change))
    for question, spreads in found.latencies[:most]:
        name = f"{question.starts[0]} > {question.ends[0]}"
        for label, share in _QUANTILES.items():
            one_ns, two_ns = (spread.percentiles([share])[0] for spread in spreads)
            ratio = (two_ns + 1) / (one_ns + 1)
            if everything or _differs(ratio):
                sides = [duration_words(one_ns), duration_words(two_ns)]
                rows.append(("latency", f"{name} {label}", *sides, f"x {ratio:.2f}"))
    for argument in list(alignment.changed.values())[:most]:
        hexed = argument.argument in in_hex.get(argument.event, ())
        rows.append(
            (
                "argument",
                f"{argument.event} {argument.argument}",
                *(value_words(value, hexed) for value in argument.values),
                f"in {argument.count}, first {argument.at[0]}",
            )
        )
    for name, numbers, first in (
        ("addresses", alignment.addresses, alignment.first_addresses),
        ("threads", alignment.threads, alignment.first_threads),
    ):
        if first is not None:
            places = [f"record {number}" for number in first]
            rows.append((name, "stand for others than before", *places, f"{numbers.differ} times"))
    if rows:
        yield from table(style, ("KIND", "WHAT", "A", "B", "CHANGE"), rows)
    parts = (events, order, found.moved, alignment.changed)
    left = sum(max(0, len(part) - _ROWS) for part in parts)
    if most and left:
        yield style.paint(f"and {left} more: --all", "faint")


def _event_words(one: EventChange) -> str:
    if one.change is None:
        return "only in A" if one.counts[0] else "only in B"
    return f"x {one.change:.2f}"
