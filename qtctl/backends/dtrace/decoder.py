"""Decoder for pages of the kernel's trace buffer with records of uprobes."""

from __future__ import annotations

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.dtrace import kernel
from qtctl.backends.dtrace.arguments import ProbeArguments
from qtctl.backends.dtrace.uprobes import Sites
from qtctl.backends.ring.decoder import RingDecoder
from qtctl.backends.ring.layout import Layout
from qtctl.backends.ring.pages import RingRows
from qtctl.backends.splitting import as_batch
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.event_table import EventTable


class ProbeDecoder(RingDecoder):
    """Decodes the pages of one processor.

    Records that are of no probe in ``sites``, and what cannot be read, are losses.
    """

    def __init__(
        self, table: EventTable, layout: Layout, sites: Sites, *, pid: int | None = None
    ) -> None:
        super().__init__(layout, Backend.DTRACE)
        self._table = table
        self._sites = sites
        self._reader = ProbeArguments(table)
        self._pid = pid

    def _batch(self, rows: RingRows, clocks: Clocks) -> tuple[Batch, BoolArray, Int64Array]:
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
        known = event >= 0
        return whole, known, (~known).astype(np.int64)
