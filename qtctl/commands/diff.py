"""The verb diff: compare two runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtctl.commands.collecting import figures
from qtctl.commands.context import Context, Result
from qtctl.commands.formatting import lost_words
from qtctl.commands.options import EXCEPT, FILE, PAIR, PATTERNS, WHERE
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.replaying import open_replay, read_through
from qtctl.commands.values import selection
from qtctl.errors import QtctlError, UsageError
from qtctl.text.units import short

if TYPE_CHECKING:
    from qtctl.analysis.compare import Comparison, EventChange, Profile
    from qtctl.events.selection import Selection
    from qtctl.text.style import Style

_RATE = 1.25
_SHARE = 0.1
_ROWS = 20
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
        arg("--all", action="store_true", help="also print what did not change"),
    ),
    examples=(
        "qtctl diff before.qtr after.qtr",
        "qtctl diff good.log bad.log 'virtio_*' --all",
        "qtctl diff a.qtr b.qtr --pair virtio_blk_handle_read,virtio_blk_req_complete --json",
    ),
    details=(
        "events     that occur in one run only, or with rates 1.25 times apart (by counts where\n"
        "           times are unknown)\n"
        "order      events whose first occurrence changed its order; and successions: B right\n"
        "           after A in a share of cases, on one thread where threads are known,\n"
        "           where that differs by a tenth\n"
        "latencies  of pairs that names and arguments make obvious (*_start and *_end with one\n"
        "           pointer), and of each --pair\n"
        "Shows the 20 greatest changes of each; --all and --json have everything."
    ),
    selects=True,
)
async def diff(context: Context, options: Options) -> Result:
    """Read two files and print their differences."""
    from qtctl.analysis.compare import compare

    chosen = selection(options)
    context.stops = True
    profiles, problems = [], []
    for path in (options.one, options.two):
        profile, problem = await _read(context, options, path, chosen)
        profiles.append(profile)
        problems.append(problem)
    if context.stop.is_set():
        raise QtctlError("stopped before all was read: there is nothing to compare")
    found = compare(*profiles)
    for problem in filter(None, problems):
        context.complain(problem)
    everything = options.all or context.json
    return Result(
        _document(options, found),
        lambda style: _lines(style, found, everything),
        int(any(problems)),
    )


async def _read(
    context: Context, options: Options, path: Path, chosen: Selection
) -> tuple[Profile, str]:
    from qtctl.analysis.compare import profile_of

    trace = await open_replay(context, path, chosen, options.where, named=True)
    with contextlib.closing(trace):
        profile = profile_of(trace.table.names, trace.table.declarations, options.pair, str(path))
        await read_through(context, trace, profile.take)
    if trace.remark:
        context.complain(trace.remark)
    counts = trace.counts
    if not counts.shown:
        raise UsageError(
            f"{path} has no record of these events: nothing to compare", hint=trace.problem
        )
    took = "" if profile.seconds is None else f" in {profile.seconds:.3g} s"
    lost = f", {lost_words(counts)} lost" if counts.lost or counts.unknown_losses else ""
    context.say(f"{path}: {counts.shown} records{took}{lost}")
    return profile, trace.problem


def _document(options: Options, found: Comparison) -> dict[str, Any]:
    return {
        "a": {"path": str(options.one), "seconds": found.seconds[0]},
        "b": {"path": str(options.two), "seconds": found.seconds[1]},
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


def _differs(ratio: float | None) -> bool:
    return ratio is None or not 1 / _RATE < ratio < _RATE


def _lines(style: Style, found: Comparison, everything: bool) -> Iterator[str]:
    from qtctl.text.tables import table
    from qtctl.text.units import duration_words

    most = None if everything else _ROWS
    events = [one for one in found.events if everything or _differs(one.change)]
    order = [one for one in found.order if everything or abs(one.change) >= _SHARE]
    rows = []
    for one in events[:most]:
        sides = [f"{short(rate)}/s" for rate in one.rates] if one.rates else map(str, one.counts)
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
    if not rows:
        yield "no differences"
        return
    yield from table(style, ("KIND", "WHAT", "A", "B", "CHANGE"), rows)
    left = sum(max(0, len(part) - _ROWS) for part in (events, order, found.moved))
    if most and left:
        yield style.paint(f"and {left} more: --all", "faint")


def _event_words(one: EventChange) -> str:
    if one.change is None:
        return "only in A" if one.counts[0] else "only in B"
    return f"x {one.change:.2f}"
