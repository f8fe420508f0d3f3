"""What decoders of pages of the kernel's trace buffer share."""

from __future__ import annotations

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.ring.kernel import BAD, LOST
from qtctl.backends.ring.layout import Layout
from qtctl.backends.ring.pages import Pages, RingRows
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.items import Items, Loss


class RingDecoder:
    """Decodes the pages of one processor; keeps at most one unfinished page.

    What a record is, a subclass says in :meth:`_batch`.
    """

    def __init__(self, layout: Layout, backend: Backend) -> None:
        self._pages = Pages(layout)
        self._backend = backend

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished page that is kept."""
        return self._pages.pending_bytes

    def feed(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the next bytes."""
        return self._items(self._pages.split(data), clocks)

    def flush(self, clocks: Clocks) -> Items:
        """Decode what is kept as if the buffer ended there."""
        return self._items(self._pages.split(b"", final=True), clocks)

    def _batch(self, rows: RingRows, clocks: Clocks) -> tuple[Batch, BoolArray, Int64Array]:
        """Return all rows as a batch, which are records, and how many are lost at each other."""
        raise NotImplementedError

    def _items(self, rows: RingRows, clocks: Clocks) -> Items:
        if not len(rows.kind):
            return []
        whole, own, lost = self._batch(rows, clocks)
        breaks = (rows.kind == LOST) | (rows.kind == BAD)
        lost[breaks] = rows.start[breaks]
        gaps = np.flatnonzero(breaks | (lost > 0)).tolist()
        if not gaps and own.all():
            return [whole]
        out: Items = []
        begin = 0
        for gap in [*gaps, len(own)]:
            mine = own[begin:gap]
            if mine.all():
                out += [whole.select(slice(begin, gap))] if len(mine) else []
            elif mine.any():
                out.append(whole.select(np.flatnonzero(mine) + begin))
            begin = gap + 1
            if gap < len(own):
                count = int(lost[gap])
                time_ns = int(whole.time_ns[gap])
                out.append(Loss(self._backend, count if count > 0 else None, time_ns))
        return out
