"""Records cut loose from the bytes around them, to be kept or joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.kernels import layout

__all__ = ["Rows"]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Records as columns of one length, with just the bytes of their arguments.

    ``event`` (int32) and ``tid`` (int32) are -1 where there is none; ``time_ns`` in ns; ``begin``
    and ``size`` are where in ``data`` the arguments are, or the whole line where ``event`` is -1.
    """

    event: NDArray[np.int32]
    time_ns: Int64Array
    tid: NDArray[np.int32]
    arrived: BoolArray
    begin: Int64Array
    size: Int64Array
    data: bytes

    def __len__(self) -> int:
        return len(self.event)

    @classmethod
    def cut(
        cls,
        event: NDArray[np.int32],
        time_ns: Int64Array,
        tid: NDArray[np.int32],
        arrived: BoolArray,
        begin: Int64Array,
        size: Int64Array,
        data: bytes,
    ) -> Rows:
        """Make rows that hold just the bytes they need, one behind the other."""
        total = int(size.sum())
        out = np.empty(total, np.uint8)
        if total:
            every = np.arange(len(event))
            edges = np.array([0, len(event)])
            layout.lay_out(data, begin.data, size.data, every.data, edges.data, 0, out.data)
        return cls(event, time_ns, tid, arrived, _places(size), size, out.tobytes())

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """Join rows that were cut."""
        if len(parts) == 1:
            return parts[0]
        size = np.concatenate([part.size for part in parts])
        return cls(
            np.concatenate([part.event for part in parts]),
            np.concatenate([part.time_ns for part in parts]),
            np.concatenate([part.tid for part in parts]),
            np.concatenate([part.arrived for part in parts]),
            _places(size),
            size,
            b"".join(part.data for part in parts),
        )


def _places(size: Int64Array) -> Int64Array:
    return np.cumsum(size) - size
