"""Decoder for saved text of the kernel's ``trace_pipe`` or ``trace``: QEMU's marks, losses.

QEMU writes ``name args`` to trace_marker (scripts/tracetool/backend/ftrace.py of QEMU,
7.2 to 11.1), of which ``snprintf`` keeps 511 bytes with the newline; the kernel puts a head before
it (see ``kernel.py``). Lines without a head continue a text of the mark before them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.base import Clocks
from qtctl.backends.ftrace import kernel as trace
from qtctl.backends.ftrace.kernel import EVENT, LOST, MARK, PLAIN
from qtctl.backends.ftrace.marks import MOST_BYTES
from qtctl.backends.splitting import Arrays, RowBuffers, as_batch
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, StringColumn
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from qtctl.records.origins import Origin

LINE_LIMIT = 1 << 16
_COMM_BYTES = 16
_UNKNOWN = "<...>"
_MARK_BYTES = len(b"tracing_mark_write: ")
_SPAN_BYTES = _MARK_BYTES + MOST_BYTES + 1
"""Of a mark with all lines of its text."""

_NOTHING = (-1, -1)


class TraceDecoder:
    """Decodes trace_pipe text; keeps one unfinished record.

    Records get the time of the buffer's clock, their thread's name, and its process if the kernel
    printed it. Other events of the kernel are lines of text.
    """

    def __init__(self, table: EventTable, *, line_limit: int = LINE_LIMIT) -> None:
        self._table = table
        self._limit = line_limit
        self._carry = b""
        self._state = np.zeros(4, np.int64)
        # Thread and time of the last line with a head: lines without one belong to it.
        self._before = _NOTHING
        self._last_ns = 0
        self._buffers = RowBuffers(*(np.int32,) * 3, *(np.int64,) * 5)

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished record that is kept."""
        return len(self._carry)

    def feed(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the next bytes."""
        return self._decode(self._carry + data, clocks, final=False)

    def flush(self, clocks: Clocks) -> Items:
        """Decode what is kept as if the text ended here."""
        items = self._decode(self._carry, clocks, final=True)
        self._state[:], self._before = 0, _NOTHING
        return items

    def _decode(self, data: bytes, clocks: Clocks, *, final: bool) -> Items:
        self._carry = b""
        if not data:
            return []
        columns, reached = self._buffers.fill(
            trace.split_trace, data, self._state.data, final, after=(self._limit,)
        )
        columns = (self._events(data, columns), *columns)
        keep = len(columns[0]) if final else self._complete(columns)
        if keep < len(columns[0]):
            reached = int(columns[5][keep])
            self._state[3] = 0
            columns = tuple(column[:keep] for column in columns)
        self._carry = data[reached:]
        return self._rows(data, columns, clocks) if keep else []

    def _events(self, data: bytes, columns: Arrays) -> NDArray[np.int32]:
        """Return the event of each row (-1: none); move ``first`` to where its arguments begin."""
        kind, *_, first, stop = columns
        event = np.full(len(kind), -1, np.int32)
        marks = np.flatnonzero(kind == MARK)
        if len(marks):
            event[marks], begin = self._table.match(data, first[marks], stop[marks])
            first[marks] = begin
        return event

    def _complete(self, columns: Arrays) -> int:
        """Return how many rows are complete: the last record may go on in the next bytes."""
        event, kind, *_, word, _, stop = columns
        heads = np.flatnonzero(kind != PLAIN)
        if len(heads):
            last = int(heads[-1])
            spans = self._table.spans[event[last]] or self._table.extra_lines[event[last]]
            if kind[last] == MARK and spans and stop[-1] - word[last] <= _SPAN_BYTES:
                return last
        return len(kind)

    def _rows(self, data: bytes, columns: Arrays, clocks: Clocks) -> Items:
        event, kind, tid, _, time_ns, start, word, begin, stop = columns
        mine = self._join(columns)
        rows = (event, time_ns.copy(), tid, start, begin, stop)
        cut = (kind == MARK) & (event >= 0) & (stop - word - _MARK_BYTES > MOST_BYTES)
        whole = as_batch(
            self._table, data, rows, clocks, Backend.FTRACE, clock=Clock.MONOTONIC, cut=cut
        )
        whole = _with_origins(whole, columns[1], columns[3])
        out: Items = []
        at = 0
        for gap in [*np.flatnonzero(kind == LOST).tolist(), len(kind)]:
            own = np.flatnonzero(mine[at:gap]) + at
            if len(own):
                out.append(whole.select(own))
                timed = own[~whole.arrived[own]]
                self._last_ns = int(whole.time_ns[timed[-1]]) if len(timed) else self._last_ns
            if gap < len(kind):
                count = int(time_ns[gap])
                # The kernel gives a loss no time.
                lost = None if count < 0 else count
                out.append(Loss(Backend.FTRACE, lost, self._last_ns))
            at = gap + 1
        return out

    def _join(self, columns: Arrays) -> BoolArray:
        """Merge lines without a head into the record before, where its event spans them.

        Others get its thread and time. Returns the rows that are left.
        """
        event, kind, tid, _, time_ns, _, word, _, stop = columns
        rows = np.arange(len(kind))
        heads, plain = (kind == MARK) | (kind == EVENT), kind == PLAIN
        before = np.maximum.accumulate(np.where(heads, rows, -1))
        own, first = plain & (before >= 0), plain & (before < 0)
        of = before[own]
        tid[own], time_ns[own] = tid[of], time_ns[of]
        tid[first], time_ns[first] = self._before
        spans = np.where(kind == MARK, self._table.extra_lines[event], 0)
        # A loss stands between records, never inside one.
        unbroken = np.maximum.accumulate(np.where(plain, -1, rows)) == before
        taken = own & unbroken
        of = before[taken]
        size = stop[taken] - word[of]
        taken[taken] = (rows[taken] - of <= spans[of]) | (
            (kind[of] == MARK) & self._table.spans[event[of]] & (size <= _SPAN_BYTES)
        )
        np.maximum.at(stop, before[taken], stop[taken])
        if heads.any():
            last = int(np.flatnonzero(heads)[-1])
            self._before = int(tid[last]), int(time_ns[last])
        left: BoolArray = ~taken
        return left


def _with_origins(batch: Batch, kind: NDArray[np.int32], tgid: NDArray[np.int32]) -> Batch:
    """Return a batch with the name of each thread, and its process if the kernel recorded it."""
    rows = np.flatnonzero((kind == MARK) | (kind == EVENT))
    names = StringColumn.from_spans(batch.data, batch.start[rows], batch.start[rows] + _COMM_BYTES)
    both = names.codes.astype(np.int64) << 32 | (tgid[rows].astype(np.int64) + 1)
    distinct, codes = np.unique(both, return_inverse=True)
    origin, origins = np.zeros(len(batch), np.int32), [Origin()]
    for one in distinct.tolist():
        name, pid = names.texts[one >> 32].strip(), (one & 0xFFFFFFFF) - 1
        name = "" if name == _UNKNOWN else name
        origins.append(Origin(pid if pid >= 0 else None, thread=name or None))
    origin[rows] = codes + 1
    return replace(batch, origin=origin, origins=origins)
