"""Decoder for the JSON lines that bpftrace prints for the program of ``dtrace.bpftrace``.

Checked on bpftrace 0.17 (``src/output.cpp`` for the form of its lines).
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.base import Clocks
from qtctl.backends.dtrace import kernel as bpf
from qtctl.backends.dtrace.arguments import BpfArguments
from qtctl.backends.dtrace.kernel import ALIVE, LOST
from qtctl.backends.splitting import Arrays, RowBuffers, as_batch
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss

LINE_LIMIT = 1 << 16
_NUMBER = re.compile(rb"[0-9a-f]{1,12}")
_ABSENT_LIMIT = 1 << 20
"""Signs of life that a CPU can have lost between two: 2^20 are three days."""


class BpfDecoder:
    """Decodes bpftrace's lines; keeps at most one unfinished line.

    ``mark`` stands between two texts. ``alive`` is when each CPU last had all its records
    delivered, in ns of bpftrace's clock. A loss is reported once each CPU has given its next
    numbered sign of life, for only then is it known how many signs are among the lost.
    """

    def __init__(self, table: EventTable, mark: bytes, *, pid: int | None = None) -> None:
        self.alive: dict[int, int] = {}
        self._table = table
        self._reader = BpfArguments(table, mark)
        self._pid = pid
        self._buffers = RowBuffers(np.int32, np.int64, np.int32, *(np.int64,) * 3)
        self._carry = b""
        self._numbers: dict[int, int] = {}
        self._lost = self._lost_signs = 0
        self._awaited: set[int] = set()

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished line that is kept."""
        return len(self._carry)

    def feed(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the next bytes."""
        cut = data.rfind(b"\n") + 1
        if not cut and len(self._carry) + len(data) <= LINE_LIMIT:
            self._carry += data
            return []
        whole = self._carry + data[:cut]
        self._carry = data[cut:]
        if not cut or len(self._carry) > LINE_LIMIT:
            # No line of qtctl's program is that long: it becomes text rows.
            whole, self._carry = whole + self._carry + b"\n", b""
        return self._decode(whole, clocks)

    def flush(self, clocks: Clocks) -> Items:
        """Decode what is kept as if the text ended here, and report what is known to be lost."""
        rest, self._carry = self._carry, b""
        out = self._decode(rest + b"\n", clocks) if rest else []
        return [*out, *self._take_losses(clocks)]

    def _decode(self, data: bytes, clocks: Clocks) -> Items:
        columns, _ = self._buffers.fill(bpf.split_lines, data, len(self._table))
        event, time_ns, cpu, _, begin, stop = columns
        kept = np.flatnonzero((event != ALIVE) & (event != LOST))
        out: Items = []
        before = 0
        for row in np.flatnonzero((event == ALIVE) | (event == LOST)).tolist():
            if event[row] == LOST:
                self._lost += int(time_ns[row])
                self._awaited = set(self._numbers)
                continue
            self._sign(int(cpu[row]), int(time_ns[row]), data[begin[row] : stop[row]])
            losses = [] if self._awaited else self._take_losses(clocks)
            if losses:
                place = int(np.searchsorted(kept, row))
                if place > before:
                    out.append(self._batch(data, columns, kept[before:place], clocks))
                out += losses
                before = place
        if len(kept) > before:
            out.append(self._batch(data, columns, kept[before:], clocks))
        return out

    def _sign(self, cpu: int, time_ns: int, text: bytes) -> None:
        """Register a CPU's sign of life, and those before it that never came."""
        self.alive[cpu] = time_ns
        self._awaited.discard(cpu)
        if not _NUMBER.fullmatch(text):
            return
        number = int(text, 16)
        absent = number - self._numbers.get(cpu, 0) - 1
        if 0 <= absent < _ABSENT_LIMIT:
            self._lost_signs += absent
        self._numbers[cpu] = number

    def _take_losses(self, clocks: Clocks) -> Items:
        """Return what is known to be lost, without the signs of life among it."""
        own = min(self._lost, self._lost_signs)
        count, self._lost = self._lost - own, 0
        self._lost_signs -= own
        self._awaited = set()
        return [Loss(Backend.DTRACE, count, clocks.now_ns)] if count else []

    def _batch(
        self, data: bytes, columns: Arrays, keep: NDArray[np.int64], clocks: Clocks
    ) -> Batch:
        rows = tuple(column[keep] for column in columns)
        pid, reader = self._pid, self._reader
        batch = as_batch(self._table, data, rows, clocks, Backend.DTRACE, pid=pid, reader=reader)
        if (np.diff(batch.time_ns) < 0).any():  # each CPU's records come in a run of their own
            batch = batch.select(np.argsort(batch.time_ns, kind="stable"))
        return batch
