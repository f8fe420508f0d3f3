"""The guest's writes to its log, as the kernel traced them: when, by which thread, how many bytes.

Source: the tracepoints ``sys_enter_write``, ``sys_enter_writev`` and their exits
(kernel/trace/trace_syscalls.c of Linux, 6.1 to 6.18). glibc writes the log by write(2), musl by
writev(2). A record at the exit tells how many bytes were written, which may be none, or a part.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.ring.decoder import RingDecoder
from qtctl.backends.ring.layout import Field, Layout
from qtctl.backends.ring.pages import RingRows
from qtctl.backends.splitting import as_batch
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.event_table import EventTable

ENTER, EXIT = 0, 1
"""What a row of :class:`WriteDecoder` is."""
_TABLE = EventTable.build(["enter", "exit"], {})


class Numbers(NamedTuple):
    """The numbers of the kernel's events, and where an exit has its result."""

    enters: tuple[int, ...]
    exits: tuple[int, ...]
    result: Field


class WriteDecoder(RingDecoder):
    """Decodes the pages of one processor to rows ENTER and EXIT; times are the buffer's."""

    def __init__(self, layout: Layout, numbers: Numbers) -> None:
        super().__init__(layout, Backend.LOG)
        self._numbers = numbers

    def _batch(self, rows: RingRows, clocks: Clocks) -> tuple[Batch, BoolArray, Int64Array]:
        enter = np.isin(rows.kind, self._numbers.enters)
        left = np.isin(rows.kind, self._numbers.exits)
        left &= rows.stop - rows.start >= self._numbers.result.offset + self._numbers.result.size
        event = np.where(enter, ENTER, EXIT).astype(np.int32)
        columns = (event, rows.time_ns, rows.tid, rows.start, rows.start, rows.stop)
        whole = as_batch(_TABLE, rows.data, columns, Clocks(clocks.now_ns), Backend.LOG)
        own = enter | left
        return whole, own, (~own).astype(np.int64)


class Writes(NamedTuple):
    """Writes in order.

    ``begin``, ``end``: how many bytes were written before and after each since the trace began.
    ``enter_ns``, ``exit_ns``: when it began and ended, by CLOCK_MONOTONIC; ``unix_ns``: when it
    began, in Unix time. ``turns`` is how often the thread had changed.
    """

    begin: Int64Array
    end: Int64Array
    enter_ns: Int64Array
    exit_ns: Int64Array
    unix_ns: Int64Array
    tid: Int64Array
    turns: Int64Array

    @classmethod
    def none(cls) -> Self:
        """Return no writes."""
        return cls(*np.empty((7, 0), np.int64))

    def behind(self, before: Writes) -> Writes:
        """Return the writes ``before``, and these behind them."""
        return Writes(*map(np.concatenate, zip(before, self, strict=True)))

    def since(self, first: int) -> Writes:
        """Return the writes from index ``first`` on."""
        return Writes(*(column[first:] for column in self))


class _Calls(NamedTuple):
    """Rows ENTER and EXIT by time; ``result`` is that of an exit."""

    event: Int64Array
    time_ns: Int64Array
    tid: Int64Array
    result: Int64Array

    def since(self, first: int) -> _Calls:
        return _Calls(*(column[first:] for column in self))


class WritePairs:
    """Joins the begin and the end of each write.

    QEMU holds the lock of its log from one to the other, so that no other write to it begins
    between them.
    """

    def __init__(self, result: Field) -> None:
        self._at = result.offset
        self._rest = _Calls(*np.empty((4, 0), np.int64))

    @property
    def open_ns(self) -> int | None:
        """When the write began that has not ended yet."""
        return int(self._rest.time_ns[0]) if len(self._rest.event) else None

    def forget(self) -> None:
        """Forget the write that has not ended yet."""
        self._rest = self._rest.since(len(self._rest.event))

    def pair(self, batch: Batch) -> tuple[_Calls, Int64Array, bool]:
        """Return the rows at which writes began and ``result`` of each, when each ended, and more.

        The last is whether a write before these is without an end, so that nobody knows its size.
        """
        event, tid = batch.event.astype(np.int64), batch.tid.astype(np.int64)
        fresh = _Calls(event, batch.time_ns, tid, self._results(batch))
        rows = _Calls(*map(np.concatenate, zip(self._rest, fresh, strict=True)))
        begins = np.flatnonzero(rows.event == ENTER)
        ends = np.flatnonzero(rows.event == EXIT)
        owner = np.searchsorted(begins, ends) - 1
        ends, owner = ends[owner >= 0], owner[owner >= 0]
        same = rows.tid[ends] == rows.tid[begins[owner]]
        owners, first = np.unique(owner[same], return_index=True)
        ended = np.full(len(begins), -1, np.int64)
        ended[owners] = ends[same][first]
        waits = bool(len(begins)) and ended[-1] < 0
        self._rest = rows.since(int(begins[-1]) if waits else len(rows.event))
        begins, ended = begins[: len(begins) - waits], ended[: len(begins) - waits]
        broken = np.flatnonzero(ended < 0)
        if len(broken):
            begins, ended = begins[broken[-1] + 1 :], ended[broken[-1] + 1 :]
        found = _Calls(
            rows.event[begins], rows.time_ns[begins], rows.tid[begins], rows.result[ended]
        )
        return found, rows.time_ns[ended], bool(len(broken))

    def _results(self, batch: Batch) -> Int64Array:
        """Return the results of exits, 0 for other rows."""
        found = np.zeros(len(batch), np.int64)
        ends = np.flatnonzero(batch.event == EXIT)
        # Records lie at multiples of 4 in a page.
        words = np.frombuffer(batch.data, np.uint32, len(batch.data) // 4)
        places = (batch.begin[ends] + self._at) >> 2
        found[ends] = words[places].astype(np.int64) | words[places + 1].astype(np.int64) << 32
        return found
