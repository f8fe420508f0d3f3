"""Decoder for the text of the log backend (QEMU 7.2 to 11.1), mixed with other output or not."""

from __future__ import annotations

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.log import kernel as splitting
from qtctl.backends.splitting import Arrays, LineDecoder, RowBuffers, as_batch
from qtctl.model import Backend, Clock
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items

LINE_LIMIT = 1 << 20


class LogDecoder(LineDecoder):
    """Decodes log text; keeps at most one unfinished record.

    A line that is no event is a text row; one of more than ``line_limit`` bytes is several text
    rows. Lines without a time get the time at which they were read (Clock.ARRIVAL).
    """

    _anywhere = False
    """Whether the name of an event may stand anywhere in a line."""

    def __init__(
        self,
        table: EventTable,
        *,
        clock: Clock = Clock.REALTIME,
        backend: Backend = Backend.LOG,
        pid: int | None = None,
        line_limit: int = LINE_LIMIT,
    ) -> None:
        super().__init__(line_limit)
        self._table = table
        self._clock = clock
        self._backend = backend
        self._pid = pid
        self._stamp = np.zeros(5, np.int64)
        self._buffers = RowBuffers(np.int32, np.int64, np.int32, *(np.int64,) * 4)

    def _decode(self, data: bytes, clocks: Clocks, *, final: bool) -> Items:
        table = self._table
        columns, reached = self._buffers.fill(
            splitting.split_lines,
            data,
            table.blob,
            table.offsets.data,
            table.slots.data,
            table.extra_lines.data,
            table.longest,
            self._stamp.data,
            self._anywhere,
            final,
            after=(self._limit,),
        )
        self._keep(data[reached:])
        if final:
            self._stamp[2] = 0
        if not len(columns[0]):
            return []
        return self._made(data, columns, clocks)

    def _made(self, data: bytes, columns: Arrays, clocks: Clocks) -> Items:
        """Return the rows of a kernel as a batch."""
        event, time_ns, tid, start, _, begin, stop = columns
        columns = event, time_ns, tid, start, begin, stop
        backend, clock, pid = self._backend, self._clock, self._pid
        return [as_batch(self._table, data, columns, clocks, backend, clock=clock, pid=pid)]
