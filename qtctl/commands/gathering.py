"""Taking in all that a guest says for a while, or all of a file, before anything is shown."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from qtctl.commands.context import Context
from qtctl.commands.progress import read_through
from qtctl.commands.registry import arg
from qtctl.commands.stream import BACKEND, announce, stop_when, warn
from qtctl.commands.values import duration
from qtctl.commands.writing import say_sums
from qtctl.errors import LinkLost, QtctlError, UsageError
from qtctl.events.patterns import Selection
from qtctl.model import Declaration

if TYPE_CHECKING:
    from qtctl.records.distribution import Spread
    from qtctl.session.feeds.base import Item

SOURCE = (
    arg("--from", metavar="FILE", dest="trace", type=Path, help="take a file, not a guest"),
    BACKEND,
    arg("--duration", metavar="TIME", type=duration, help="stop after this long (10s, 2m)"),
)
"""What such a verb takes to say where records come from, and for how long."""
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Known:
    """The events there are, before a record is read; ``source`` is where, in words."""

    names: Sequence[str]
    declared: Mapping[str, Declaration]
    source: str


class Taker(Protocol):
    """What takes in a stream."""

    def take(self, item: Item) -> None:
        """Take what a stream yielded; called in a thread."""


_T = TypeVar("_T", bound=Taker)


@dataclass(frozen=True, slots=True)
class Gathered(Generic[_T]):
    """A taker that has all; ``problem`` ended it before its time, to be raised once it is shown."""

    taker: _T
    lost: int
    problem: QtctlError | None


async def gather(
    context: Context,
    options: argparse.Namespace,
    selection: Selection,
    ready: Callable[[Known], _T],
    *,
    where: str | None = None,
    whole: bool = False,
) -> Gathered[_T]:
    """Feed what ``selection`` picks to the taker that ``ready`` makes, to the end or until told.

    ``ready`` is called before anything is switched or read, and may raise. ``whole``: of a guest
    only what came while all of the events were on.
    """
    if options.trace is None:
        return await _live(context, options, selection, ready, where, whole)
    if options.duration is not None or options.backend != "auto":
        raise UsageError("--duration and --backend are for a guest, not for a file")
    return await _from_file(context, options, selection, ready, where)


async def _live(
    context: Context,
    options: argparse.Namespace,
    selection: Selection,
    ready: Callable[[Known], _T],
    where: str | None,
    whole: bool,
) -> Gathered[_T]:
    context.stops = True
    problem: QtctlError | None = None
    async with context.attached(lend=True) as session:
        names = list(await session.all_states())
        declared = await asyncio.to_thread(lambda: session.facts.declarations.by_name)
        taker = ready(Known(names, declared, session.where))
        stream = session.follow(
            selection, where=where, backend=options.backend, news=False, whole=whole
        )
        try:
            async with stream:
                announce(context, stream)
                stopping = asyncio.ensure_future(stop_when(context.stop, options.duration, stream))
                try:
                    async with contextlib.aclosing(aiter(stream)) as items:
                        async for item in items:
                            warn(context, item)
                            await asyncio.to_thread(taker.take, item)
                finally:
                    stopping.cancel()
        except LinkLost as error:
            problem = error
        say_sums(context, stream.counts)
    return Gathered(taker, stream.counts.lost, problem)


async def _from_file(
    context: Context,
    options: argparse.Namespace,
    selection: Selection,
    ready: Callable[[Known], _T],
    where: str | None,
) -> Gathered[_T]:
    from qtctl.session.replaying import Replay

    trace = await asyncio.to_thread(
        Replay, options.trace, events_all=context.events_all, selection=selection, where=where
    )
    with contextlib.closing(trace):
        for note in trace.notes:
            context.say(note)
        taker = ready(Known(trace.table.names, trace.table.declarations, str(trace.path)))
        context.stops = True
        await read_through(context, trace, taker.take)
        say_sums(context, trace.counts)
    return Gathered(taker, trace.counts.lost, QtctlError(trace.problem) if trace.problem else None)


def figures(spread: Spread) -> dict[str, float | None]:
    """Return count, percentiles, max and mean; None where there are no numbers."""
    if not spread.count:
        return {"count": 0, **dict.fromkeys((*_SHARES, "max", "mean"))}
    shares = zip(_SHARES, spread.percentiles(list(_SHARES.values())), strict=True)
    mean = round(spread.mean, 1)
    return {"count": spread.count, **dict(shares), "max": spread.most, "mean": mean}


def figure_words(spread: Spread, label: Callable[[float], str]) -> list[tuple[str, str]]:
    """Return the figures with their names; ``label`` writes all but the count."""
    count, *rest = figures(spread).items()
    words = [(name, "-" if value is None else label(value)) for name, value in rest]
    return [(count[0], str(count[1])), *words]


def value_words(value: int | str | None, in_hex: bool) -> str:
    """Write the value of a group, as QEMU prints it."""
    if value is None:
        return "(none)"
    return f"{value:#x}" if in_hex and isinstance(value, int) else str(value)
