"""Decoder for the text of the kernel's ``trace_pipe``: QEMU's marks, kernel events, losses.

Bytes in, batches and losses out: no files, no awaits. However the bytes are cut, the records are
the same. QEMU writes ``name args`` to trace_marker (scripts/tracetool/backend/ftrace.py of QEMU,
7.2 to 11.1), cut at 512 bytes; the kernel puts a head before it (see ``kernels/trace.py``). A text
that holds a newline cannot be told from lines of the kernel's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.ftrace import kernel as trace
from qtctl.backends.ftrace.kernel import EVENT, LOST, MARK, PLAIN
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.kernels import naming

__all__ = ["LINE_LIMIT", "Missed", "TraceDecoder"]

LINE_LIMIT = 1 << 16
_ROWS = 1 << 14
_KINDS = (np.int32, np.int32, np.int32, np.int64, np.int64, np.int64, np.int64, np.int64)
_STRANGER = -2

_Columns: TypeAlias = tuple[NDArray[Any], ...]


@dataclass(frozen=True, slots=True)
class Missed:
    """Records that are not there: how many, or None where that is not known."""

    count: int | None


@dataclass(frozen=True, slots=True)
class _Before:
    """The last line with a head, which lines without one belong to."""

    tid: int = -1
    time_ns: int = -1
    mine: bool = True


class TraceDecoder:
    """Turns trace_pipe text into batches of one guest's records; keeps one unfinished record.

    ``pid`` None takes those of all processes. ``owner_of`` tells the process of a thread, or None
    where that cannot be known: it is asked once a call for threads whose process the kernel did
    not print. ``kernel`` maps the short names of kernel events (``kvm_exit``) to names in
    ``table`` (``kvm:kvm_exit``); these are taken whatever thread they are of, for the buffer holds
    no others. ``timed`` says that the buffer's clock, plus an offset, is ``clock``; else records
    get ``now_ns`` (Clock.ARRIVAL).
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
        self._before = _Before()
        self._room = tuple(np.empty(_ROWS, dtype=kind) for kind in _KINDS)

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished record that is kept."""
        return len(self._carry)

    def feed(self, data: bytes, *, offset_ns: int, now_ns: int) -> list[Batch | Missed]:
        """Decode the next bytes.

        ``offset_ns`` brings the buffer's clock to Unix time, or what ``clock`` says; ``now_ns`` is
        when they were read; both in ns.
        """
        return self._decode(self._carry + data, False, offset_ns, now_ns)

    def flush(self, *, offset_ns: int, now_ns: int) -> list[Batch | Missed]:
        """Decode what is kept as if the text ended here."""
        return self._decode(self._carry, True, offset_ns, now_ns)

    def _decode(
        self, data: bytes, final: bool, offset_ns: int, now_ns: int
    ) -> list[Batch | Missed]:
        self._carry = b""
        if not data:
            return []
        columns, reached = self._split(data, final)
        event, begin = self._named(data, columns)
        keep = len(event)
        if not final:
            keep = self._hold_back(columns[0], event)
            if keep < len(event):
                reached = int(columns[4][keep])
                self._state[3] = 0
                event, begin = event[:keep], begin[:keep]
                columns = tuple(column[:keep] for column in columns)
        self._carry = data[reached:]
        return self._rows(data, columns, event, begin, offset_ns, now_ns) if keep else []

    def _split(self, data: bytes, final: bool) -> tuple[_Columns, int]:
        parts: list[_Columns] = []
        reached = 0
        kind, tid, tgid, time_ns, start, word, first, stop = (each.data for each in self._room)
        while True:
            rows, reached = trace.split_trace(
                data,
                self._state.data,
                final,
                kind,
                tid,
                tgid,
                time_ns,
                start,
                word,
                first,
                stop,
                reached,
                self._limit,
            )
            parts.append(tuple(column[:rows].copy() for column in self._room))
            if rows < _ROWS:
                break
        if len(parts) == 1:
            return parts[0], reached
        return tuple(map(np.concatenate, zip(*parts, strict=True))), reached

    def _named(self, data: bytes, columns: _Columns) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the event of each row (-1: none) and where its arguments begin."""
        kind, _, _, _, _, word, first, stop = columns
        event, begin = np.full(len(kind), -1, np.int32), first.copy()
        marks = np.flatnonzero(kind == MARK)
        if len(marks):
            event[marks], begin[marks] = _match(data, self._table, first[marks], stop[marks])
        others = np.flatnonzero(kind == EVENT) if len(self._long) else marks[:0]
        if len(others):
            # The colon and the blank behind the word are no part of it.
            found, _ = _match(data, self._short, word[others], first[others] - 2)
            known = found >= 0
            event[others[known]] = self._long[found[known]]
        return event, begin

    def _hold_back(self, kind: NDArray[np.int32], event: NDArray[np.int32]) -> int:
        """Return how many rows are complete: the last record may go on in the next bytes."""
        heads = np.flatnonzero(kind != PLAIN)
        if not len(heads):
            return len(kind)
        last = int(heads[-1])
        if kind[last] != MARK or event[last] < 0:
            return len(kind)
        more = int(self._table.extra_lines[event[last]])
        return last if len(kind) - 1 - last < more else len(kind)

    def _rows(
        self,
        data: bytes,
        columns: _Columns,
        event: NDArray[np.int32],
        begin: NDArray[np.int64],
        offset_ns: int,
        now_ns: int,
    ) -> list[Batch | Missed]:
        kind, tid, tgid, time_ns, start, _, _, stop = columns
        mine = (kind == LOST) | (kind == PLAIN) | ((kind == EVENT) & (event >= 0))
        strangers = self._claim(kind, event, tid, tgid, mine)
        self._join(kind, event, tid, time_ns, stop, mine)
        arrived = time_ns < 0
        if not self._timed:
            arrived |= True
        stamped = np.where(arrived, now_ns, time_ns + offset_ns)
        whole = Batch(
            table=self._table,
            data=data,
            event=event,
            time_ns=stamped,
            tid=tid,
            start=start,
            begin=begin,
            stop=stop,
            arrived=arrived,
            clock=self._clock,
            backend=Backend.FTRACE,
            pid=self._pid,
        )
        out: list[Batch | Missed] = []
        at = 0
        for gap in np.flatnonzero(kind == LOST).tolist():
            _add(out, whole, mine, at, gap)
            count = int(columns[3][gap])
            out.append(Missed(None if count < 0 else count))
            at = gap + 1
        _add(out, whole, mine, at, len(kind))
        if strangers:
            out.append(Missed(strangers))
        return out

    def _claim(
        self,
        kind: NDArray[np.int32],
        event: NDArray[np.int32],
        tid: NDArray[np.int32],
        tgid: NDArray[np.int32],
        mine: NDArray[np.bool_],
    ) -> int:
        """Mark the guest's rows in ``mine``; return how many could be anybody's."""
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
        ids = np.array([_STRANGER if owner is None else owner for owner in owners], np.int64)
        mine[unknown] = ids[place] == self._pid
        nobody = unknown[ids[place] == _STRANGER]
        return int((event[nobody] >= 0).sum())

    def _join(
        self,
        kind: NDArray[np.int32],
        event: NDArray[np.int32],
        tid: NDArray[np.int32],
        time_ns: NDArray[np.int64],
        stop: NDArray[np.int64],
        mine: NDArray[np.bool_],
    ) -> None:
        """Give lines without a head to the one before; those an event spans become part of it."""
        rows = np.arange(len(kind))
        heads, plain = (kind == MARK) | (kind == EVENT), kind == PLAIN
        before = np.maximum.accumulate(np.where(heads, rows, -1))
        own, first = plain & (before >= 0), plain & (before < 0)
        of = before[own]
        tid[own], time_ns[own], mine[own] = tid[of], time_ns[of], mine[of]
        tid[first], time_ns[first] = self._before.tid, self._before.time_ns
        mine[first] = self._before.mine
        spans = np.where((kind == MARK) & (event >= 0), self._table.extra_lines[event], 0)
        # A loss stands between records, never inside one.
        unbroken = np.maximum.accumulate(np.where(plain, -1, rows)) == before
        taken = own & unbroken
        taken[taken] = rows[taken] - before[taken] <= spans[before[taken]]
        np.maximum.at(stop, before[taken], stop[taken])
        mine[taken] = False
        if heads.any():
            last = int(np.flatnonzero(heads)[-1])
            self._before = _Before(int(tid[last]), int(time_ns[last]), bool(mine[last]))


def _match(
    data: bytes, table: EventTable, start: NDArray[np.int64], stop: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    event, begin = np.empty(len(start), np.int32), np.empty(len(start), np.int64)
    naming.match_names(
        data,
        table.blob,
        table.offsets.data,
        table.slots.data,
        table.longest,
        np.ascontiguousarray(start).data,
        np.ascontiguousarray(stop).data,
        event.data,
        begin.data,
    )
    return event, begin


def _add(
    out: list[Batch | Missed], whole: Batch, mine: NDArray[np.bool_], first: int, end: int
) -> None:
    rows = np.flatnonzero(mine[first:end]) + first
    if len(rows):
        out.append(whole.select(rows))
