"""Where times step back in a stream, and so the order of its records may be wrong.

Tracers that keep a buffer for each CPU (bpftrace, for dtrace) pass on a buffer at a time. Threads
of the other backends stamp a record shortly before they write it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qtctl.model import Backend
from qtctl.records.batch import Batch

RESTART_NS = 10_000_000_000
"""A fall by more than this is a clock that was set, or another run, and not a buffer."""
_SLACK_NS = {Backend.DTRACE: 0}
_USUAL_SLACK_NS = 100_000_000
"""Threads that write in another order than they took their times differ by less."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a batch; ``restarts``: before them a clock was set, or another run begins.

    Times step back among the rows with times from ``low_ns`` to ``high_ns``; None: they do not.
    """

    batch: Batch
    restarts: bool
    low_ns: int | None = None
    high_ns: int | None = None


class Order:
    """Follows the times of a stream."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._highest = 0

    def parts(self, batch: Batch) -> Iterator[Part]:
        """Split a batch where times restart. Times at which qtctl read records are left out."""
        exact = np.flatnonzero(~batch.arrived)
        if not len(exact):
            yield Part(batch, restarts=False)
            return
        times = batch.time_ns[exact]
        before = np.append(times[0] if self._last is None else self._last, times[:-1])
        # As floats: times of hostile files may be as far apart as an int64 reaches, and farther.
        fall = before.astype(np.float64) - times
        cuts = np.flatnonzero(fall > RESTART_NS).tolist()
        begins = [0, *(int(exact[cut]) for cut in cuts)]
        slack = _SLACK_NS.get(batch.backend, _USUAL_SLACK_NS)
        for number, begin in enumerate(begins):
            end = begins[number + 1] if number + 1 < len(begins) else len(batch)
            part = batch if len(begins) == 1 else batch.select(slice(begin, end))
            restarts = number > 0
            own = part.time_ns[~part.arrived]
            if not len(own):
                if len(part):
                    yield Part(part, restarts)
                continue
            start = int(own[0]) if restarts or self._last is None else self._highest
            highest = np.maximum(np.maximum.accumulate(own), start)
            back = np.flatnonzero(highest.astype(np.float64) - own > slack)
            self._last, self._highest = int(own[-1]), int(highest[-1])
            if not len(back):
                yield Part(part, restarts)
            else:
                yield Part(part, restarts, int(own[back].min()), int(highest[back].max()))
