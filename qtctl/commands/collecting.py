"""Collecting the records of a guest for a while, or of a file, before a result is printed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from qtctl.commands.context import Context, Result
from qtctl.commands.following import (
    Following,
    check_lost,
    follow_of,
    following,
    records_read,
)
from qtctl.commands.formatting import JsonFormatter, say_sums
from qtctl.commands.options import (
    BACKEND,
    CLOCK,
    DURATION,
    FROM,
    GUARD,
    INTERVAL,
    JOBS,
    KERNEL,
    NDJSON,
    OWN,
    STRICT,
)
from qtctl.commands.output import put
from qtctl.commands.registry import Options
from qtctl.commands.replaying import check_read, open_files, read_through, say_end
from qtctl.commands.values import jobs_of
from qtctl.errors import LinkLost, QtctlError, UsageError
from qtctl.events.selection import Selection
from qtctl.model import Declaration

if TYPE_CHECKING:
    from qtctl.analysis.distribution import Statistics
    from qtctl.records.counts import Counts
    from qtctl.records.items import Item
    from qtctl.session.merged_stream import Followed

SOURCE = (FROM, JOBS, BACKEND, KERNEL, CLOCK, DURATION, INTERVAL, GUARD, NDJSON, STRICT, OWN)
"""The options of such a verb: where records come from, for how long, and how often to print."""
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


class KnownEvents(NamedTuple):
    """The events and declarations of a guest or file; ``source`` names it.

    ``beside`` are events that are followed whatever is selected: those of ``--kernel``.
    """

    names: Sequence[str]
    declared: Mapping[str, Declaration]
    source: str
    beside: Sequence[str] = ()

    def pick(self, selection: Selection) -> Sequence[str]:
        """Return the events that a selection picks, all if it is empty."""
        if not selection:
            return self.names
        return list(dict.fromkeys((*selection.pick(self.names), *self.beside)))


class Collector(Protocol):
    """Collects the items of a stream."""

    def take(self, item: Item) -> None:
        """Add an item; called in a thread."""

    def renew(self) -> None:
        """Start again from nothing: the result so far has been printed."""


_T = TypeVar("_T", bound=Collector)


@dataclass(frozen=True, slots=True)
class Gathering(Generic[_T]):
    """Passes the records of ``selection`` to a collector, to the end or until stopped.

    ``ready`` makes the collector before anything is switched or read, and may raise. ``result``
    makes the result from the collector, at the end or each interval; losses are added to it.
    An error that ended it early is raised after the result was printed. ``whole``: of a guest only
    the records from while all events were on.
    """

    context: Context
    options: Options
    selection: Selection
    ready: Callable[[KnownEvents], _T]
    result: Callable[[_T], Result]
    where: str | None = None
    whole: bool = False

    async def run(self) -> int:
        """Print what was collected; return the exit code."""
        options = self.options
        if self.context.json and (options.interval or options.ndjson):
            raise UsageError("--json is one document", hint="--ndjson")
        if not options.traces:
            if "jobs" in options.given:
                raise UsageError("--jobs is for files", hint="--from FILE")
            return await self._follow()
        if {"duration", "backend", "interval", "guard", "kernel"} & {*options.given}:
            raise UsageError(
                "--duration, --interval, --guard, --backend and --kernel are for a guest, "
                "not for a file"
            )
        return await self._read(options.traces)

    async def _follow(self) -> int:
        context, options = self.context, self.options
        context.stops = True
        problem: QtctlError | None = None
        async with context.guests() as session:
            names = list(await session.all_states())
            stream = session.stream(
                follow_of(options, self.selection)._replace(
                    where=self.where, news=False, whole=self.whole
                )
            )
            declared = await asyncio.to_thread(session.declared)
            kernel = await stream.kernel_events()
            known = {**declared, **{name: one.declaration for name, one in kernel.items()}}
            beside = Selection.of(*options.kernel).pick(kernel)
            collector = self.ready(KnownEvents([*names, *kernel], known, session.where, beside))
            blocks = None
            try:
                async with following(
                    context,
                    stream,
                    duration=options.duration,
                    sums=False,
                    progress=None if options.interval else partial(records_read, stream),
                ) as items:
                    if options.interval is not None:
                        blocks = _Blocks(context, options, stream)
                    await self._take(items, collector, blocks)
            except LinkLost as error:
                problem = error
            if blocks is not None:
                code = await blocks.end(self.result(collector))
            say_sums(context, stream.counts)
        if blocks is None:
            code = self._show(collector, stream.counts)
        if problem is not None:
            raise problem
        if options.strict:
            check_lost(stream.counts)
        return code

    async def _take(self, items: Following, collector: _T, blocks: _Blocks | None) -> None:
        """Collect all items; into ``blocks`` print the result of each interval and start again."""
        turn = asyncio.Lock()

        async def take() -> None:
            async for item in items:
                async with turn:
                    await asyncio.to_thread(collector.take, item)

        taking = asyncio.ensure_future(take())
        clock = asyncio.get_running_loop().time
        due = clock()
        try:
            while blocks is not None:
                due += self.options.interval
                await asyncio.wait({taking}, timeout=due - clock())
                if taking.done() or self.context.stop.is_set():
                    break
                async with turn:
                    lines = blocks.lines(self.result(collector))
                    collector.renew()
                await blocks.put(lines)
            await taking
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async def _read(self, paths: Sequence[Path]) -> int:
        context = self.context
        jobs = jobs_of(self.options)
        trace = await open_files(
            context, paths, self.selection, self.where, ordered=False, jobs=jobs
        )
        with contextlib.closing(trace):
            table = trace.table
            collector = self.ready(KnownEvents(table.names, table.declarations, str(trace.path)))
            context.stops = True
            await read_through(context, trace, collector.take)
            say_end(context, trace)
        code = self._show(collector, trace.counts)
        check_read(trace, strict=self.options.strict)
        return code

    def _show(self, collector: _T, counts: Counts) -> int:
        """Print the result; return its exit code."""
        from qtctl.records.schema import declarations, losses

        shown = self.result(collector)
        shown = shown._replace(document=shown.document | losses(counts) | declarations(counts))
        if self.options.ndjson:
            self.context.write([_object(shown)])
        else:
            self.context.show(shown)
        return shown.exit_code


class _Blocks:
    """Prints the result of each interval: tables with an empty line between, or JSON."""

    def __init__(self, context: Context, options: Options, stream: Followed) -> None:
        self._context = context
        self._stream = stream
        self._reported: dict[str, int] = {}
        self._ndjson = options.ndjson
        self._window_s = options.interval
        self._first = True
        self._output = context.output()

    def _losses(self) -> dict[str, int]:
        """Return the losses since the last call."""
        from qtctl.records.schema import losses

        before, self._reported = self._reported, losses(self._stream.counts)
        return {name: number - before.get(name, 0) for name, number in self._reported.items()}

    def lines(self, shown: Result) -> list[str]:
        """Return the lines of one interval."""
        if self._ndjson:
            shown = shown._replace(document=shown.document | self._losses())
            return [_object(shown, self._window_s)]
        above = [] if self._first else [""]
        self._first = False
        return [*above, *shown.lines(self._context.out_style)]

    async def put(self, lines: Iterable[str]) -> None:
        """Print lines; the reader may be slow."""
        await put(self._output, lambda _: lines, self._context.stop)

    async def end(self, last: Result) -> int:
        """Print the last, shorter interval, and the end of the stream; return its exit code."""
        sums = JsonFormatter().ended(self._stream.counts) if self._ndjson else ()
        await self.put([*self.lines(last), *sums])
        self._context.shown = True
        await self._context.finish(self._output)
        self._output.check()
        return last.exit_code


def _object(shown: Result, window_s: float | None = None) -> str:
    """Return a result as a JSON object of a stream."""
    window = {} if window_s is None else {"window_s": window_s}
    kind = shown.document["type"]
    return json.dumps({"type": kind, "time_ns": time.time_ns(), **window, **shown.document})


def figures(
    spread: Statistics, quantiles: Mapping[str, float] = _QUANTILES
) -> dict[str, float | None]:
    """Return count, percentiles, max and mean; None where there are no numbers."""
    if not spread.count:
        return {"count": 0, **dict.fromkeys((*quantiles, "max", "mean"))}
    shares = zip(quantiles, spread.percentiles(list(quantiles.values())), strict=True)
    mean = round(spread.mean, 1)
    return {"count": spread.count, **dict(shares), "max": spread.most, "mean": mean}


def figure_words(spread: Statistics, label: Callable[[float], str]) -> list[tuple[str, str]]:
    """Return the figures with their names; ``label`` writes all but the count."""
    count, *rest = figures(spread).items()
    words = [(name, "-" if value is None else label(value)) for name, value in rest]
    return [(count[0], str(count[1])), *words]


def value_words(value: float | str | None, in_hex: bool) -> str:
    """Return the value of a group as QEMU prints it."""
    if value is None:
        return "(none)"
    return f"{value:#x}" if in_hex and isinstance(value, int) else str(value)
