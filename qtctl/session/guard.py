"""Watching a stream for floods: what was read is counted, and the loudest events are named."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Sequence

from qtctl.analysis.flood import Backlog, Heard, Pilot, Verdict
from qtctl.analysis.rates import Rates
from qtctl.backends.base import Feed
from qtctl.events.patterns import cover
from qtctl.model import Budget, Flood
from qtctl.records.batch import Batch
from qtctl.records.counts import Counts
from qtctl.records.items import Loss

_SHOWN = 3


class Guarding:
    """Counts what a stream reads of ``feed``, before any filter, and tells when that is a flood.

    ``names`` are the guest's events, and ``idle`` those of them that may be named by a pattern
    because they are off. ``take`` may be called in another thread than ``look``.
    """

    def __init__(
        self, feed: Feed, guard: Budget | None, names: Sequence[str], idle: Collection[str]
    ) -> None:
        self._feed = feed
        self._names = names
        self._known = frozenset(names)
        self._idle = idle
        self._pilot = Pilot(guard)
        self._backlog = Backlog(time.monotonic(), feed.taken, feed.behind())
        self._rates = Rates(time.monotonic())
        self._before = Heard({}, {})
        self._before_bytes_per_s = 0.0
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
        whole = snapshot.whole
        if whole.per_s:
            # The kernel's events come along with ftrace, and QMP does not switch them.
            own = {
                row.key: row
                for row in snapshot.rows
                if isinstance(row.key, str) and row.key in self._known
            }
            heard = Heard(
                {name: row.per_s for name, row in own.items()},
                {name: row.bytes_per_s for name, row in own.items()},
            )
            self._before, self._before_bytes_per_s = heard, whole.bytes_per_s
        elif self._before_bytes_per_s:
            # Nothing was read for a whole second: what is said is taken for more of the same.
            heard, factor = self._before, self._backlog.said_per_s / self._before_bytes_per_s
        else:
            return None
        verdict = self._pilot.judge(now_s, heard.times(factor))
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
