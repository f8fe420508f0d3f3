"""What decoders of text share: keeping unfinished lines, and making batches of a kernel's rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.base import Clocks
from qtctl.model import Backend, Clock
from qtctl.records.batch import ArgumentReader, Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items
from qtctl.records.origins import Origin

ROWS = 1 << 14
Arrays: TypeAlias = tuple[NDArray[Any], ...]


SPAN_BYTES = 1 << 16
"""Most bytes of a record with all lines of its texts; a longer one is cut."""
SPAN_S = 0.05
"""How long after a record further lines of its texts may come: all are written at once."""


class LineDecoder:
    """A decoder that keeps the bytes of an unfinished record for the next call.

    ``holds``: a whole record is kept, as the next line may be part of its text.
    """

    def __init__(self, limit: int) -> None:
        self.pending_bytes = 0
        self.holds = False
        self._limit = limit
        self._kept: list[bytes] = []

    def feed(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the next bytes."""
        if self._kept:
            self._keep(data)
            # Decoded once its end arrives: a long line in small chunks would take quadratic time.
            if b"\n" not in data and self.pending_bytes <= self._limit:
                return []
            data = self._take()
        return self._decode(data, clocks, final=False)

    def end(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the last bytes, with what is kept."""
        self._keep(data)
        return self._decode(self._take(), clocks, final=True)

    def flush(self, clocks: Clocks) -> Items:
        """Decode what is kept as if the text ended here."""
        return self.end(b"", clocks)

    def release(self, clocks: Clocks) -> Items:
        """Decode the record that is held, if the line behind it has not begun.

        For one that was written a while ago: all lines of its text are written at once.
        """
        if not self.holds or not self._kept[-1].endswith(b"\n"):
            return []
        return self._decode(self._take(), clocks, final=True)

    def _decode(self, data: bytes, clocks: Clocks, *, final: bool) -> Items:
        """Decode bytes, and keep those of an unfinished record; none is left if ``final``."""
        raise NotImplementedError

    def _keep(self, data: bytes) -> None:
        if data:
            self._kept.append(data)
            self.pending_bytes += len(data)

    def _take(self) -> bytes:
        data = b"".join(self._kept)
        self._kept, self.pending_bytes = [], 0
        return data


class RowBuffers:
    """One array a column, of ``ROWS`` rows, reused from call to call.

    The kernel writes into them and the rows are copied out: fresh arrays for every chunk cost more
    in page faults.
    """

    def __init__(self, *kinds: type[np.generic]) -> None:
        self._arrays: Arrays = tuple(np.empty(ROWS, kind) for kind in kinds)

    def fill(
        self, split: Callable[..., tuple[int, int]], *before: object, after: tuple[object, ...] = ()
    ) -> tuple[Arrays, int]:
        """Call ``split(*before, *arrays, at, *after)`` until it leaves rows of the arrays unused.

        ``split`` returns how many rows it wrote and the offset it reached. Returns all rows and
        the last offset.
        """
        views = tuple(array.data for array in self._arrays)
        parts: list[Arrays] = []
        at = 0
        while True:
            rows, at = split(*before, *views, at, *after)
            parts.append(tuple(array[:rows].copy() for array in self._arrays))
            if rows < ROWS:
                break
        return joined(parts), at


def joined(parts: list[Arrays]) -> Arrays:
    """Concatenate the columns of one or more parts."""
    return parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))


def holds(
    pattern: re.Pattern[bytes], data: bytes, begin: Int64Array, stop: Int64Array
) -> BoolArray:
    """Return in which ranges of ``data`` a pattern begins."""
    places = [match.start() for match in pattern.finditer(data)]
    found: BoolArray = np.searchsorted(places, stop) > np.searchsorted(places, begin)
    return found


def as_batch(
    table: EventTable,
    data: bytes,
    columns: Arrays,
    clocks: Clocks,
    backend: Backend,
    *,
    clock: Clock = Clock.REALTIME,
    pid: int | None = None,
    reader: ArgumentReader | None = None,
    cut: BoolArray | None = None,
) -> Batch:
    """Return rows as a batch; those without a time get the time at which they were read.

    ``columns`` are event, time, tid, start, begin and stop; the times may be
    changed in place.
    """
    event, time_ns, tid, start, begin, stop = columns
    arrived = time_ns < 0
    if clocks.offset_ns:
        time_ns = time_ns + clocks.offset_ns
    if arrived.any():
        time_ns[arrived] = clocks.now_ns
    return Batch(
        table=table,
        data=data,
        event=event,
        time_ns=time_ns,
        tid=tid,
        start=start,
        begin=begin,
        stop=stop,
        arrived=arrived,
        origin=np.zeros(len(event), np.int32),
        origins=(Origin(pid),),
        clock=clock,
        backend=backend,
        reader=reader,
        cut=cut if cut is not None and cut.any() else None,
    )
