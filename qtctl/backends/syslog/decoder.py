"""Decoder for lines of a system log: the guest's records, and reports of dropped messages.

Forms of lines: see ``kernel.py``; of reports: ``notices.py``. A line ``message repeated N times:
[ TEXT]`` stands for N messages.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.base import Clocks
from qtctl.backends.splitting import LineDecoder, RowBuffers, as_batch
from qtctl.backends.syslog import kernel as syslog
from qtctl.backends.syslog.kernel import DAEMON, MINE, PLAIN, REPEATED
from qtctl.backends.syslog.notices import REPEAT_LIMIT, read_notice
from qtctl.backends.unix_time import local_unix_s
from qtctl.model import Backend
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss

LINE_LIMIT = 1 << 16


class SyslogDecoder(LineDecoder):
    """Decodes lines into the guest's records; keeps one unfinished line.

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
        self._keep(data[reached:])
        if not len(columns[0]):
            return []
        now_ns = clocks.now_ns
        kind, time_ns, count, start, first, stop = columns
        self._date(time_ns, now_ns)
        rows = np.flatnonzero(self._claim(kind, time_ns))
        rows = np.repeat(rows, np.minimum(count[rows], REPEAT_LIMIT))
        event, begin = self._table.match(data, first[rows], stop[rows])
        event[kind[rows] == PLAIN] = -1
        tid = np.full(len(rows), -1, np.int32)
        mine = (event, time_ns[rows], tid, start[rows], begin, stop[rows])
        batch = as_batch(self._table, data, mine, Clocks(now_ns), Backend.SYSLOG, pid=self._pid)
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

    def _date(self, time_ns: NDArray[np.int64], now_ns: int) -> None:
        """Convert months, days and seconds of local time to Unix time, in place."""
        rows = np.flatnonzero(time_ns < -1)
        if not len(rows):
            return
        packed, place = np.unique(-2 - time_ns[rows], return_inverse=True)
        dated = [
            local_unix_s(value >> 22, (value >> 17) & 31, value & (1 << 17) - 1, now_ns // 10**9)
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
