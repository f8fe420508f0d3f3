"""Decoder for the text of the log backend (QEMU 7.2 to 11.1), mixed with other output or not."""

from __future__ import annotations

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.log import kernel as splitting
from qtctl.backends.splitting import LineDecoder, RowBuffers, as_batch
from qtctl.model import Backend, Clock
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items

LINE_LIMIT = 1 << 20


class LogDecoder(LineDecoder):
    """Decodes log text; keeps at most one unfinished record.

    A line that is no event is a text row; one of more than ``line_limit`` bytes is several text
    rows. Lines without a time get the time at which they were read (Clock.ARRIVAL).
    """

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
        self._stamp = np.zeros(3, np.int64)
        self._buffers = RowBuffers(np.int32, np.int64, np.int32, np.int64, np.int64, np.int64)

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
            final,
            after=(self._limit,),
        )
        self._keep(data[reached:])
        if final:
            self._stamp[2] = 0
        if not len(columns[0]):
            return []
        backend, clock, pid = self._backend, self._clock, self._pid
        return [as_batch(table, data, columns, clocks, backend, clock=clock, pid=pid)]
