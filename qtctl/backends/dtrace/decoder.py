"""Decoder for what bpftrace prints of the program that ``qtctl.backends.dtrace.bpftrace`` gives it.

JSON lines in, batches and losses out: no files, no awaits. However the bytes are cut, the records
are the same. Checked on bpftrace 0.17 (``src/output.cpp`` for the form of its lines).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.base import Clocks
from qtctl.backends.dtrace import kernel as bpf
from qtctl.backends.dtrace.kernel import ALIVE, LOST
from qtctl.backends.splitting import Arrays, RowBuffers
from qtctl.model import Argument, Backend, Clock, Kind
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Column, Int64Array, StringColumn
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss

__all__ = ["LINE_LIMIT", "BpfArguments", "BpfDecoder"]

LINE_LIMIT = 1 << 16
_NUMBER = re.compile(rb"[0-9a-f]{1,12}")
_ABSENT_LIMIT = 1 << 20
"""Signs of life that a CPU can have lost between two: 2^20 are three days."""


@dataclass(frozen=True, slots=True)
class BpfArguments:
    """Reads arguments: those of ``declared``, by event; other events keep their text.

    A record has its numbers first, in declared order, then its texts, with ``mark`` between two.
    """

    declared: Mapping[int, Sequence[Argument]]
    mark: bytes

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Read data[begin[i]:stop[i]]: a column an argument, and which rows could be read."""
        rows = len(begin)
        arguments = self.declared.get(event)
        if arguments is None:
            return {}, np.zeros(rows, np.bool_)
        texts = sum(argument.kind is Kind.STRING for argument in arguments)
        values = np.zeros((len(arguments) - texts, rows), np.uint64)
        spans = np.zeros((2 * texts, rows), np.int64)
        room = int((stop - begin).sum()) if texts else 0
        out, ok = np.empty(room + 1, np.uint8), np.zeros(rows, np.uint8)
        if rows:
            bpf.read_arguments(
                data,
                len(arguments) - texts,
                texts,
                self.mark,
                np.ascontiguousarray(begin).data,
                np.ascontiguousarray(stop).data,
                values.reshape(-1).data,
                spans.reshape(-1).data,
                out.data,
                ok.data,
            )
        good = ok.view(np.bool_)
        values[:, ~good] = 0
        spans[:, ~good] = 0
        unescaped = out.tobytes() if texts else b""
        columns: dict[str, Column] = {}
        number = text = 0
        for argument in arguments:
            if argument.kind is Kind.STRING:
                edges = spans[2 * text], spans[2 * text + 1]
                columns[argument.name] = StringColumn.from_spans(unescaped, *edges)
                text += 1
            else:
                columns[argument.name] = _narrowed(values[number], argument)
                number += 1
        return columns, good


def _narrowed(values: NDArray[np.uint64], argument: Argument) -> Column:
    """Return 64-bit register contents as the declared type has them."""
    spare = np.uint64(64 - argument.bits)
    high = values << spare
    return (high.view(np.int64) >> spare.view(np.int64)) if argument.signed else high >> spare


@dataclass(slots=True)
class BpfDecoder:
    """Turns bpftrace's lines into batches; keeps at most one unfinished line.

    ``alive`` tells when, by bpftrace's own clock, each CPU last had all its records delivered. A
    loss is reported once each CPU has given its next numbered sign of life, for only then is it
    known how many signs are among the lost.
    """

    table: EventTable
    arguments: BpfArguments
    pid: int | None = None
    alive: dict[int, int] = field(default_factory=dict)
    _buffers: RowBuffers = field(
        default_factory=lambda: RowBuffers(np.int32, np.int64, np.int32, *(np.int64,) * 3)
    )
    _carry: bytes = b""
    _numbers: dict[int, int] = field(default_factory=dict)
    _lost: int = 0
    _lost_signs: int = 0
    _awaited: set[int] = field(default_factory=set)

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
            # No line of ours is that long: given out as it is, in lines of its own.
            whole, self._carry = whole + self._carry + b"\n", b""
        return self._decode(whole, clocks)

    def flush(self, clocks: Clocks) -> Items:
        """Decode what is kept as if the text ended here, and report what is known to be lost."""
        rest, self._carry = self._carry, b""
        out = self._decode(rest + b"\n", clocks) if rest else []
        return [*out, *self._take_losses(clocks)]

    def _decode(self, data: bytes, clocks: Clocks) -> Items:
        columns, _ = self._buffers.fill(bpf.split_lines, data, len(self.table))
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
        """Take note of a CPU's sign of life, and of those before it that never came."""
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
        event, time_ns, tid, start, begin, stop = (column[keep] for column in columns)
        arrived = event < 0
        time_ns = np.where(arrived, clocks.now_ns, time_ns + clocks.offset_ns)
        batch = Batch(
            table=self.table,
            data=data,
            event=event,
            time_ns=time_ns,
            tid=tid,
            start=start,
            begin=begin,
            stop=stop,
            arrived=arrived,
            clock=Clock.REALTIME,
            backend=Backend.DTRACE,
            pid=self.pid,
            reader=self.arguments,
        )
        if (np.diff(time_ns) < 0).any():  # each CPU's records come in a run of their own
            batch = batch.select(np.argsort(time_ns, kind="stable"))
        return batch
