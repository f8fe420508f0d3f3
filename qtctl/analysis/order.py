"""Where times step back in a stream, and so the order of its records may be wrong.

The kernel keeps a buffer for each CPU; recordings of dtrace by qtctl 0.1 have a buffer at a time
(bpftrace's). Threads of the other backends stamp a record shortly before they write it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.origins import Origin

RESTART_NS = 10_000_000_000
"""A fall by more than this is a clock that was set, or another run, and not a buffer."""
_SLACK_NS = {Backend.DTRACE: 0}
_USUAL_SLACK_NS = 100_000_000
"""Threads that write in another order than they took their times differ by less."""
_PROCESSES = 1 << 12
_CLOCKS = {Clock.REALTIME: 0, Clock.MONOTONIC: 1, Clock.ARRIVAL: 2}
ARRIVED = _CLOCKS[Clock.ARRIVAL]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a batch; ``restarts``: before them a clock was set, or another run begins.

    Times step back among the rows with times from ``low_ns`` to ``high_ns``; None: they do not.
    """

    batch: Batch
    restarts: bool
    low_ns: int | None = None
    high_ns: int | None = None

    def overlaps(self, start_ns: Int64Array, end_ns: Int64Array) -> BoolArray | bool:
        """Return which spans of time overlap those in which times step back."""
        if self.low_ns is None or self.high_ns is None:
            return False
        return (end_ns >= self.low_ns) & (start_ns <= self.high_ns)


def clock_codes(batch: Batch) -> NDArray[np.int32]:
    """Return a number from 0 to 3 for the clock of each row; the times of two are no span."""
    return np.where(batch.arrived, ARRIVED, _CLOCKS[batch.clock]).astype(np.int32)


class Order:
    """Follows the times of a stream, process by process."""

    def __init__(self) -> None:
        self._states: dict[Origin, tuple[int, int]] = {}
        self._before_ns: int | None = None

    def parts(self, batch: Batch) -> Iterator[Part]:
        """Split a batch where times restart. Times at which qtctl read records are left out."""
        highest, cuts = self._follow(batch)
        # As floats: times of hostile files may be as far apart as an int64 reaches, and farther.
        fall = highest.astype(np.float64) - batch.time_ns
        back = np.flatnonzero(fall > _SLACK_NS.get(batch.backend, _USUAL_SLACK_NS))
        for begin, end in pairwise([0, *sorted(cuts), len(batch)]):
            if begin == end:
                continue
            part = batch if end - begin == len(batch) else batch.select(slice(begin, end))
            if begin in cuts:
                self._before_ns = None
            own = back[np.searchsorted(back, begin) : np.searchsorted(back, end)]
            if not len(own):
                yield Part(part, begin in cuts)
                continue
            low, high = int(batch.time_ns[own].min()), int(highest[own].max())
            self._before_ns = high if self._before_ns is None else max(self._before_ns, high)
            yield Part(part, begin in cuts, low, high)

    def doubtful(self, part: Part, start_ns: Int64Array, end_ns: Int64Array) -> BoolArray:
        """Return which pairs with an END in the last part span a place where times step back."""
        wrong: BoolArray = end_ns < start_ns
        if self._before_ns is not None:
            back = start_ns <= self._before_ns
            if part.low_ns is not None:
                back &= end_ns >= part.low_ns
            wrong |= back
        return wrong

    def _follow(self, batch: Batch) -> tuple[Int64Array, set[int]]:
        """Return the highest time of each row's process up to it, and the rows that restart."""
        highest, cuts = batch.time_ns.copy(), set[int]()
        codes, processes = batch.processes()
        if len(self._states) > _PROCESSES:
            self._states.clear()
        for code, process in enumerate(processes):
            rows = np.flatnonzero(~batch.arrived & (codes == code))
            if not len(rows):
                continue
            times = batch.time_ns[rows]
            last, top = self._states.get(process, (int(times[0]), int(times[0])))
            fall = np.append(last, times[:-1]).astype(np.float64) - times
            cut = np.flatnonzero(fall > RESTART_NS).tolist()
            cuts.update(rows[cut].tolist())
            for begin, end in pairwise([0, *cut, len(times)]):
                if begin < end:
                    least = int(times[begin]) if begin in cut else top
                    reached = np.maximum(np.maximum.accumulate(times[begin:end]), least)
                    highest[rows[begin:end]] = reached
                    top = int(reached[-1])
            self._states[process] = int(times[-1]), top
        return highest, cuts
