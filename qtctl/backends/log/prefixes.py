"""Decoder for log text in which something else (a system log, a collector) put words before QEMU's.

The time in these words is used where QEMU's part has none; the rest of them is dropped, except in
lines that are no events.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.splitting import LineDecoder
from qtctl.backends.unix_time import local_unix_s
from qtctl.records.batch import Batch
from qtctl.records.columns import Int64Array
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items
from qtctl.records.rows import Rows

_MOST_WORDS = 12
_SAMPLE_BYTES = 1 << 16
_CARRY_BYTES = 1 << 20
_SEARCH_RECORDS = 1000
"""In how many records a time is looked for before the words are taken to have none."""
_BLANK, _NEWLINE = 32, 10


def words_before(table: EventTable, sample: bytes) -> int:
    """Return how many words stand before QEMU's part in most lines of a sample that have one."""
    cut = sample.rfind(b"\n", 0, _SAMPLE_BYTES) + 1
    lines = sample[:cut] or sample[:_SAMPLE_BYTES] + b"\n"
    found = []
    for words in range(_MOST_WORDS + 1):
        batches = _batches(LogDecoder(table).feed(_Lines(lines, words).stripped.data, Clocks(0)))
        found.append(sum(int((batch.event >= 0).sum()) for batch in batches))
    return found.index(max(found))


class _Lines:
    """Whole lines, and the part of each behind its first words."""

    def __init__(self, data: bytes, words: int) -> None:
        text = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(text == _NEWLINE) + 1
        self.data = data
        self.begin = np.append(np.zeros(1, np.int64), ends[:-1])[: len(ends)]
        self.end = ends
        inside = (text != _BLANK) & (text != _NEWLINE)
        word = np.flatnonzero(inside & ~np.append(np.zeros(1, np.bool_), inside[:-1]))
        wanted = np.searchsorted(word, self.begin) + words
        there = np.append(word, len(data))[np.minimum(wanted, len(word))]
        self.part = np.where(there < ends, there, self.begin)
        self.stripped = _gathered(data, self.part, ends)


def _gathered(data: bytes, begin: Int64Array, end: Int64Array) -> Rows:
    """Return data[begin[i]:end[i]], concatenated."""
    size = end - begin
    nothing, none = np.zeros(len(begin), np.int64), np.zeros(len(begin), np.int32)
    return Rows.cut(none, nothing, none, nothing.astype(np.bool_), begin, size, data)


class PrefixedDecoder(LineDecoder):
    """Decodes log text as ``LogDecoder`` does, but skips ``words`` words of each line.

    A time without a year gets the year in which it was read.
    """

    def __init__(self, table: EventTable, words: int) -> None:
        super().__init__(_CARRY_BYTES)
        self._table = table
        self._words = words
        self._stamp: _Stamp | None = None
        self._searched = 0

    def _decode(self, data: bytes, clocks: Clocks, *, final: bool) -> Items:
        cut = data.rfind(b"\n") + 1
        if data and (final or len(data) - cut > self._limit):
            data += b"\n"
            cut = len(data)
        if not cut:
            self._keep(data)
            return []
        lines = _Lines(data[:cut], self._words)
        decoder = LogDecoder(self._table)
        batches = _batches(decoder.feed(lines.stripped.data, clocks))
        kept = len(lines.stripped.data) - decoder.pending_bytes
        out: Items = [self._completed(lines, batch, 0, clocks.now_ns) for batch in batches]
        if final:
            for batch in _batches(decoder.flush(clocks)):
                out.append(self._completed(lines, batch, kept, clocks.now_ns))
        elif decoder.pending_bytes:  # a record of several lines that is not yet whole
            line = int(np.searchsorted(lines.stripped.begin, kept))
            cut = int(lines.begin[line])
        self._keep(data[cut:])
        return out

    def _completed(self, lines: _Lines, batch: Batch, at: int, now_ns: int) -> Batch:
        """Add times and whole lines from the words before; the batch begins at ``at``."""
        line = np.searchsorted(lines.stripped.begin, batch.start + at, "right") - 1
        self._date(lines, batch, line, now_ns)
        return _whole_text(lines, batch, line)

    def _date(self, lines: _Lines, batch: Batch, line: Int64Array, now_ns: int) -> None:
        """Set the time of records that have none from the words before them, in place."""
        rows = np.flatnonzero(batch.arrived & (batch.event >= 0))
        if not len(rows):
            return
        if self._stamp is None:
            rows = rows[self._search(lines, line[rows]) :]
        if self._stamp is None:
            return
        of = line[rows]
        found = self._stamp.read(lines.data, lines.begin[of], lines.part[of], now_ns)
        known = found >= 0
        batch.time_ns[rows[known]] = found[known]
        batch.arrived[rows[known]] = False

    def _search(self, lines: _Lines, records: Int64Array) -> int:
        """Look for a time in the words before the first records; return how many have none."""
        left = max(0, _SEARCH_RECORDS - self._searched)
        for number, line in enumerate(records[:left].tolist()):
            self._stamp = _find_stamp(lines.data[lines.begin[line] : lines.part[line]])
            if self._stamp is not None:
                return number
        self._searched += len(records)
        return len(records)


def _batches(items: Items) -> Iterator[Batch]:
    return (item for item in items if isinstance(item, Batch))


def _whole_text(lines: _Lines, batch: Batch, line: Int64Array) -> Batch:
    """Extend rows that are no events to their whole lines."""
    rows = np.flatnonzero(batch.event < 0)
    if not len(rows):
        return batch
    of = line[rows]
    whole = _gathered(lines.data, lines.begin[of], lines.end[of] - 1)
    start, begin, stop = batch.start.copy(), batch.begin.copy(), batch.stop.copy()
    start[rows] = begin[rows] = len(batch.data) + whole.begin
    stop[rows] = start[rows] + whole.size
    return replace(batch, data=batch.data + whole.data, start=start, begin=begin, stop=stop)


@dataclass(frozen=True, slots=True)
class _Stamp:
    """Where in a line its time stands: whole seconds as text, then ``digits`` of a fraction.

    ``seconds`` reads the text (with the zone that the first line has) as Unix time.
    """

    at: int
    size: int
    digits: int
    seconds: Callable[[str, int], float]

    def read(self, data: bytes, begin: Int64Array, end: Int64Array, now_ns: int) -> Int64Array:
        """Return the times of lines, in ns; -1 where none stands in its place."""
        text = np.frombuffer(data, np.uint8)
        width = self.size + (1 + self.digits if self.digits else 0)
        found = np.full(len(begin), -1, np.int64)
        rows = np.flatnonzero(end - begin >= self.at + width)
        if not len(rows):
            return found
        cells = text[(begin[rows] + self.at)[:, None] + np.arange(width)]
        heads, place = np.unique(
            np.ascontiguousarray(cells[:, : self.size]).view(f"S{self.size}").reshape(-1),
            return_inverse=True,
        )
        seconds = np.array([self._second(head, now_ns) for head in heads.tolist()], np.int64)
        fraction: NDArray[np.int64] = np.zeros(len(rows), np.int64)
        good = seconds[place] >= 0
        if self.digits:
            numbers = cells[:, self.size + 1 :].astype(np.int64) - ord("0")
            good &= ((numbers >= 0) & (numbers <= 9)).all(axis=1)
            fraction = numbers @ (10 ** np.arange(8, 8 - self.digits, -1, dtype=np.int64))
        found[rows] = np.where(good, seconds[place] * 10**9 + fraction, -1)
        return found

    def _second(self, head: bytes, now_ns: int) -> int:
        try:
            return int(self.seconds(head.decode("ascii"), now_ns))
        except (ValueError, OverflowError):
            return -1


_ISO = re.compile(rb"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))? ?(Z|[+-]\d\d:?\d\d)?")
_SYSLOG = re.compile(rb"([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)(?:\.(\d{1,9}))?")
_UNIX = re.compile(rb"(?<![\d.])(\d{9,10})\.(\d{1,9})(?![\d.])")


def _find_stamp(prefix: bytes) -> _Stamp | None:
    """Return where and how the words before a record hold a time; None if they hold none."""
    if match := _ISO.search(prefix):
        zone = (match[3] or b"").decode()
        return _stamp(match, lambda text, _: datetime.fromisoformat(text + zone).timestamp())
    if match := _SYSLOG.search(prefix):
        return _stamp(match, _without_year)
    if match := _UNIX.search(prefix):
        return _stamp(match, lambda text, _: int(text))
    return None


def _stamp(match: re.Match[bytes], seconds: Callable[[str, int], float]) -> _Stamp:
    return _Stamp(match.start(1), len(match[1]), len(match[2] or b""), seconds)


def _without_year(text: str, now_ns: int) -> float:
    """Return Unix time in s of a local time, in the latest year that is not in the future."""
    at = time.strptime(f"2000 {text}", "%Y %b %d %H:%M:%S")  # a leap year
    second = (at.tm_hour * 60 + at.tm_min) * 60 + at.tm_sec
    return local_unix_s(at.tm_mon, at.tm_mday, second, now_ns // 10**9)
