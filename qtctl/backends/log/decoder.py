"""Decoder for what the log backend prints (QEMU 7.2 to 11.1), mixed with other output or not.

Bytes in, batches out: no files, no awaits. However the bytes are cut, the records are the same.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.log import kernel as splitting
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable

__all__ = ["LINE_LIMIT", "LogDecoder"]

LINE_LIMIT = 1 << 20
_ROWS = 1 << 14

_Part: TypeAlias = tuple[NDArray[Any], ...]


class LogDecoder:
    """Turns log text into batches; keeps at most one unfinished record.

    A line that is not an event is a text row. A line of more than ``line_limit`` bytes is passed on
    as text in pieces of that size. Lines without a time get ``now_ns`` (Clock.ARRIVAL).
    """

    def __init__(
        self,
        table: EventTable,
        *,
        clock: Clock = Clock.REALTIME,
        backend: Backend = Backend.LOG,
        pid: int | None = None,
        line_limit: int = LINE_LIMIT,
    ) -> None:
        self._table = table
        self._clock = clock
        self._backend = backend
        self._pid = pid
        self._limit = line_limit
        self._carry = b""
        # Scanned only when a line's end arrives, lest a long line in small chunks cost its square.
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._stamp = np.full(5, -1, np.int64)
        # Filled by the kernel, then copied: fresh arrays for every chunk cost more in page faults.
        self._room = tuple(
            np.empty(_ROWS, dtype=kind)
            for kind in (np.int32, np.int64, np.int32, np.int64, np.int64, np.int64)
        )

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished record that is kept."""
        return len(self._carry) + self._pending_bytes

    def feed(self, data: bytes, *, now_ns: int) -> Batch:
        """Decode the next bytes; ``now_ns`` is the Unix time at which they were read, in ns."""
        if self.pending_bytes:
            self._pending.append(data)
            self._pending_bytes += len(data)
            if b"\n" not in data and self.pending_bytes <= self._limit:
                return self._batch(b"", [], now_ns)
            data = b"".join((self._carry, *self._pending))
            self._pending, self._pending_bytes = [], 0
        parts, reached = self._split(data, final=False)
        self._carry = data[reached:]
        return self._batch(data, parts, now_ns)

    def flush(self, *, now_ns: int) -> Batch:
        """Decode what is left as if the text ended here; the decoder starts anew after it."""
        data = b"".join((self._carry, *self._pending))
        self._carry, self._pending, self._pending_bytes = b"", [], 0
        parts, _ = self._split(data, final=True)
        self._stamp[4] = -1
        return self._batch(data, parts, now_ns)

    def _split(self, data: bytes, *, final: bool) -> tuple[list[_Part], int]:
        table, reached = self._table, 0
        parts: list[_Part] = []
        event, time_ns, tid, start, begin, stop = (column.data for column in self._room)
        while True:
            rows, reached = splitting.split_lines(
                data,
                table.blob,
                table.offsets.data,
                table.slots.data,
                table.extra_lines.data,
                table.longest,
                self._stamp.data,
                final,
                event,
                time_ns,
                tid,
                start,
                begin,
                stop,
                reached,
                self._limit,
            )
            if rows:
                parts.append(tuple(column[:rows].copy() for column in self._room))
            if rows < _ROWS:
                return parts, reached

    def _batch(self, data: bytes, parts: list[_Part], now_ns: int) -> Batch:
        if len(parts) == 1:
            columns = parts[0]
        elif parts:
            columns = tuple(map(np.concatenate, zip(*parts, strict=True)))
        else:
            columns = tuple(column[:0].copy() for column in self._room)
        event, time_ns, tid, start, begin, stop = columns
        arrived = time_ns < 0
        if arrived.any():
            time_ns[arrived] = now_ns
        return Batch(
            table=self._table,
            data=data,
            event=event,
            time_ns=time_ns,
            tid=tid,
            start=start,
            begin=begin,
            stop=stop,
            arrived=arrived,
            clock=self._clock,
            backend=self._backend,
            pid=self._pid,
        )
