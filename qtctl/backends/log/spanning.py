"""Texts with newlines in log text: lines without a stamp continue the record before them.

QEMU 10.2 and later stamp each message of the log with an ISO time, so the lines behind a record up
to the next stamp are its text. 7.2 and 10.0 stamp records only (``TID@SEC.USEC:``): such lines may
be other output, too, and the record is cut. Between stamps no line is a record, whatever name is in
it. Without stamps, a record before other text may lack lines, and is cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.splitting import SPAN_BYTES
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.event_table import EventTable

NO_STAMP, THREAD_STAMP, ISO_STAMP, FOREIGN_STAMP = 0, 1, 2, 3
"""Stamps of QEMU's own before a line; or the line is another program's."""
_TRIED_LINES = 16
ITEM = rb"\n(?:-{16}|IN: |OP\b|OUT: |PROLOGUE: |Trace \d|[ER]AX=)"
"""How items of ``-d`` begin that are printed without a stamp."""


@dataclass(slots=True)
class Lines:
    """The lines of a log, in order.

    ``event``: the record of ``table`` that a line is, -1 for other text; ``begin``: where its
    arguments do. ``stamp``: see :data:`NO_STAMP`. ``head``: how many bytes of another
    program's words a record begins with. ``start``, ``stop``: offsets of the line in ``data``.
    """

    data: bytes
    table: EventTable
    event: NDArray[np.int32]
    stamp: NDArray[np.int8]
    head: Int64Array
    start: Int64Array
    begin: Int64Array
    stop: Int64Array
    _odd: ClassVar[re.Pattern[bytes]] = re.compile(ITEM)
    """What in a text of several lines may not be its own."""

    def first(self, count: int) -> Self:
        """Return the first lines, as views."""
        columns = (field.name for field in fields(self) if field.name not in ("data", "table"))
        return replace(self, **{name: getattr(self, name)[:count] for name in columns})

    def decided(self, awaited: BoolArray) -> int:
        """Return how many lines do not depend on those that may come.

        The last record of one of the events ``awaited`` does, if only other text is behind it.
        """
        last = len(self.event) - 1
        if last >= 0 and self.event[last] < 0:
            known = np.flatnonzero((self.event >= 0) | (self.stamp > NO_STAMP))
            last = int(known[-1]) if len(known) else -1
        if last < 0 or not awaited[self.event[last]]:
            return len(self.event)
        if self.stop[-1] - self.start[last] > SPAN_BYTES:
            return len(self.event)
        return len(self.event) if self._is_closed(last) else last

    def _is_closed(self, row: int) -> bool:
        """Return whether a record is whole by itself, so that nobody needs to wait for more."""
        rows = np.array([row])
        return bool(self._closed(rows, self.stop[rows])[0])

    def join(self) -> tuple[BoolArray, BoolArray]:
        """Return which records may lack lines of their texts, and which lines are others' text.

        ``stop`` of a record is moved behind the lines that are its text.
        """
        cut, joined = np.zeros((2, len(self.event)), np.bool_)
        of, more = self._behind()
        goes_on = self.table.spans[self.event[of]]
        of, more = of[goes_on], more[goes_on]
        goes_on = self._goes_on(of, more)
        of, more = of[goes_on], more[goes_on]
        joins = self._joins(of, more)
        cut[of[~joins | (self.stamp[of] != ISO_STAMP)]] = True
        joined[more[joins]] = True
        self._take(of[joins], more[joins])
        for row in np.unique(of[joins]).tolist():
            cut[row] |= self._odd.search(self.data, self.start[row], self.stop[row]) is not None
        return cut, joined

    def _is_other(self) -> BoolArray:
        """Return which lines are neither records nor have stamps."""
        other: BoolArray = (self.event < 0) & (self.stamp == NO_STAMP)
        return other

    def _behind(self) -> tuple[Int64Array, Int64Array]:
        """Return, pair by pair, the records and stamped lines, and the other lines behind each."""
        rows, other = np.arange(len(self.event)), self._is_other()
        before = np.maximum.accumulate(np.where(other, -1, rows))
        more = np.flatnonzero(other & (before >= 0))
        return before[more], more

    def _joins(self, of: Int64Array, more: Int64Array) -> BoolArray:
        """Return which of the lines ``more`` are text of the records ``of``, or may be."""
        near = self.stop[more] - self.start[of] <= SPAN_BYTES
        joins: BoolArray = near & (self.stamp[of] != NO_STAMP)
        return joins

    def _take(self, of: Int64Array, more: Int64Array) -> None:
        """Move the ends of the records ``of`` behind the lines ``more``."""
        np.maximum.at(self.stop, of, self.stop[more])

    def _goes_on(self, of: Int64Array, more: Int64Array) -> BoolArray:
        """Return which lines ``more`` may be text of the records ``of``.

        Those behind a record that is whole by itself are, if it is whole with some of them, too.
        """
        near = more - of <= _TRIED_LINES
        both = self._closed(of[near], self.stop[more[near]])
        other = np.isin(of, of[near][both])
        return ~self._closed(of, self.stop[of]) | other

    def _closed(self, rows: Int64Array, stop: Int64Array) -> BoolArray:
        """Return which records are whole up to ``stop``, and do not end with a text."""
        closed = np.zeros(len(rows), np.bool_)
        for event in np.unique(self.event[rows]).tolist():
            if self.table.closes(event):
                places = np.flatnonzero(self.event[rows] == event)
                begin = self.begin[rows[places]]
                closed[places] = self.table.read(self.data, event, begin, stop[places])[1]
        return closed
