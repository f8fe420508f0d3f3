"""Decoder for pages of the kernel's trace buffer with QEMU's marks.

QEMU writes ``name args`` to trace_marker (scripts/tracetool/backend/ftrace.py of QEMU, 7.2 to
11.1), of which ``snprintf`` keeps 511 bytes with the newline. The kernel keeps each write as a
record of the event ``print``, whatever lines the text has.
"""

from __future__ import annotations

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.ftrace.nameless import Nameless
from qtctl.backends.ring import kernel
from qtctl.backends.ring.decoder import RingDecoder
from qtctl.backends.ring.layout import EventFormat, Layout
from qtctl.backends.ring.pages import RingRows
from qtctl.backends.ring.threads import Threads
from qtctl.backends.splitting import as_batch
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.event_table import EventTable

PRINT = "ftrace:print"
MOST_BYTES = 510
"""A longer text, without its newline, is one that QEMU cut, or may be."""


class MarkDecoder(RingDecoder):
    """Decodes the marks of one processor's pages.

    ``mark`` is the format of :data:`PRINT`. Only those of the guest's ``threads`` are records
    (None: all); of which nobody knows whose they are, those that are events are counted as lost.
    ``timed``: the buffer's clock, plus the offset, is Unix time; else records have the time at
    which they were read. ``nameless`` finds the events of marks without a name.
    """

    def __init__(
        self,
        table: EventTable,
        layout: Layout,
        mark: EventFormat,
        *,
        pid: int | None = None,
        threads: Threads | None = None,
        timed: bool = True,
        nameless: Nameless | None = None,
    ) -> None:
        super().__init__(layout, Backend.FTRACE)
        self._table = table
        self._number, self._text_at = mark.number, mark.fields["buf"].offset
        self._pid, self._threads = pid, threads
        self._timed = timed
        self._nameless = nameless

    def _batch(self, rows: RingRows, clocks: Clocks) -> tuple[Batch, BoolArray, Int64Array]:
        first, stop = np.empty_like(rows.start), np.empty_like(rows.stop)
        kernel.find_texts(
            rows.data,
            rows.kind.data,
            rows.start.data,
            rows.stop.data,
            self._number,
            self._text_at,
            first.data,
            stop.data,
        )
        event, begin = self._table.match(rows.data, first, stop)
        own = rows.kind == self._number
        lost = np.zeros(len(own), np.int64)
        if self._threads is not None:
            ours, unknown = self._threads.own(rows.tid)
            if unknown.any():
                strange = np.flatnonzero(own & unknown & (event >= 0))
                lost[strange[:1]] = len(strange)
            own &= ours
        if self._nameless is not None and event.min() < 0:
            self._nameless.name(rows.data, event, begin, first, stop, own)
        time_ns = rows.time_ns if self._timed else np.full_like(rows.time_ns, -1)
        columns = (event, time_ns, rows.tid, first, begin, stop)
        cut = stop - first > MOST_BYTES
        cut &= own & (event >= 0)
        whole = as_batch(
            self._table, rows.data, columns, clocks, Backend.FTRACE, pid=self._pid, cut=cut
        )
        return whole, own, lost
