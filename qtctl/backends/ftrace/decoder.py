"""Decoder for the text of the kernel's ``trace_pipe``: QEMU's marks, kernel events, losses.

QEMU writes ``name args`` to trace_marker (scripts/tracetool/backend/ftrace.py of QEMU,
7.2 to 11.1), of which ``snprintf`` keeps 511 bytes with the newline; the kernel puts a head before
it (see ``kernel.py``). Lines without a head continue a text of the mark before them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.base import Clocks
from qtctl.backends.ftrace import kernel as trace
from qtctl.backends.ftrace.kernel import EVENT, LOST, MARK, PLAIN
from qtctl.backends.splitting import Arrays, RowBuffers, as_batch
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import StringColumn
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from qtctl.records.origins import Origin

LINE_LIMIT = 1 << 16
_STRANGER = -2
_COMM_BYTES = 16
_UNKNOWN = "<...>"
_MARK_BYTES = len(b"tracing_mark_write: ")
_MOST_BYTES = 510
"""A longer text, without its newline, is one that QEMU cut, or may be."""

_SPAN_BYTES = _MARK_BYTES + _MOST_BYTES + 1
"""Of a mark with all lines of its text."""

_NOTHING = (-1, -1, True)


class TraceDecoder:
    """Decodes trace_pipe text into one guest's records; keeps one unfinished record.

    ``pid`` None selects all processes, and gives each record its origin. ``owner_of`` returns the
    process of a thread, None if unknown: called once a chunk for each thread whose process the
    kernel did not print. ``kernel`` maps the short names of kernel events (``kvm_exit``) to names
    in ``table`` (``kvm:kvm_exit``); these are decoded for any thread, since the buffer holds no
    others. ``timed``: the buffer's clock, plus the offset, is ``clock``; else records get the time
    at which they were read.
    """

    def __init__(
        self,
        table: EventTable,
        *,
        pid: int | None,
        owner_of: Callable[[int], int | None] = lambda _: None,
        kernel: Mapping[str, str] | None = None,
        timed: bool = True,
        clock: Clock = Clock.REALTIME,
        line_limit: int = LINE_LIMIT,
    ) -> None:
        self._table = table
        self._pid = pid
        self._owner_of = owner_of
        short = kernel or {}
        self._short = EventTable.build(short, {})
        self._long = np.array([table.indices[short[n]] for n in self._short.names], np.int32)
        self._timed = timed
        self._clock = clock
        self._limit = line_limit
        self._carry = b""
        self._state = np.zeros(4, np.int64)
        # Thread, time and whether it is the guest's, of the last line with a head: lines without
        # one belong to it.
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
        kind, _, _, _, _, word, first, stop = columns
        event = np.full(len(kind), -1, np.int32)
        marks = np.flatnonzero(kind == MARK)
        if len(marks):
            event[marks], begin = self._table.match(data, first[marks], stop[marks])
            first[marks] = begin
        others = np.flatnonzero(kind == EVENT) if len(self._long) else marks[:0]
        if len(others):
            # The colon and the blank behind the word are no part of it.
            found, _ = self._short.match(data, word[others], first[others] - 2)
            known = found >= 0
            event[others[known]] = self._long[found[known]]
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
        mine = (kind == LOST) | (kind == PLAIN) | ((kind == EVENT) & (event >= 0))
        strangers = self._claim(columns, mine)
        self._join(columns, mine)
        stamped = np.where(self._timed, time_ns, -1)
        rows = (event, stamped, tid, start, begin, stop)
        clock, pid = self._clock, self._pid
        cut = (kind == MARK) & (event >= 0) & (stop - word - _MARK_BYTES > _MOST_BYTES)
        whole = as_batch(
            self._table, data, rows, clocks, Backend.FTRACE, clock=clock, pid=pid, cut=cut
        )
        if pid is None:
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
                out.append(self._loss(None if count < 0 else count, clocks))
            at = gap + 1
        if strangers:
            out.append(self._loss(strangers, clocks))
        return out

    def _loss(self, count: int | None, clocks: Clocks) -> Loss:
        """Return a loss; the kernel gives it no time.

        It gets the time of reading, or the last record's where times are not Unix time.
        """
        unix = self._clock is Clock.REALTIME
        return Loss(Backend.FTRACE, count, clocks.now_ns if unix else self._last_ns)

    def _claim(self, columns: Arrays, mine: NDArray[np.bool_]) -> int:
        """Mark the guest's rows in ``mine``; return how many rows have an unknown owner."""
        event, kind, tid, tgid = columns[:4]
        marks = ((kind == MARK) | (kind == EVENT)) & ~mine
        if self._pid is None:
            mine |= marks
            return 0
        mine |= marks & (tgid == self._pid)
        unknown = np.flatnonzero(marks & (tgid < 0))
        if not len(unknown):
            return 0
        threads, place = np.unique(tid[unknown], return_inverse=True)
        owners = [self._owner_of(thread) for thread in threads.tolist()]
        ids = np.array([_STRANGER if owner is None else owner for owner in owners])[place]
        mine[unknown] = ids == self._pid
        return int((event[unknown[ids == _STRANGER]] >= 0).sum())

    def _join(self, columns: Arrays, mine: NDArray[np.bool_]) -> None:
        """Assign lines without a head to the record before; merge those that its event spans."""
        event, kind, tid, _, time_ns, _, word, _, stop = columns
        rows = np.arange(len(kind))
        heads, plain = (kind == MARK) | (kind == EVENT), kind == PLAIN
        before = np.maximum.accumulate(np.where(heads, rows, -1))
        own, first = plain & (before >= 0), plain & (before < 0)
        of = before[own]
        tid[own], time_ns[own], mine[own] = tid[of], time_ns[of], mine[of]
        tid[first], time_ns[first], mine[first] = self._before
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
        mine[taken] = False
        if heads.any():
            last = int(np.flatnonzero(heads)[-1])
            self._before = int(tid[last]), int(time_ns[last]), bool(mine[last])


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
