"""Texts with newlines in log text: lines without a stamp continue the record before them.

QEMU 10.2 and later stamp each message of the log with an ISO time, so the lines behind a record up
to the next stamp are its text. 7.2 and 10.0 stamp records only (``TID@SEC.USEC:``): such lines may
be other output, too, and the record is cut. Between stamps no line is a record, whatever name is in
it. Without stamps, a record before other text may lack lines, and is cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.splitting import SPAN_BYTES
from qtctl.records.columns import BoolArray, Int64Array, StringColumn
from qtctl.records.event_table import EventTable

NO_STAMP, THREAD_STAMP, ISO_STAMP, FOREIGN_STAMP = 0, 1, 2, 3
"""Stamps of QEMU's own before a line; or the line is another program's."""
ALIKE = bytes.maketrans(b"123456789", b"000000000")
"""Makes all digits alike: heads of lines differ in digits only."""
_TRIED_LINES = 16
_TIME_BYTES = 4
_ITEM = re.compile(rb"\n(?:-{16}|IN: |OP\b|OUT: |PROLOGUE: |Trace \d|[ER]AX=)")
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
        rows = np.arange(len(self.event))
        cut, joined = np.zeros(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
        other = (self.event < 0) & (self.stamp == NO_STAMP)
        if not other.any():
            return cut, joined
        before = np.maximum.accumulate(np.where(other, -1, rows))
        more = np.flatnonzero(other & (before >= 0))
        more = more[self.table.spans[self.event[before[more]]]]
        more = more[self._same_head(before[more], more)]
        more = more[self._goes_on(before[more], more)]
        of = before[more]
        stamp = self.stamp[of]
        near = self.stop[more] - self.start[of] <= SPAN_BYTES
        joins = (stamp != NO_STAMP) & (self.head[of] == 0) & near
        cut[of[~joins | (stamp != ISO_STAMP)]] = True
        joined[more[joins]] = True
        np.maximum.at(self.stop, of[joins], self.stop[more[joins]])
        for row in np.unique(of[joins]).tolist():
            cut[row] |= _ITEM.search(self.data, self.start[row], self.stop[row]) is not None
        return cut, joined

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

    def _same_head(self, of: Int64Array, more: Int64Array) -> BoolArray:
        """Return which lines ``more`` begin with the head of the records ``of``, or with none.

        A line that begins with the same bytes, a time mostly, and goes on with others has a head of
        another program.
        """
        size = self.head[of]
        if not size.any():
            return np.ones(len(more), np.bool_)
        return self._alike(of, more, size) | ~self._alike(of, more, np.minimum(size, _TIME_BYTES))

    def _alike(self, of: Int64Array, more: Int64Array, size: Int64Array) -> BoolArray:
        """Return which lines ``more`` begin with ``size`` bytes of ``of``, but for digits."""
        ends = [self.start[of] + size, np.minimum(self.start[more] + size, self.stop[more])]
        starts = np.concatenate([self.start[of], self.start[more]])
        texts = StringColumn.from_spans(self.data.translate(ALIKE), starts, np.concatenate(ends))
        same: BoolArray = texts.codes[: len(of)] == texts.codes[len(of) :]
        return same
