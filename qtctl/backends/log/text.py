"""Decoder for saved log text: each line may have other words before its record.

The kernel finds the leftmost event in each line. What stands before it, its head, is parsed once
for all heads that differ in digits only, and times and ids are then read as columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.log.heads import HEAD_LIMIT, HeadSpan, Known, LineHead, Time, read_head
from qtctl.backends.splitting import Arrays, marked
from qtctl.backends.unix_time import local_unix_s, zone_of
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array, StringColumn
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items

_ALIKE = bytes.maketrans(b"123456789", b"000000000")
_HEADS = 1 << 12
"""How many heads are kept."""
_SHOWN = 3
_EXAMPLE_BYTES = 400
_REST_BYTES = 20
_REST = re.compile(rb"\s*(?:0x)?[0-9A-Fa-f]+\s*")

_Cells: TypeAlias = NDArray[np.uint8]


class TextDecoder(LogDecoder):
    """Decodes log text as :class:`LogDecoder` does, with any words before the records.

    A time without a year gets the latest year before the one at which it was read. ``unread`` is
    the number of lines with an event where a record should be that could not be read, ``examples``
    the first of them.
    """

    _anywhere = True

    def __init__(
        self,
        table: EventTable,
        *,
        clock: Clock = Clock.REALTIME,
        backend: Backend = Backend.LOG,
    ) -> None:
        super().__init__(table, clock=clock, backend=backend)
        self.table = table
        self.unread = 0
        self.examples: list[str] = []
        self._heads: dict[str, LineHead] = {}
        self._cut_off = False

    def flush(self, clocks: Clocks) -> Items:
        """Decode what is kept as if the text ended here; a last line without its end is cut."""
        self._cut_off = True
        items = super().flush(clocks)
        self._cut_off = False
        return items

    def _made(self, data: bytes, columns: Arrays, clocks: Clocks) -> Items:
        event, time_ns, tid, start, named, begin, _ = columns
        known = np.full(len(event), Known.WHOLLY, np.int8)
        own = start.copy()
        rows = np.flatnonzero((event >= 0) & (time_ns < 0) & (named > start))
        timed = np.zeros(len(event), np.bool_)
        for head, which in self._alike(data, start, named, rows):
            known[which] = head.known
            if head.own:
                own[which] += head.own
            if head.time is not None:
                timed[which] = True
                time_ns[which] = _times(data, start[which], head.time, clocks.now_ns)
            if head.tid is not None:
                tid[which] = _numbers(data, start[which], head.tid)
        [batch] = super()._made(data, columns, clocks)
        assert isinstance(batch, Batch)
        whole, exact = _parsed(batch)
        text = (event >= 0) & ~whole & (known < Known.WHOLLY)
        text |= (event >= 0) & (known == Known.NOT)
        text |= (event >= 0) & (known == Known.LABELS) & ~exact & ~timed
        unread = (event >= 0) & ~whole & (timed | (known == Known.WHOLLY))
        unread |= (known == Known.NOT) & (exact | timed)
        cut = (event >= 0) & whole & ~text & self._cut(data, batch)
        self._report(batch, unread | cut)
        if text.any():
            event[text], begin[text] = -1, start[text]
            time_ns[text], batch.arrived[text] = clocks.now_ns, True
            batch = replace(batch)  # with no arguments of rows that are no records now
        return list(_divided(batch, own, cut))

    def _cut(self, data: bytes, batch: Batch) -> BoolArray:
        """Return which rows end before their record does.

        A line of nothing but a number is the rest of the line before, which a mail program wrapped.
        """
        size = np.append((batch.stop - batch.start)[1:], 0)
        cut = np.append(batch.event[1:] < 0, False) & (size > 0) & (size <= _REST_BYTES)
        for row in np.flatnonzero(cut & (batch.event >= 0)).tolist():
            rest = data[int(batch.start[row + 1]) : int(batch.stop[row + 1])]
            cut[row] = _REST.fullmatch(rest) is not None
        if self._cut_off and len(cut):
            cut[-1] = cut[-1] or (data[-1:] != b"\n" and int(batch.stop[-1]) == len(data))
        return cut

    def _alike(
        self, data: bytes, start: Int64Array, named: Int64Array, rows: Int64Array
    ) -> Iterator[tuple[LineHead, Int64Array]]:
        """Yield the heads of rows, and the rows of each."""
        if not len(rows):
            return
        near = np.maximum(start[rows], named[rows] - HEAD_LIMIT - 1)
        column = StringColumn.from_spans(data.translate(_ALIKE), near, named[rows].copy())
        order = np.argsort(column.codes, kind="stable")
        bounds = np.searchsorted(column.codes[order], np.arange(len(column.uniques) + 1))
        for number, text in enumerate(column.uniques):
            which = rows[order[bounds[number] : bounds[number + 1]]]
            if text not in self._heads:
                if len(self._heads) >= _HEADS:
                    self._heads.clear()
                self._heads[text] = read_head(text.encode("utf-8", "surrogateescape"))
            yield self._heads[text], which

    def _report(self, batch: Batch, unread: BoolArray) -> None:
        self.unread += int(np.count_nonzero(unread))
        for row in np.flatnonzero(unread)[: _SHOWN - len(self.examples)].tolist():
            self.examples.append(batch.text(row)[:_EXAMPLE_BYTES])


def _parsed(batch: Batch) -> tuple[BoolArray, BoolArray]:
    """Return which rows have arguments as declared, or undecided ones; and which are certain.

    Those of events without arguments, or whose format cannot be inverted, are undecided.
    """
    whole, exact = np.zeros(len(batch), np.bool_), np.zeros(len(batch), np.bool_)
    for event, rows in batch.groups().items():
        if event < 0:
            continue
        if not batch.table.inverts(event):
            whole[rows] = True
            continue
        columns = batch.arguments(event)
        whole[rows] = columns.ok
        exact[rows] = columns.ok & bool(columns.values)
    return whole, exact


def _divided(batch: Batch, own: Int64Array, cut: BoolArray) -> Iterator[Batch]:
    """Yield the rows in their order, those that are cut with their own reader."""
    first = 0
    for part in marked(batch, cut) if len(batch) else ():
        yield _with_words(part, own[first : first + len(part)])
        first += len(part)


def _with_words(batch: Batch, own: Int64Array) -> Batch:
    """Make rows of the words that are glued to QEMU's own prefix, which begins at ``own``."""
    rows = np.flatnonzero((own > batch.start) & (batch.event >= 0))
    if not len(rows):
        return batch
    order = np.sort(np.concatenate([np.arange(len(batch)), rows]), kind="stable")
    made = batch.select(order)
    words = rows + np.arange(len(rows))
    made.start[words + 1] = own[rows]
    made.event[words], made.begin[words], made.stop[words] = -1, made.start[words], own[rows]
    return made


def _cells(data: bytes, start: Int64Array, span: HeadSpan) -> _Cells:
    """Return data[start[i] + span] as rows of bytes."""
    text = np.frombuffer(data, np.uint8)
    cells: _Cells = text[(start + span.begin)[:, None] + np.arange(span.stop - span.begin)]
    return cells


def _numbers(data: bytes, start: Int64Array, span: HeadSpan) -> Int64Array:
    """Return decimal numbers of 10 digits at most; -1 for those above 31 bits."""
    cells = _cells(data, start, span).astype(np.int64) - ord("0")
    found: Int64Array = cells @ (10 ** np.arange(cells.shape[1] - 1, -1, -1, dtype=np.int64))
    return np.where(found > 0x7FFFFFFF, -1, found)


def _times(data: bytes, start: Int64Array, time: Time, now_ns: int) -> Int64Array:
    """Return the times of lines as Unix time in ns; -1 for those that do not exist."""
    whole = _cells(data, start, time.seconds)
    cells = np.hstack([whole, _cells(data, start, time.zone)])
    width, size = whole.shape[1], cells.shape[1]
    heads, place = np.unique(
        np.ascontiguousarray(cells).view(f"S{size}").reshape(-1), return_inverse=True
    )
    found = [
        _second(time.form, one[:width], one[width:], now_ns // 10**9) for one in heads.tolist()
    ]
    seconds = np.array(found, np.int64)[place]
    digits = _cells(data, start, time.fraction)[:, :9].astype(np.int64) - ord("0")
    fraction = digits @ (10 ** np.arange(8, 8 - digits.shape[1], -1, dtype=np.int64))
    return np.where(seconds < 0, -1, seconds * 10**9 + fraction)


def _second(form: str, text: bytes, zone: bytes, now_s: int) -> int:
    """Return the Unix time in s of whole seconds in a form of ``heads.FORMS``; -1 if none."""
    words = text.decode("ascii")
    try:
        if form in ("qemu", "unix"):
            return int(words) if int(words) < 9223372036 else -1
        if form == "iso":
            at = datetime.fromisoformat(words.replace("/", "-")).replace(tzinfo=zone_of(zone))
            return int(at.timestamp()) if 1970 <= at.year < 2262 else -1
        month = "JanFebMarAprMayJunJulAugSepOctNovDec".index(words[:3]) // 3 + 1
        hour, minute, second = map(int, words[7:].split(":"))
        if hour > 23 or minute > 59 or second > 60:
            return -1
        return local_unix_s(month, int(words[4:6]), (hour * 60 + minute) * 60 + second, now_s)
    except (ValueError, OverflowError):
        return -1
