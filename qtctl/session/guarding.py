"""Watching a stream for floods: what was read is counted, and the loudest events are named."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Sequence

from qtctl.events.patterns import cover
from qtctl.model import Flood
from qtctl.records.batch import Batch
from qtctl.records.flood import Backlog, Pilot, Verdict
from qtctl.records.rates import Rates
from qtctl.session.feeds.base import Feed, Loss
from qtctl.session.sieve import Counts

_SHOWN = 3


class Guarding:
    """Counts what a stream reads of ``feed``, before any filter, and tells when that is a flood.

    ``names`` are the guest's events, and ``idle`` those of them that may be named by a pattern
    because they are off. ``take`` may be called in another thread than ``look``.
    """

    def __init__(
        self, feed: Feed, guard: int | None, names: Sequence[str], idle: Collection[str]
    ) -> None:
        self._feed = feed
        self._names = names
        self._known = frozenset(names)
        self._idle = idle
        self._pilot = Pilot(guard)
        self._backlog = Backlog(time.monotonic(), feed.taken, feed.behind())
        self._rates = Rates(time.monotonic())
        self._lock = threading.Lock()
        self.quiet = True
        """Whether nothing was read lately and nothing waits: no need to look before more comes."""

    def take(self, items: Iterable[Batch | Loss]) -> None:
        """Count what was read."""
        with self._lock:
            for item in items:
                if isinstance(item, Batch):
                    self._rates.take(item, time.monotonic())

    def look(self, counts: Counts) -> tuple[Verdict, Flood] | None:
        """Return a flood that is to be told now: as a verdict, and for people."""
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
        # The kernel's events come along with ftrace, and QMP does not switch them.
        rates = {
            row.key: row.per_s * factor
            for row in snapshot.rows
            if isinstance(row.key, str) and row.key in self._known
        }
        verdict = self._pilot.judge(now_s, rates)
        return None if verdict is None else (verdict, self._flood(verdict))

    def _flood(self, verdict: Verdict) -> Flood:
        loud = [name for name, _ in verdict.loudest]
        return Flood(
            round(verdict.per_s),
            tuple((name, round(per_s)) for name, per_s in verdict.loudest[:_SHOWN]),
            tuple(cover(loud, self._idle, self._names)),
            verdict.guarded,
            time.time_ns(),
        )
