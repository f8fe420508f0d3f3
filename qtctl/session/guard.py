"""Watching a stream for floods, and switching the loudest events off."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from qtctl.analysis.flood import Backlog, EventRates, FloodDetector, Verdict
from qtctl.analysis.rates import Rates
from qtctl.backends.base import Feed
from qtctl.errors import QtctlError
from qtctl.events.patterns import cover
from qtctl.events.selection import Selection
from qtctl.model import Budget, Flood
from qtctl.monitor.news import EventQueue
from qtctl.records.batch import Batch
from qtctl.records.counts import Counts
from qtctl.records.items import Loss

_SHOWN = 3
_LOOK_S = 0.1


class FloodGuard:
    """Counts what a stream reads of ``feed``, before any filter, and detects floods.

    ``names`` are the guest's events. ``idle`` are those that are off, and so may match a pattern
    that quiets a flood. ``take`` may be called in another thread than ``look``.
    """

    def __init__(
        self, feed: Feed, guard: Budget | None, names: Sequence[str], idle: Collection[str]
    ) -> None:
        self._feed = feed
        self._names = names
        self._known = frozenset(names)
        self._idle = idle
        self._detector = FloodDetector(guard)
        self._backlog = Backlog(time.monotonic(), feed.taken, feed.behind())
        self._rates = Rates(time.monotonic())
        self._before = EventRates({}, {})
        self._before_bytes_per_s = 0.0
        self._lock = threading.Lock()
        self.quiet = True
        """Whether nothing was read lately and nothing waits to be read."""

    def take(self, items: Iterable[Batch | Loss]) -> None:
        """Count what was read."""
        with self._lock:
            for item in items:
                if isinstance(item, Batch):
                    self._rates.take(item, time.monotonic())

    def look(self, counts: Counts) -> tuple[Verdict, Flood] | None:
        """Return a flood to report now, as the verdict and as the item of the stream."""
        now_s = time.monotonic()
        with self._lock:
            snapshot = self._rates.snapshot(now_s)
        self.quiet = not snapshot.whole.per_s and not self._feed.behind()
        factor = self._backlog.factor(
            now_s,
            taken=self._feed.taken,
            behind=self._feed.behind(),
            read=counts.read,
            lost=counts.lost,
        )
        whole = snapshot.whole
        if whole.per_s:
            # The kernel's events come along with ftrace, and QMP does not switch them.
            own = [row for row in snapshot.rows if row.key in self._known]
            rates = EventRates(
                {str(row.key): row.per_s for row in own},
                {str(row.key): row.bytes_per_s for row in own},
            )
            self._before, self._before_bytes_per_s = rates, whole.bytes_per_s
        elif self._before_bytes_per_s:
            # Nothing was read for a whole second: assume that more of the same was logged.
            rates, factor = self._before, self._backlog.logged_per_s / self._before_bytes_per_s
        else:
            return None
        verdict = self._detector.judge(now_s, rates.times(factor))
        return None if verdict is None else (verdict, self._flood(verdict))

    def _flood(self, verdict: Verdict) -> Flood:
        loud = [name for name, _ in verdict.loudest]
        return Flood(
            round(verdict.per_s),
            round(verdict.bytes_per_s),
            tuple((name, round(per_s)) for name, per_s in verdict.loudest[:_SHOWN]),
            tuple(cover(loud, self._idle, self._names)),
            verdict.guarded,
            time.time_ns(),
        )


@dataclass(eq=False)
class FloodWatch:
    """Looks for floods while records come, until ``stop``; make it in the event loop.

    A flood is put into ``queue``. Above the guard's budget, ``switch_off`` is called with the
    loudest events, and with the patterns that name them.
    """

    guard: FloodGuard
    _counts: Counts
    _queue: EventQueue
    _stop: asyncio.Event
    _switch_off: Callable[[Selection, tuple[str, ...]], Awaitable[None]]

    def __post_init__(self) -> None:
        self._woken = asyncio.Event()
        self._watching = asyncio.create_task(self._watch())

    def wake(self) -> None:
        """Look again soon: records came."""
        self._woken.set()

    async def _watch(self) -> None:
        while not self._stop.is_set():
            if self.guard.quiet:
                await self._woken.wait()
            self._woken.clear()
            await asyncio.sleep(_LOOK_S)
            found = self.guard.look(self._counts)
            if found is None:
                continue
            verdict, flood = found
            self._queue.put(flood)
            if verdict.guarded:
                loudest = Selection.of(*(name for name, _ in verdict.loudest))
                with contextlib.suppress(QtctlError):  # whoever iterates the stream reports it
                    await self._switch_off(loudest, flood.patterns)

    async def close(self) -> None:
        """Stop looking."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
