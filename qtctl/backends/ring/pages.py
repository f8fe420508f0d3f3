"""Decode pages of one processor's trace buffer into columns of records."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.ring import kernel
from qtctl.backends.ring.layout import Layout
from qtctl.backends.splitting import Arrays, joined
from qtctl.records.columns import Int64Array

_ROWS = 1 << 14


class RingRows(NamedTuple):
    """Records in ``data``, in order.

    ``kind``: number of the kernel event, ``kernel.LOST`` (``start`` is how many, -1: unknown) or
    ``kernel.BAD`` (what follows in the page cannot be read). ``tid``: thread. ``time_ns``: by the
    buffer's clock. ``start``, ``stop``: the record in ``data``.
    """

    data: bytes
    kind: NDArray[np.int32]
    tid: NDArray[np.int32]
    time_ns: Int64Array
    start: Int64Array
    stop: Int64Array


class Pages:
    """Splits pages, however they are cut, and keeps the bytes of an unfinished one."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._carry = b""
        rows = max(_ROWS, layout.page_bytes // 8 + 2)
        self._room: Arrays = (*np.empty((2, rows), np.int32), *np.empty((3, rows), np.int64))

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished page that is kept; less than a page has."""
        return len(self._carry)

    def split(self, data: bytes, *, final: bool = False) -> RingRows:
        """Return the records of the next bytes; ``final``: a page that is cut ends there."""
        if self._carry:
            data = self._carry + data
        kind, tid, time_ns, start, stop = (column.data for column in self._room)
        parts, at = [], 0
        while True:
            rows, after = kernel.split_pages(
                data, *self._layout, final, kind, tid, time_ns, start, stop, at
            )
            parts.append(tuple(column[:rows].copy() for column in self._room))
            if after == at or after == len(data):
                break
            at = after
        self._carry = data[after:]
        return RingRows(data, *joined(parts))
