"""The time in which all events of a stream are on: QEMU switches them one after another.

Records from outside of it look as if others were missing.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.table import TABLE
from qtctl.records.batch import Batch

_MARGIN_NS = 5_000_000
"""How far a record's time may differ from Unix time: clocks are compared outside of QEMU."""
_COARSE_NS = 1_000_000_000
"""The same for a system log, whose times may be whole seconds."""
_LATE_S = 2.0
"""How late a record may be read. After that, times are not compared: the clock may be set."""


class WarmUpWindow:
    """Selects the records that were logged while all events of a stream were on.

    It compares their times, and for those without one (``Batch.arrived``) their position in the
    bytes: ``taken`` is how many had been read, or written, at that moment.
    """

    def __init__(self, taken: int, began_ns: int) -> None:
        """Open the window now: all events are on. None was read before ``began_ns`` (Unix time)."""
        self._began_ns = began_ns - _COARSE_NS
        self._from_ns = time.time_ns() + _MARGIN_NS
        self._from_bytes = taken
        self._look_until_s = time.monotonic() + _LATE_S
        self._until_ns: int | None = None
        self._until_bytes = 0

    def close(self, taken: int) -> None:
        """Close the window: from now on events go off."""
        if self._until_ns is None:
            self._until_bytes = taken
            self._until_ns = time.time_ns()

    def inside(self, batch: Batch, taken: int) -> NDArray[np.bool_] | None:
        """Return the mask of rows inside, None for all; ``taken`` is where the batch ends."""
        until_ns = self._until_ns
        opening = time.monotonic() < self._look_until_s
        if not (opening or until_ns is not None):
            return None
        kept = np.ones(len(batch), np.bool_)
        places = taken - len(batch.data) + batch.start
        if opening:
            # A record that seems older than the stream was written after the clock was set back.
            late = (batch.time_ns >= self._from_ns) | (batch.time_ns < self._began_ns)
            kept &= np.where(batch.arrived, places >= self._from_bytes, late)
        if until_ns is not None:
            margin_ns = _COARSE_NS if TABLE[batch.backend].whole_seconds else _MARGIN_NS
            last_ns = until_ns - margin_ns
            kept &= np.where(batch.arrived, places < self._until_bytes, batch.time_ns <= last_ns)
        return kept
