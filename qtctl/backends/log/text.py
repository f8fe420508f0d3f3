"""Decoder for saved log text: each line may have other words before its record.

The kernel finds the leftmost event in each line. What stands before it, its head, is parsed once
for all heads that differ in digits only, and times and ids are then read as columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder, stamps
from qtctl.backends.log.headed import HeadedLines
from qtctl.backends.log.heads import ALIKE, HEAD_LIMIT, HeadSpan, Known, LineHead, Time, read_head
from qtctl.backends.log.origins import Origins, RunBound, cells_of, run_bounds
from qtctl.backends.log.spanning import (
    FOREIGN_STAMP,
    ISO_STAMP,
    NO_STAMP,
    THREAD_STAMP,
    Lines,
)
from qtctl.backends.splitting import Arrays
from qtctl.backends.unix_time import yearless_unix_s, zone_of
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array, StringColumn
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items

_HEADS = 1 << 12
"""How many heads are kept."""
_FRACTIONS = (0, 6)
"""Digits that QEMU writes; a collector's time has others, mostly."""
_SHOWN = 3
_EXAMPLE_BYTES = 400
_REST_BYTES = 20
_REST = re.compile(rb"\s*(?:0x)?[0-9A-Fa-f]+\s*")

_LEAP_YEAR = 2000
_YEARLESS = {"yearless": "%Y %b %d %H:%M:%S", "klog": "%Y %m%d %H:%M:%S"}
_DATED = {
    "iso": "%Y-%m-%d %H:%M:%S",
    "ctime": "%b %d %H:%M:%S %Y",
    "mail": "%d %b %Y %H:%M:%S",
    "web": "%d-%b-%Y:%H:%M:%S",
}
"""Forms of dates and times, for strptime(3), once :data:`_PLAIN_DATE` was applied."""
_PLAIN_DATE = str.maketrans("/T_", "-  ")


class TextDecoder(LogDecoder):
    """Decodes log text as :class:`LogDecoder` does, with any words before the records.

    A time without a year gets the latest year before the one at which it was read. ``unread`` is
    the number of lines with an event where a record should be that could not be read, ``examples``
    the first of them. ``crlf``: lines end with a carriage return, as far as is known.
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
        self._awaited = np.ones(len(table) + 1, np.bool_)
        self._awaited[-1] = False
        self.unread = 0
        self.examples: list[str] = []
        self.crlf = False
        self._heads: dict[bytes, LineHead] = {}
        self._origins = Origins()
        self._bounds: list[RunBound] = []
        self._cut_off = False

    def end(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the last bytes, with what is kept; a last line without its end is cut."""
        self._cut_off = True
        items = super().end(data, clocks)
        self._cut_off = False
        return items

    def _lines(self, data: bytes, columns: Arrays, clocks: Clocks) -> HeadedLines:
        event, time_ns, tid, start, name, begin, stop = columns
        known = np.full(len(event), Known.WHOLLY, np.int8)
        own, timed = start.copy(), np.zeros(len(event), np.bool_)
        stamp, size, source = stamps(columns), np.zeros_like(start), np.zeros_like(start)
        sources: dict[tuple[bytes, int], int] = {}
        part, pid_at = np.zeros(len(event), np.bool_), np.full(len(event), -1)
        origin = np.zeros(len(event), np.int32)
        rows = np.flatnonzero((event >= 0) & (time_ns < 0) & (name > start))
        for text, head, which in self._alike(data, start, name, rows):
            known[which] = head.known
            own[which] += head.own
            if head.time is not None:
                timed[which] = True
                time_ns[which] = _times(data, start[which], head.time, clocks.now_ns)
            if head.tid is not None:
                tid[which] = _numbers(data, start[which], head.tid)
            origin[which] = self._origins.label(data, start[which], head)
            stamp[which], before = _stamp(text, head)
            part[which] = head.part is not None
            if before and head.known is not Known.NOT:
                size[which] = before
                pids = np.full(len(which), -1)
                if head.pid is not None:
                    pid_at[which] = head.pid.begin
                    pids = _numbers(data, start[which], head.pid)
                for pid in np.unique(pids).tolist():
                    number = sources.setdefault((text[:before], pid), len(sources) + 1)
                    source[which[pids == pid]] = number
        self._bounds, bound = [*run_bounds(data)], np.full(len(event), -1)
        for number, one in enumerate(self._bounds):
            bound[start == one.offset] = number
        stamp[bound >= 0] = FOREIGN_STAMP
        lines = HeadedLines(
            data, self._table, event, stamp, size, start, begin, stop,
            known, own, timed, (event >= 0) | (tid >= 0), source, pid_at, part, origin, bound,
        )  # fmt: skip
        fake = lines.between_stamps()
        event[fake], begin[fake] = -1, start[fake]
        return lines

    def _made(self, lines: Lines, columns: Arrays, clocks: Clocks) -> Batch:
        assert isinstance(lines, HeadedLines)
        event, time_ns, _, start, _, begin, _ = columns
        known, timed = lines.known, lines.timed
        cut_off = self._cut_off_rows(lines)
        doubtful, self.crlf = lines.doubtful(self.crlf)
        lines.without_heads(self._table.extra_lines)
        bounds = {
            row: self._bounds[lines.bound[row]] for row in np.flatnonzero(lines.bound >= 0).tolist()
        }
        batch = self._origins.set(self._batch(lines.data, columns, clocks), lines.origin, bounds)
        whole, exact = _parsed(batch)
        vague, text = known < Known.WHOLLY, np.zeros(len(event), np.bool_)
        unread = (lines.named & (event < 0)) | ((event >= 0) & ~whole & (timed | ~vague))
        if vague.any():
            text = vague & ~whole | (known == Known.NOT)
            text |= (known == Known.LABELS) & ~exact & ~timed
            text &= event >= 0
            unread |= (known == Known.NOT) & (exact | timed)
            event[text], begin[text] = -1, start[text]
            time_ns[text], batch.arrived[text] = clocks.now_ns, True
        cut, joined = lines.join()
        cut |= (event >= 0) & ((whole & (cut_off | doubtful)) | lines.part)
        if text.any() or cut.any() or joined.any():
            batch = replace(batch.select(~joined), cut=cut[~joined])
        if joined.any():
            batch = replace(batch, data=lines.data, _known=None)
            whole, unread = _parsed(batch)[0], unread[~joined]
            unread |= (batch.event >= 0) & ~whole
        elif cut.any():
            unread |= cut
        self._report(batch, unread)
        return _with_words(batch, lines.own[~joined])

    def _cut_off_rows(self, lines: Lines) -> BoolArray:
        """Return which rows end before their record does.

        A line of nothing but a number is the rest of the line before, which a mail program wrapped.
        """
        cut = np.zeros(len(lines.event), np.bool_)
        others = np.flatnonzero(lines.event[1:] < 0) + 1
        size = lines.stop[others] - lines.start[others]
        for row in others[(size > 0) & (size <= _REST_BYTES)].tolist():
            rest = lines.data[int(lines.start[row]) : int(lines.stop[row])]
            cut[row - 1] = _REST.fullmatch(rest) is not None
        if self._cut_off and len(cut):
            end = lines.stop[-1] == len(lines.data) and lines.data[-1:] != b"\n"
            cut[-1] = cut[-1] or end
        return cut

    def _alike(
        self, data: bytes, start: Int64Array, name: Int64Array, rows: Int64Array
    ) -> Iterator[tuple[bytes, LineHead, Int64Array]]:
        """Yield the heads of rows, with all digits alike, and the rows of each."""
        if not len(rows):
            return
        near = np.maximum(start[rows], name[rows] - HEAD_LIMIT - 1)
        column = StringColumn.from_spans(data.translate(ALIKE), near, name[rows].copy())
        order = np.argsort(column.codes, kind="stable")
        bounds = np.searchsorted(column.codes[order], np.arange(len(column.texts) + 1))
        for number, one in enumerate(column.texts):
            which = rows[order[bounds[number] : bounds[number + 1]]]
            text = one.encode("utf-8", "surrogateescape")
            if text not in self._heads:
                if len(self._heads) >= _HEADS:
                    self._heads.clear()
                self._heads[text] = read_head(text)
            yield text, self._heads[text], which

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


def _stamp(text: bytes, head: LineHead) -> tuple[int, int]:
    """Return QEMU's own stamp in a head, and how many bytes of other programs are before it."""
    time = head.time
    if head.own or head.thread is not None:
        return THREAD_STAMP, 0
    if time is not None and time.form == "qemu":
        return THREAD_STAMP, (head.tid or head.pid or time.seconds).begin
    if time is not None and time.form == "iso" and text[time.zone.begin :] == b"Z ":
        if time.fraction.stop - time.fraction.begin not in _FRACTIONS:
            return NO_STAMP, len(text)
        return ISO_STAMP, time.seconds.begin
    return NO_STAMP, len(text)


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
    if made.cut is not None:
        made.cut[words] = False
    return made


def _numbers(data: bytes, start: Int64Array, span: HeadSpan) -> Int64Array:
    """Return decimal numbers of 10 digits at most; -1 for those above 31 bits."""
    cells = cells_of(data, start, span).astype(np.int64) - ord("0")
    found: Int64Array = cells @ (10 ** np.arange(cells.shape[1] - 1, -1, -1, dtype=np.int64))
    return np.where(found > 0x7FFFFFFF, -1, found)


def _times(data: bytes, start: Int64Array, time: Time, now_ns: int) -> Int64Array:
    """Return the times of lines as Unix time in ns; -1 for those that do not exist."""
    whole = cells_of(data, start, time.seconds)
    cells = np.hstack([whole, cells_of(data, start, time.zone)])
    width, size = whole.shape[1], cells.shape[1]
    heads, place = np.unique(
        np.ascontiguousarray(cells).view(f"S{size}").reshape(-1), return_inverse=True
    )
    found = [
        _second(time.form, one[:width], one[width:], now_ns // 10**9) for one in heads.tolist()
    ]
    seconds = np.array(found, np.int64)[place]
    digits = cells_of(data, start, time.fraction)[:, :9].astype(np.int64) - ord("0")
    fraction = digits @ (10 ** np.arange(8, 8 - digits.shape[1], -1, dtype=np.int64))
    return np.where(seconds < 0, -1, seconds * 10**9 + fraction)


def _second(form: str, text: bytes, zone: bytes, now_s: int) -> int:
    """Return the Unix time in s of whole seconds in a form of ``heads.FORMS``; -1 if none."""
    words = text.decode("ascii")
    try:
        if form in ("qemu", "unix"):
            return int(words) if int(words) < 9223372036 else -1
        if form in _YEARLESS:
            at = datetime.strptime(f"{_LEAP_YEAR} {words}", _YEARLESS[form])
            second = (at.hour * 60 + at.minute) * 60 + at.second
            return yearless_unix_s(at.month, at.day, second, now_s, zone_of(zone))
        if form == "ctime" and len(parts := words.split()) == 5:
            words, zone = " ".join((*parts[:3], parts[4])), parts[3].encode()
        at = datetime.strptime(words.translate(_PLAIN_DATE), _DATED[form])
        at = at.replace(tzinfo=zone_of(zone))
        return int(at.timestamp()) if 1970 <= at.year < 2262 else -1
    except (ValueError, OverflowError):
        return -1
