"""Lines of saved text with other programs' words before their records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.log.heads import ALIKE
from qtctl.backends.log.spanning import FOREIGN_STAMP, ISO_STAMP, ITEM, NO_STAMP, Lines
from qtctl.backends.splitting import SPAN_BYTES, holds
from qtctl.backends.syslog.notices import ESCAPED
from qtctl.records.columns import BoolArray, Int64Array

_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{6})?Z ")
_COLOURS = re.compile(rb"\x1b\[")
_NUMBER = re.compile(rb"(?<![a-z\d])\d+(?:[.,]\d+)?")
"""Of times, mostly; one behind a letter is of a name."""
_TIME_BYTES = 4
_RETURN = ord("\r")


@dataclass(slots=True)
class HeadedLines(Lines):
    """Lines with words before their records.

    ``known``: how far these are understood. ``own``: offset of QEMU's own stamp, if other text is
    glued to it. ``timed``: lines with a time. ``named``: lines that hold an event's name, or QEMU's
    own ``TID@TIME:``, which only records have, of events that are not declared too.
    ``source``: lines of one program have one number; ``pid``: where its process id begins in the
    line, -1 if it has none. ``part``: lines that a collector divided. ``origin``: that of
    :class:`Origins`. ``bound``: which bound of a run the line is; -1: none.
    """

    known: NDArray[np.int8]
    own: Int64Array
    timed: BoolArray
    named: BoolArray
    source: Int64Array
    pid: Int64Array
    part: BoolArray
    origin: NDArray[np.int32]
    bound: Int64Array
    _odd: ClassVar[re.Pattern[bytes]] = re.compile(rb"\r\n|" + ITEM)

    def decided(self, awaited: BoolArray) -> int:
        """Return how many lines do not depend on those that may come, such as the next stamp."""
        count = Lines.decided(self, awaited)
        for rows in self._records():
            for waiting in (rows[self.stamp[rows] != NO_STAMP], rows[self.head[rows] > 0]):
                if len(waiting) and self.stop[-1] - self.start[waiting[-1]] <= SPAN_BYTES:
                    count = min(count, int(waiting[-1]))
        return count

    def _is_closed(self, row: int) -> bool:
        return False  # the next line may be the rest of a number

    def between_stamps(self) -> Int64Array:
        """Return the lines that hold a name, and stand where all records have stamps."""
        found = [np.empty(0, np.int64)]
        stamps = np.count_nonzero(self.stamp)
        for rows in self._records() if 0 < stamps < len(self.stamp) else ():
            stamped, end = self.stamp[rows] != NO_STAMP, len(self.event)
            if stamped.all() or not stamped.any():
                continue
            before = np.maximum.accumulate(np.where(stamped, rows, -1))
            behind = np.minimum.accumulate(np.where(stamped, rows, end)[::-1])[::-1]
            bare = ~stamped & (before >= 0)
            rows, before, behind = rows[bare], before[bare], behind[bare]
            fake = self.table.spans[self.event[before]]
            fake &= ~self._closed(before, self.stop[before])
            fake &= self.stop[rows] - self.start[before] <= SPAN_BYTES
            near = np.append(self.start, self.stop[-1] + 2 * SPAN_BYTES)[behind]
            fake |= near - self.start[before] <= SPAN_BYTES
            found.append(rows[fake])
        return np.concatenate(found)

    def doubtful(self, crlf: bool) -> tuple[BoolArray, bool]:
        """Return which records have texts that another program may have changed.

        Those behind its words with control characters as rsyslog escapes them; those with colours
        in their arguments and before them; and those that end with a text and a carriage return,
        unless the latest record before that ends with something else has one, too: ``crlf`` for
        these lines, and the second result for the next ones.
        """
        found = np.zeros(len(self.event), np.bool_)
        data, texts = self.data, self.table.spans[self.event]
        if b"#" in data and self.head.any():
            found |= texts & (self.head > 0) & holds(ESCAPED, data, self.begin, self.stop)
        if b"\x1b" in data:
            last = max(self.stop[-1], data.find(b"\n", self.stop[-1]))
            coloured = holds(_COLOURS, data, self.begin, np.append(self.start[1:], last))
            found |= texts & coloured & holds(_COLOURS, data, self.start, self.begin)
        if not crlf and b"\r" not in data:
            return found, crlf
        rows = np.flatnonzero(self.event >= 0)
        stop = self.stop[rows]
        ends = np.frombuffer(data, np.uint8)[np.minimum(stop, len(data) - 1)]
        returned = (ends == _RETURN) & (stop < len(data))
        events, codes = np.unique(self.event[rows], return_inverse=True)
        closed = np.array([self.table.closes(event) for event in events.tolist()], np.bool_)[codes]
        before = np.maximum.accumulate(np.where(closed, np.arange(1, len(rows) + 1), 0))
        proof = np.append(crlf, returned)[before]
        found[rows] |= returned & ~closed & ~proof & texts[rows]
        return found, bool(proof[-1]) if len(rows) else crlf

    def without_heads(self, more: NDArray[np.int32]) -> None:
        """Move records of several lines behind the data, with the head before the first line only.

        ``more`` is how many more lines a record of an event has.
        """
        rows = np.flatnonzero((more[self.event] > 0) & (self.head > 0))
        moved = []
        for row in rows.tolist():
            headed = self._head_of(row)
            first, *others = self.data[self.start[row] : self.stop[row]].split(b"\n")
            moved.append(b"\n".join([first, *(headed.sub(b"", one, count=1) for one in others)]))
        self._move(rows, moved)

    def _move(self, rows: Int64Array, texts: list[bytes]) -> None:
        """Set the text of rows, which goes behind the data."""
        if not texts:
            return
        size = np.array([len(text) for text in texts], np.int64)
        start = len(self.data) + np.cumsum(size) - size
        shift = start - self.start[rows]
        self.begin[rows] += shift
        self.own[rows] += shift
        self.start[rows], self.stop[rows] = start, start + size
        self.data = b"".join([self.data, *texts])

    def _behind(self) -> tuple[Int64Array, Int64Array]:
        """Return the records of each program, and the lines of the same program behind each.

        Sets ``head`` of those lines, too. A line that has no head of any kind may be of any.
        """
        of, more = Lines._behind(self)
        if not self.head.any():
            return of, more
        plain = self.head[of] == 0
        pairs = [np.stack([of[plain], more[plain]])]
        nearest = np.full(len(self.event), -1)
        nearest[more] = of
        others, rows = np.flatnonzero(self._is_other()), np.arange(len(self.event))
        for one in self._records():
            if not self.head[one[0]]:
                continue
            ends = np.where(self.stamp == FOREIGN_STAMP, rows, -1)
            ends[one] = one
            before = np.maximum.accumulate(ends)[others]
            near = (self.head[before] > 0) & self.table.spans[self.event[before]] & (before >= 0)
            near &= self.stop[others] - self.start[before] <= SPAN_BYTES
            of, more = before[near], others[near]
            pairs += self._of_one(one[0], of, more, nearest[more] == of)
        of, more = np.hstack(pairs)
        return of, more

    def _of_one(
        self, first: int, of: Int64Array, more: Int64Array, next_to: BoolArray
    ) -> list[Int64Array]:
        """Return those pairs whose lines are of the program of the record, up to its next stamp.

        ``first`` is one of its records. A line without any head is, if it is ``next_to`` one.
        """
        found, ended = [], -1
        head, size = self._head_of(first), min(int(self.head[first]), _TIME_BYTES)
        begin = self.data[self.start[first] : self.start[first] + size].translate(ALIKE)
        columns = (of, more, self.start[more], self.stop[more], next_to)
        for row, line, at, stop, is_next in zip(*(one.tolist() for one in columns), strict=True):
            if row == ended:
                continue
            if match := head.match(self.data, at, stop):
                self.head[line] = match.end() - at
                if _STAMP.match(self.data, match.end(), stop):
                    ended = row
                    continue
            elif not is_next or self.data[at : at + size].translate(ALIKE) == begin:
                continue
            found.append((row, line))
        return [np.array(found, np.int64).T] if found else []

    def _joins(self, of: Int64Array, more: Int64Array) -> BoolArray:
        """Return which lines ``more`` are certainly text of the records ``of``."""
        headed = self.head[of] > 0
        proven = (self.stamp[of] == ISO_STAMP) & ~np.isin(of, of[self.head[more] == 0])
        joins: BoolArray = Lines._joins(self, of, more) & (~headed | proven)
        return joins

    def _take(self, of: Int64Array, more: Int64Array) -> None:
        headed = self.head[of] > 0
        Lines._take(self, of[~headed], more[~headed])
        texts: dict[int, list[bytes]] = {}
        for row, line in zip(of[headed].tolist(), more[headed].tolist(), strict=True):
            parts = texts.setdefault(row, [self.data[self.start[row] : self.stop[row]]])
            parts.append(self.data[self.start[line] + self.head[line] : self.stop[line]])
        self._move(np.array([*texts], np.int64), list(map(b"\n".join, texts.values())))

    def _head_of(self, row: int) -> re.Pattern[bytes]:
        """Return a pattern of the head of a record, with any numbers but the process id."""
        start = int(self.start[row])
        head, pattern, at = self.data[start : start + int(self.head[row])], b"", 0
        for match in _NUMBER.finditer(head):
            if match.start() != self.pid[row]:
                pattern += re.escape(head[at : match.start()]) + rb"\d+(?:[.,]\d+)?"
                at = match.end()
        return re.compile(pattern + re.escape(head[at:]))

    def _records(self) -> Iterator[Int64Array]:
        """Yield the records of each program."""
        records = np.flatnonzero(self.event >= 0)
        if not self.source.any():
            yield records
            return
        for one in np.unique(self.source[records]).tolist():
            yield records[self.source[records] == one]
