"""Decoder for pages of the kernel's trace buffer with records of uprobes."""

from __future__ import annotations

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.dtrace import kernel
from qtctl.backends.dtrace.arguments import ProbeArguments
from qtctl.backends.dtrace.uprobes import Sites
from qtctl.backends.ring.kernel import BAD, LOST
from qtctl.backends.ring.layout import Layout
from qtctl.backends.ring.pages import Pages, RingRows
from qtctl.backends.splitting import as_batch
from qtctl.model import Backend
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss


class ProbeDecoder:
    """Decodes the pages of one processor; keeps at most one unfinished page.

    Records that are of no probe in ``sites``, and what cannot be read, are losses.
    """

    def __init__(
        self, table: EventTable, layout: Layout, sites: Sites, *, pid: int | None = None
    ) -> None:
        self._table = table
        self._pages = Pages(layout)
        self._sites = sites
        self._reader = ProbeArguments(table)
        self._pid = pid

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

    def _items(self, rows: RingRows, clocks: Clocks) -> Items:
        if not len(rows.kind):
            return []
        event = np.full(len(rows.kind), -1, np.int32)
        address_at, arguments_at, addresses, events, kinds = self._sites
        kernel.find_sites(
            rows.data,
            rows.kind.data,
            rows.start.data,
            rows.stop.data,
            address_at,
            arguments_at,
            addresses.data,
            events.data,
            kinds.data,
            event.data,
        )
        columns = (event, rows.time_ns, rows.tid, rows.start, rows.start + arguments_at, rows.stop)
        table, pid, reader = self._table, self._pid, self._reader
        whole = as_batch(table, rows.data, columns, clocks, Backend.DTRACE, pid=pid, reader=reader)
        others = np.flatnonzero(event < 0).tolist()
        if not others:
            return [whole]
        out: Items = []
        begin = 0
        for other in [*others, len(event)]:
            if other > begin:
                out.append(whole.select(slice(begin, other)))
            begin = other + 1
            if other < len(event):
                count: int | None = 1
                if rows.kind[other] in (LOST, BAD):
                    known = int(rows.start[other])
                    count = known if known > 0 else None
                out.append(Loss(Backend.DTRACE, count, int(whole.time_ns[other])))
        return out
