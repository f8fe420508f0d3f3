"""Decoder for the text of the log backend (QEMU 7.2 to 11.1), mixed with other output or not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.base import Clocks
from qtctl.backends.log import kernel as splitting
from qtctl.backends.log.spanning import ISO_STAMP, NO_STAMP, THREAD_STAMP, Lines
from qtctl.backends.splitting import Arrays, LineDecoder, RowBuffers, as_batch
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items

LINE_LIMIT = 1 << 20


class LogDecoder(LineDecoder):
    """Decodes log text; keeps at most one record, with the lines of its texts (``spanning``).

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
        self._awaited = table.spans
        """By event: whether the line behind a record may change it."""
        self._clock = clock
        self._backend = backend
        self._pid = pid
        self._stamp = np.zeros(5, np.int64)
        self._buffers = RowBuffers(np.int32, np.int64, np.int32, *(np.int64,) * 4)
        self._stamped = False
        self._held_ns: int | None = None

    def end(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the last bytes, with what is kept; other bytes begin a new text."""
        items = super().end(data, clocks)
        self._stamped = False
        return items

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
        held_ns, self._held_ns, self.holds = self._held_ns, None, False
        lines = self._lines(data, columns, clocks)
        count = len(columns[0])
        keep = count if final else lines.decided(self._awaited)
        if keep < count:
            reached = int(lines.start[keep])
            self.holds = True
            self._held_ns = clocks.now_ns if keep or held_ns is None else held_ns
        if final or keep < count:
            self._stamp[2] = 0
        self._keep(data[reached:])
        if not keep:
            return []
        batch = self._made(lines.first(keep), tuple(one[:keep] for one in columns), clocks)
        if held_ns is not None and batch.arrived[0]:
            batch.time_ns[0] = held_ns
        return [batch]

    def _lines(self, data: bytes, columns: Arrays, clocks: Clocks) -> Lines:
        """Return the rows of the kernel as lines.

        A QEMU stamps all of its records or none: behind the first stamp, a line without one is no
        record, whatever name it begins with.
        """
        event, _, _, start, _, begin, stop = columns
        stamp = stamps(columns)
        record = event >= 0
        if not self._stamped and (stamped := record & (stamp > NO_STAMP)).any():
            record[: int(stamped.argmax())] = False
            self._stamped = True
        if self._stamped:
            fake = record & (stamp == NO_STAMP)
            event[fake], begin[fake] = -1, start[fake]
        return Lines(data, self._table, event, stamp, np.zeros_like(start), start, begin, stop)

    def _made(self, lines: Lines, columns: Arrays, clocks: Clocks) -> Batch:
        """Return lines as a batch; there is at least one."""
        cut, joined = lines.join()
        if joined.any():
            cut, columns = cut[~joined], tuple(column[~joined] for column in columns)
        return self._batch(lines.data, columns, clocks, cut)

    def _batch(
        self, data: bytes, columns: Arrays, clocks: Clocks, cut: BoolArray | None = None
    ) -> Batch:
        event, time_ns, tid, start, _, begin, stop = columns
        columns = event, time_ns, tid, start, begin, stop
        backend, clock, pid = self._backend, self._clock, self._pid
        return as_batch(self._table, data, columns, clocks, backend, clock=clock, pid=pid, cut=cut)


def stamps(columns: Arrays) -> NDArray[np.int8]:
    """Return the stamps at the begin of the kernel's rows; see :data:`NO_STAMP`."""
    _, time_ns, tid, *_ = columns
    found = (time_ns >= 0).astype(np.int8)
    found[(tid < 0) & (found == THREAD_STAMP)] = ISO_STAMP
    return found
