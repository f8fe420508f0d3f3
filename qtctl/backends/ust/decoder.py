"""Decode the packets of one stream of a CTF trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.splitting import Arrays, as_batch
from qtctl.backends.ust import kernel
from qtctl.backends.ust.ctf import TraceClock
from qtctl.backends.ust.layout import PacketHead, StreamLayout, TraceLayout
from qtctl.backends.ust.program import CLOCK, PROCESS, REGISTERS, THREAD
from qtctl.model import Backend
from qtctl.records.items import Items, Loss
from qtctl.records.origins import Origin

PACKET_LIMIT = 1 << 28
"""Bytes of the largest packet that is kept until it is whole."""
HEAD_LIMIT = 1 << 12
"""Bytes within which a packet's head must end."""
_ROWS = 1 << 15
_KINDS = (np.int32, np.int64, np.int32, np.int32, np.int64, np.int64, np.int64)
"""Of the columns: event, time, thread, process, and where a record and its fields are."""


class CtfDecoder:
    """Decodes the packets of one stream; keeps at most one unfinished packet.

    What the tracer discarded, packets that are missing, and what cannot be read are losses.
    ``pid`` is the process of all records; without it, each has that of its context ``vpid``.
    ``whole``: the stream is read from its first packet on. ``patient``: where the metadata lack an
    event, ``waiting`` is set, and the rest is kept until :meth:`go_on`.
    """

    def __init__(
        self,
        layout: TraceLayout,
        *,
        pid: int | None = None,
        whole: bool = False,
        patient: bool = False,
    ) -> None:
        self.layout = layout
        self.waiting = False
        self.missing = 0
        """Packets before the first, which are not there."""
        self.first_bad: int | None = None
        """Offset of the first byte that could not be read."""
        self.last_ns = 0
        """Unix time of the end of the last packet: what follows is not older."""
        self._pid = pid
        self._patient = patient
        self._whole = whole
        self._kept: list[bytes] = []
        self._kept_bytes = self._needed = self._passed = 0
        self._bad = False
        self._sequence = -1
        self._discarded = 0
        self._begun = False
        self._resume_at = self._resume_clock = 0
        self._registers = np.zeros(REGISTERS, np.int64)
        self._state = np.zeros(2, np.int64)
        self._columns: Arrays = tuple(np.empty(_ROWS, kind) for kind in _KINDS)
        self._views = tuple(column.data for column in self._columns)
        self._row = 0
        self._clock = TraceClock()
        self._items: Items = []

    @property
    def discarded(self) -> int:
        """Events that the tracer discarded, by the packets so far."""
        return self._discarded

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished packet that is kept."""
        return self._kept_bytes

    def feed(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the packets that are whole now."""
        if data:
            self._kept.append(data)
            self._kept_bytes += len(data)
        if self._kept_bytes < self._needed or self.waiting:
            return []
        return self._decode(clocks, final=False)

    def flush(self, clocks: Clocks) -> Items:
        """Decode what is kept as if the stream ended here; the next bytes begin another."""
        found = self.end_file(clocks)
        self._sequence, self._discarded, self._begun, self._bad = -1, 0, False, False
        return found

    def end_file(self, clocks: Clocks) -> Items:
        """Decode what is kept, as the file ends here; the stream may go on in another."""
        patient, self._patient = self._patient, False
        found = self._decode(clocks, final=True)
        self._patient = patient
        return found

    def begin_file(self) -> None:
        """Count offsets from here."""
        self.first_bad, self._passed = None, 0

    def go_on(self, layout: TraceLayout | None, clocks: Clocks) -> Items:
        """Read on with new metadata; None: leave out what cannot be read."""
        patient, self._patient = self._patient, layout is not None
        self.layout = layout or self.layout
        found = self._decode(clocks, final=False)
        self._patient = patient
        return found

    def _decode(self, clocks: Clocks, *, final: bool) -> Items:
        data = self._kept[0] if len(self._kept) == 1 else b"".join(self._kept)
        self.waiting = False
        self._needed = at = 0
        while at < len(data):
            end = self._packet(data, at, clocks, final=final)
            if end == at:
                break
            at = end
        self._flush_rows(data, clocks)
        rest = data[at:] if at else data
        self._kept, self._kept_bytes = [rest] if rest else [], len(rest)
        self._passed += at
        items, self._items = self._items, []
        return items

    def _packet(self, data: bytes, at: int, clocks: Clocks, *, final: bool) -> int:
        """Decode the packet at a byte; return where the next begins, ``at`` if it is not whole."""
        size = len(data) - at
        try:
            head = self.layout.read_head(data, at, self._registers)
            if head is None and (final or size >= HEAD_LIMIT):
                raise ValueError("a head that does not end")
            if head is not None and head.size > PACKET_LIMIT:
                raise ValueError("a packet that is too large")
        except ValueError:
            return self._pass_over(data, at, clocks, final=final)
        if head is None:
            return at
        if head.size > size and not final:
            self._needed = head.size
            return at
        self._bad = False
        stream = self.layout.streams[head.stream]
        self._clock = stream.clock
        content = min(head.content, size * 8)
        if not self._resume_at:
            self._begin(data, head, clocks)
        reason = self._records(data, at, content, head, stream, clocks)
        if reason == kernel.UNKNOWN and self._patient:
            self.waiting = True
            return at
        self._resume_at = 0
        last_ns = self._clock.unix_ns(head.last) if head.last >= 0 else self.last_ns
        if reason != kernel.DONE or content < head.content:
            self._note_bad(at)
            self._lose(data, None, last_ns, clocks)
        self._end(data, head, last_ns, clocks)
        return at + min(head.size, size)

    def _begin(self, data: bytes, head: PacketHead, clocks: Clocks) -> None:
        """Compare the packet's number with that of the one before."""
        between = head.sequence - self._sequence - 1
        if head.sequence >= 0 and between > 0:
            if self._begun or self._whole:
                self._lose(data, None, self._clock.unix_ns(max(0, head.first)), clocks)
            else:
                self.missing = between
                self._discarded = max(0, head.discarded)
        self._sequence = head.sequence
        self._begun = True

    def _end(self, data: bytes, head: PacketHead, last_ns: int, clocks: Clocks) -> None:
        """Compare the tracer's count of what it discarded with that of the packet before.

        LTTng 2.13 now and then sends a packet with an old count.
        """
        if head.discarded > self._discarded:
            self._lose(data, head.discarded - self._discarded, last_ns, clocks)
            self._discarded = head.discarded
        self.last_ns = max(self.last_ns, last_ns)

    def _records(
        self,
        data: bytes,
        at: int,
        content: int,
        head: PacketHead,
        stream: StreamLayout,
        clocks: Clocks,
    ) -> int:
        """Decode the records of a packet; return why that ended."""
        known, base = self._registers, at * 8
        known[[THREAD, PROCESS]] = -1
        known[CLOCK] = self._resume_clock if self._resume_at else max(0, head.first)
        self._state[0] = base + (self._resume_at or head.records)
        self._state[1] = stream.clock.shift_ns
        event, cycles, tid, pid, start, begin, stop = self._views
        while True:
            self._row, reason = kernel.split_packet(
                data, base, base + content, self.layout.program.data,
                stream.header, stream.classes.data, known.data,
                self._state.data, event, cycles, tid, pid, start, begin, stop, self._row,
            )  # fmt: skip
            if reason != kernel.FULL:
                break
            self._flush_rows(data, clocks)
        self._resume_at = int(self._state[0]) - base
        self._resume_clock = int(known[CLOCK])
        return reason

    def _pass_over(self, data: bytes, at: int, clocks: Clocks, *, final: bool) -> int:
        """Return where a packet may begin behind a byte where none does."""
        mark = self.layout.mark
        found = data.find(mark, at + 1) if mark else -1
        if found < 0:
            # The end may be the beginning of one.
            tails = range(max(at + 1, len(data) - len(mark) + 1), len(data))
            ends = [place for place in tails if mark.startswith(data[place:])]
            found = ends[0] if ends and not final else len(data)
        self._note_bad(at)
        if not self._bad:
            self._lose(data, None, self.last_ns or clocks.now_ns, clocks)
        self._bad = True
        return found

    def _note_bad(self, at: int) -> None:
        if self.first_bad is None:
            self.first_bad = self._passed + at

    def _lose(self, data: bytes, count: int | None, time_ns: int, clocks: Clocks) -> None:
        self._flush_rows(data, clocks)
        self._items.append(Loss(Backend.UST, count, time_ns + clocks.offset_ns))

    def _flush_rows(self, data: bytes, clocks: Clocks) -> None:
        """Make a batch of the rows that there are."""
        if not self._row:
            return
        event, time, tid, pid, start, begin, stop = (
            column[: self._row] for column in self._columns
        )
        self._row = 0
        time_ns = self._clock.unix_ns(time) if not self._clock.shift_ns else time.copy()
        columns = (event.copy(), time_ns, tid.copy(), start.copy(), begin.copy(), stop.copy())
        known = self._pid or self.layout.process
        one = self._pid is not None or bool((pid == pid[0]).all())
        if one and known is None and pid[0] >= 0:
            known = int(pid[0])
        whole = as_batch(
            *(self.layout.table, data, columns, clocks, Backend.UST),
            pid=known,
            reader=self.layout.reader,
        )
        if not one:
            pids, codes = np.unique(pid, return_inverse=True)
            origins = [Origin(number if number >= 0 else known) for number in pids.tolist()]
            whole = replace(whole, origin=codes.astype(np.int32), origins=origins)
        self._items.append(whole)
