"""Decoder for lines of a system log: the guest's records, and reports of dropped messages.

Forms of lines: see ``kernel.py``; of reports: ``notices.py``. A line ``message repeated N times:
[ TEXT]`` stands for N messages. Lines without a head continue a text of the message before them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.base import Clocks
from qtctl.backends.splitting import SPAN_BYTES, Arrays, LineDecoder, RowBuffers, as_batch, holds
from qtctl.backends.syslog import kernel as syslog
from qtctl.backends.syslog.kernel import DAEMON, MINE, PLAIN, REPEATED
from qtctl.backends.syslog.notices import ESCAPED, REPEAT_LIMIT, read_notice
from qtctl.backends.unix_time import yearless_unix_s
from qtctl.model import Backend
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss

LINE_LIMIT = 1 << 16


class SyslogDecoder(LineDecoder):
    """Decodes lines into the guest's records; keeps one message, with all its lines.

    ``unit`` is the systemd unit of the guest, whose rate limit it shares. ``dropping``: the daemon
    has begun to drop messages and not reported yet how many.
    """

    def __init__(
        self, table: EventTable, *, pid: int, unit: str = "", line_limit: int = LINE_LIMIT
    ) -> None:
        super().__init__(line_limit)
        self._table = table
        self._pid = pid
        self._unit = unit.encode()
        self._state = np.zeros(5, np.int64)
        self._mine = False
        self._time_ns = -1
        self._buffers = RowBuffers(np.int32, *(np.int64,) * 5)
        self.dropping = False

    def flush(self, clocks: Clocks) -> Items:
        """Decode what is kept as if the text ended here."""
        items = super().flush(clocks)
        self._state[:], self._mine, self._time_ns = 0, False, -1
        return items

    def _decode(self, data: bytes, clocks: Clocks, *, final: bool) -> Items:
        columns, reached = self._buffers.fill(
            syslog.split_syslog, data, self._pid, self._state.data, final, after=(self._limit,)
        )
        keep = len(columns[0]) if final else self._decided(data, columns)
        self.holds = keep < len(columns[0])
        if self.holds:
            reached, self._state[4] = int(columns[3][keep]), 0
        self._keep(data[reached:])
        if not keep:
            return []
        now_ns = clocks.now_ns
        kind, time_ns, count, start, first, stop = (column[:keep] for column in columns)
        self._date(time_ns, now_ns)
        mine = self._claim(kind, time_ns)
        cut, joined = self._joined(data, kind, start, first, stop)
        rows = np.flatnonzero(mine & ~joined)
        rows = np.repeat(rows, np.minimum(count[rows], REPEAT_LIMIT))
        event, begin = self._table.match(data, first[rows], stop[rows])
        event[kind[rows] == PLAIN] = -1
        tid = np.full(len(rows), -1, np.int32)
        parts = (event, time_ns[rows], tid, start[rows], begin, stop[rows])
        batch = as_batch(
            self._table, data, parts, Clocks(now_ns), Backend.SYSLOG, pid=self._pid, cut=cut[rows]
        )
        out: Items = []
        done = 0
        reports = (kind == DAEMON) | ((kind == REPEATED) & (count > REPEAT_LIMIT))
        for place in np.flatnonzero(reports).tolist():
            if kind[place] == REPEATED:
                lost = int(count[place]) - REPEAT_LIMIT
            else:
                lost = self._dropped(data[int(first[place]) : int(stop[place])])
            if lost:
                end = int(np.searchsorted(rows, place, "right"))
                if end > done:
                    out.append(batch.select(slice(done, end)))
                out.append(Loss(Backend.SYSLOG, lost, now_ns))
                done = end
        if done < len(rows):
            out.append(batch.select(slice(done, None)) if done else batch)
        return out

    def _decided(self, data: bytes, columns: Arrays) -> int:
        """Return how many lines are decided: the last text of the guest may go on behind them."""
        kind, _, _, start, first, stop = columns
        heads = np.flatnonzero(kind != PLAIN)[-1:]
        if not len(heads) or kind[heads[0]] != MINE or stop[-1] - start[heads[0]] > SPAN_BYTES:
            return len(kind)
        event, _ = self._table.match(data, first[heads], stop[heads])
        return int(heads[0]) if self._table.spans[event[0]] else len(kind)

    def _joined(
        self,
        data: bytes,
        kind: NDArray[np.int32],
        start: Int64Array,
        first: Int64Array,
        stop: Int64Array,
    ) -> tuple[BoolArray, BoolArray]:
        """Join the lines of each text; return which records are cut, and which lines are text.

        A text with control characters that the daemon may have escaped counts as cut.
        """
        cut, joined = np.zeros((2, len(kind)), np.bool_)
        before = np.maximum.accumulate(np.where(kind != PLAIN, np.arange(len(kind)), -1))
        more = np.flatnonzero((kind == PLAIN) & (before >= 0))
        more = more[kind[before[more]] == MINE]
        if len(more):
            of = before[more]
            event, _ = self._table.match(data, first[of], stop[of])
            more, of = more[self._table.spans[event]], of[self._table.spans[event]]
            near = stop[more] - start[of] <= SPAN_BYTES
            cut[of[~near]] = joined[more[near]] = True
            np.maximum.at(stop, of[near], stop[more[near]])
        if b"#" in data and (escaped := np.flatnonzero(holds(ESCAPED, data, first, stop))).size:
            event, _ = self._table.match(data, first[escaped], stop[escaped])
            cut[escaped[self._table.spans[event]]] = True
        return cut, joined

    def _date(self, time_ns: NDArray[np.int64], now_ns: int) -> None:
        """Convert months, days and seconds of local time to Unix time, in place."""
        rows = np.flatnonzero(time_ns < -1)
        if not len(rows):
            return
        packed, place = np.unique(-2 - time_ns[rows], return_inverse=True)
        dated = [
            yearless_unix_s(value >> 22, (value >> 17) & 31, value & (1 << 17) - 1, now_ns // 10**9)
            for value in packed.tolist()
        ]
        seconds = np.array(dated, np.int64)[place]
        time_ns[rows] = np.where(seconds < 0, -1, seconds * 10**9)

    def _claim(self, kind: NDArray[np.int32], time_ns: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows are the guest's; a line without a head belongs to the one before."""
        own = (kind == MINE) | (kind == REPEATED)
        rows = np.arange(len(kind))
        before = np.maximum.accumulate(np.where(kind != PLAIN, rows, -1))
        plain = kind == PLAIN
        later, first = plain & (before >= 0), plain & (before < 0)
        mine: NDArray[np.bool_] = own.copy()
        mine[later], time_ns[later] = own[before[later]], time_ns[before[later]]
        mine[first], time_ns[first] = self._mine, self._time_ns
        if before[-1] >= 0:
            self._mine, self._time_ns = bool(own[before[-1]]), int(time_ns[before[-1]])
        return mine

    def _dropped(self, line: bytes) -> int:
        """Return how many of the guest's messages a log daemon reports as dropped; 0 if none."""
        notice = read_notice(line)
        if notice is None:
            return 0
        if notice.pid == self._pid:
            self.dropping = not notice.lost
            return notice.lost
        return notice.lost if self._unit and notice.unit == self._unit else 0
