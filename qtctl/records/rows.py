"""Records copied out of their batches, for storing and concatenating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.kernels import layout


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Records as columns of equal length, with only the bytes of their arguments.

    ``event`` (int32; -1: a line of text), ``tid`` (int32; -1: unknown), ``time_ns`` (ns).
    ``arrived`` and ``cut``: as in :class:`Batch`. ``begin`` and ``size`` are the range in ``data``
    of the arguments, or of the line.
    """

    event: NDArray[np.int32]
    time_ns: Int64Array
    tid: NDArray[np.int32]
    arrived: BoolArray
    cut: BoolArray
    begin: Int64Array
    size: Int64Array
    data: bytes

    def __len__(self) -> int:
        return len(self.event)

    @classmethod
    def copied(
        cls,
        event: NDArray[np.int32],
        time_ns: Int64Array,
        tid: NDArray[np.int32],
        arrived: BoolArray,
        cut: BoolArray,
        begin: Int64Array,
        size: Int64Array,
        data: bytes,
    ) -> Rows:
        """Copy the ranges of ``data`` into new rows, which hold no other bytes."""
        total = int(size.sum())
        out = np.empty(total, np.uint8)
        if total:
            every = np.arange(len(event))
            edges = np.array([0, len(event)])
            layout.lay_out(data, begin.data, size.data, every.data, edges.data, 0, out.data)
        return cls(event, time_ns, tid, arrived, cut, _offsets(size), size, out.tobytes())

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """Concatenate rows."""
        if len(parts) == 1:
            return parts[0]
        size = np.concatenate([part.size for part in parts])
        names = ("event", "time_ns", "tid", "arrived", "cut")
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        data = b"".join(part.data for part in parts)
        return cls(**columns, begin=_offsets(size), size=size, data=data)


def _offsets(size: Int64Array) -> Int64Array:
    return np.cumsum(size) - size
