"""The time span of records whose times may be slightly out of order or step back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

STEP_NS = 1_000_000_000
"""A fall by more than this is a clock that was set: threads differ by less."""


@dataclass(slots=True)
class Span:
    """The span of times in ns, given in the order of their records.

    ``steps`` counts falls by more than :data:`STEP_NS`; ``back_ns`` is the largest fall.
    """

    steps: int = 0
    back_ns: int = 0
    _before: int = field(default=0, repr=False)
    _low: int | None = field(default=None, repr=False)
    _high: int = field(default=0, repr=False)
    _passed: int = field(default=0, repr=False)

    def take(self, times: NDArray[np.int64]) -> None:
        """Add the next times."""
        if not len(times):
            return
        # Python's integers do not overflow, whatever times a file contains.
        low, high = int(times.min()), int(times.max())
        if self._low is None:
            self._low = self._high = self._before = int(times[0])
        before, self._before = self._before, int(times[-1])
        cuts = np.zeros(0, np.int64)
        if max(high, before) - low > STEP_NS:  # else there cannot be a step
            fall = np.empty(len(times), np.float64)
            fall[0] = before - int(times[0])
            np.subtract(times[:-1], times[1:], out=fall[1:], casting="unsafe", dtype=np.float64)
            cuts = np.flatnonzero(fall > STEP_NS)
        if not len(cuts):
            self._low, self._high = min(self._low, low), max(self._high, high)
            return
        self.back_ns = max(self.back_ns, int(fall[cuts].max()))
        self.steps += len(cuts)
        begins = np.unique(np.append(0, cuts))
        lows, highs = np.minimum.reduceat(times, begins), np.maximum.reduceat(times, begins)
        if cuts[0] > 0:
            lows[0], highs[0] = min(self._low, int(lows[0])), max(self._high, int(highs[0]))
        else:
            self._passed += self._high - self._low
        # As unsigned numbers the differences do not overflow either.
        self._passed += int((highs - lows)[:-1].view(np.uint64).sum(dtype=np.float64))
        self._low, self._high = int(lows[-1]), int(highs[-1])

    @property
    def length_ns(self) -> int:
        """The length in all: the sum over the runs between steps back."""
        return self._passed + (0 if self._low is None else self._high - self._low)
