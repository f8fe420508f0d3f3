"""The verb diff: compare two runs."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.commands.context import Context, Result
from qtctl.commands.differences import (
    PLACES,
    about,
    differences,
    document,
    places,
    records,
    verdict,
)
from qtctl.commands.formatting import lost_words
from qtctl.commands.options import EXCEPT, FILE, KEY, PAIR, PATTERNS, STRICT, WHERE
from qtctl.commands.progress import bytes_progress
from qtctl.commands.registry import Options, arg, command
from qtctl.commands.replaying import open_replay, say_doubts
from qtctl.commands.values import selection
from qtctl.errors import DataLost, QtctlError, UsageError

if TYPE_CHECKING:
    from qtctl.analysis.alignment import Alignment
    from qtctl.analysis.compare import Profile
    from qtctl.session.replay import Replay


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
    in_hex = {**traces[0].hex_arguments(), **traces[1].hex_arguments()}
    everything = options.all or context.json
    return Result(
        {**document(traces, profiles, found), **records(alignment, whole and not any(lines))},
        lambda style: chain(
            differences(style, found, profiles, alignment, everything, in_hex),
            verdict(alignment, whole, lines),
            places(style, alignment, None if options.all else PLACES, in_hex),
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
    took = "" if seconds is None else f" in {about(profile)}{seconds:.3g} s"
    lost = f", {lost_words(counts)} lost" if counts.lost or counts.unknown_losses else ""
    context.say(f"{trace.path}: {counts.shown} records{took}{lost}")


def _missing(trace: Replay) -> bool:
    counts = trace.counts
    return bool(counts.lost or counts.unknown_losses or counts.unread)
