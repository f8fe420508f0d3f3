"""Where a stream begins and ends in full: events are switched one after another, or in a few steps.

What QEMU says while only some of them are on looks as if records were missing.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Backend
from qtctl.records.batch import Batch

__all__ = ["Edges"]

_MARGIN_NS = 5_000_000
"""How far a record's time may be from Unix time: the clocks are compared from outside of QEMU."""
_COARSE_NS = 1_000_000_000
"""The same for a system log, which may have whole seconds only."""
_LATE_S = 2.0
"""How late a record may be read. Longer no time is looked at, for the clock may be set."""


class Edges:
    """Tells which records came while all events of a stream were on.

    Records are told by their own times, and those that have none (``Batch.arrived``) by where they
    are in what was read: ``taken`` is how many bytes had been read, or written, at that moment.
    """

    def __init__(self, taken: int, began_ns: int) -> None:
        """All are on from now; before ``began_ns`` (Unix time) none was read."""
        self._began_ns = began_ns - _COARSE_NS
        self._from_ns = time.time_ns() + _MARGIN_NS
        self._from_bytes = taken
        self._look_until_s = time.monotonic() + _LATE_S
        self._until_ns: int | None = None
        self._until_bytes = 0

    def close(self, taken: int) -> None:
        """Be told that from now on they may go off."""
        if self._until_ns is None:
            self._until_bytes = taken
            self._until_ns = time.time_ns()

    def inside(self, batch: Batch, taken: int) -> NDArray[np.bool_] | None:
        """Return which rows came between, None for all; ``taken`` is where the batch ends."""
        until_ns = self._until_ns
        opening = time.monotonic() < self._look_until_s
        if not (opening or until_ns is not None):
            return None
        kept = np.ones(len(batch), np.bool_)
        places = taken - len(batch.data) + batch.start
        if opening:
            # What seems older than the stream was written after the clock was set back.
            late = (batch.time_ns >= self._from_ns) | (batch.time_ns < self._began_ns)
            kept &= np.where(batch.arrived, places >= self._from_bytes, late)
        if until_ns is not None:
            margin_ns = _COARSE_NS if batch.backend is Backend.SYSLOG else _MARGIN_NS
            last_ns = until_ns - margin_ns
            kept &= np.where(batch.arrived, places < self._until_bytes, batch.time_ns <= last_ns)
        return kept
