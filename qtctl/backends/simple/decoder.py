"""Decoder for the file of the simple backend, in any of its forms.

Source: ``trace/simple.c`` of QEMU, checked on 7.2 and 10.2. Its ``writeout_thread`` writes a drop
record before the buffer that was full, with the time T of the writing. What was dropped came after
all of that buffer and not after T, so its place is before the first record later than T.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.simple import kernel as simple
from qtctl.backends.simple.arguments import SimpleReader
from qtctl.backends.simple.forms import HEADER_BYTES, NATIVE, Form
from qtctl.backends.splitting import Arrays, as_batch, joined
from qtctl.model import Backend, Clock
from qtctl.records.columns import Int64Array
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss

_ONES = (1 << 64) - 1
_MAGIC = 0xF2B177CB0AA429B4
_IDS = 1 << 16
_UNSEEN = -2
_LATEST = 1 << 63
_NAME = re.compile(rb"\w{1,256}", re.ASCII)
_ROWS = 1 << 15
_WORDS = 6
"""Arguments that every record of version 0 has room for."""


def read_names(head: bytes, form: Form = NATIVE) -> list[str]:
    """Return the event names that a file begins with, from its first bytes, if it has names."""
    names, at = [], HEADER_BYTES
    while form.named and (found := _mapping(head, at, form)) is not None and found[1]:
        names.append(found[1])
        at = found[2]
    return names


def _mapping(data: bytes, at: int, form: Form) -> tuple[int, str, int] | None:
    """Return (id, name, end) of the mapping at ``at``; no name: bytes lack; None: bad."""
    fields = form.packed("QQI")
    if len(data) - at < fields.size:
        return 0, "", at
    kind, code, size = fields.unpack_from(data, at)
    if kind or code >= _IDS or not 0 < size <= 256:
        return None
    name = data[at + fields.size : at + fields.size + size]
    if name and not _NAME.fullmatch(name):
        return None
    if len(name) < size:
        return 0, "", at
    return code, name.decode("ascii"), at + fields.size + size


def _words(table: EventTable) -> Int64Array:
    """Return how many of the words of a record of version 0 are arguments, by event."""
    declared = map(table.declaration, range(len(table)))
    counts = [_WORDS if one is None else min(len(one.arguments), _WORDS) for one in declared]
    return np.array([*counts, _WORDS], np.int64)


class SimpleDecoder:
    """Decodes the bytes of a simple trace file from its begin on.

    Bytes that make no sense are a loss of unknown count, and it resumes at the next record that
    does. ``pid`` is that of the batches (default: the one in the file). ``numbered`` are the names
    of the events by their ids, for a ``form`` without names. Counters: ``records``; ``unread``,
    bytes that could not be read, the first of them at ``first_unread``.
    """

    def __init__(
        self,
        table: EventTable,
        *,
        clock: Clock = Clock.MONOTONIC,
        pid: int | None = None,
        form: Form = NATIVE,
        numbered: Sequence[str] = (),
    ) -> None:
        self._table = table
        self._form = form
        self._numbers = np.array([table.indices.get(name, -1) for name in numbered], np.int32)
        self._words = _words(table)
        self._reader = SimpleReader(table, swapped=form.swapped)
        self._kind = (form.version, form.swapped)
        self._header, self._dropped = form.packed("QQQ"), form.dropped
        self._clock = clock
        self._given_pid = pid
        self._carry = b""
        self._ids = np.full(_IDS, _UNSEEN, np.int32)
        self._ids[: len(self._numbers)] = self._numbers
        self._pid = np.full(1, -1, np.int64)
        self._synced = False
        self._quiet = True
        self._room = (np.empty(_ROWS, np.int32), *np.empty((4, _ROWS), np.int64))
        self._parts: list[Arrays] = []
        self._items: Items = []
        self._drops: list[tuple[int, int]] = []
        self._last_ns = 0
        self._skipping = False
        self._clocks = Clocks(0)
        self.position = 0
        self.records = 0
        self.unread = 0
        self.first_unread: int | None = None

    def preload(self, head: bytes, position: int) -> None:
        """Read the names that the file begins with, then expect bytes from ``position`` on.

        That may be in the middle of a record: the next one is searched.
        """
        self._run(head, final=False)
        self._items, self._drops, self.records = [], [], 0
        self.restart(position)

    def feed(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the next bytes."""
        return self._take(data, clocks, final=False)

    def skip(self, data: bytes, clocks: Clocks) -> list[Loss]:
        """Count the events of the next bytes instead of decoding them."""
        before, self._skipping = self.records, True
        items = self._take(data, clocks, final=False)
        self._skipping = False
        counted, self.records = self.records - before, before
        losses = [item for item in items if isinstance(item, Loss)]
        return [self._loss(counted), *losses] if counted else losses

    def flush(self, clocks: Clocks) -> Items:
        """Decode what is kept as if the bytes ended here; a record that is cut off is a loss."""
        return [*self._take(b"", clocks, final=True), *self.release(clocks)]

    def release(self, clocks: Clocks, until_ns: int | None = None) -> list[Loss]:
        """Return the drops, until a Unix time or all, of which no later record has come.

        They belong behind the records that were returned so far.
        """
        self._clocks = clocks
        return self._due(_LATEST if until_ns is None else until_ns - clocks.offset_ns)

    def restart(self, position: int) -> None:
        """Drop what is kept and look for the next record from ``position`` on."""
        self._unreadable(0, len(self._carry))
        self._carry, self._synced, self._quiet = b"", False, True
        self.position = position

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished record that is kept."""
        return len(self._carry)

    def _loss(self, count: int | None, time_ns: int | None = None) -> Loss:
        """Return a loss at ``time_ns`` by QEMU's own clock, else at the time of the reading."""
        moment = self._clocks.now_ns if time_ns is None else time_ns + self._clocks.offset_ns
        return Loss(Backend.SIMPLE, count, moment)

    def _take(self, data: bytes, clocks: Clocks, *, final: bool) -> Items:
        self._clocks = clocks
        data = self._carry + data
        reached = self._run(data, final=final)
        self._carry = data[reached:]
        self.position += reached
        items, self._items = self._items, []
        return items

    def _run(self, data: bytes, *, final: bool) -> int:
        """Decode ``data`` as far as it is complete; return the offset reached."""
        at = 0
        while True:
            if not self._synced:
                at, found = self._find(data, at, final=final)
                if not found:
                    break
            columns = (column.data for column in self._room)
            places = (self._ids.data, self._pid.data, *columns)
            rows, at, why = simple.walk(data, at, *self._kind, *places)
            self.records += rows
            self._add(data, rows)
            if why == simple.FULL:
                continue
            if why == simple.MORE and not (final and at < len(data)):
                break
            after = self._other(data, at, why)
            if after == at and not final:
                break
            if after > at:
                at = after
                continue
            self._close(data)
            self._items.append(self._loss(None))
            self._synced = False
            if why != simple.BAD:  # bytes that are no event of this process may be one of another
                self._unreadable(at, 1)
                at += 1
        self._close(data)
        return at

    def _add(self, data: bytes, rows: int) -> None:
        """Add the rows of the columns, with the drops at their place among them."""
        times, begin = self._room[1][:rows], 0
        if rows:
            self._last_ns = int(times[-1])
        while begin < rows:
            end = rows
            if self._drops:
                later = times[begin:] > self._drops[0][0]
                end = begin + int(later.argmax()) if later.any() else rows
            if end > begin and not self._skipping:
                self._parts.append(tuple(column[begin:end].copy() for column in self._room))
            if end < rows:
                self._close(data)
                self._items += self._due(int(times[end]))
            begin = end

    def _due(self, before_ns: int) -> list[Loss]:
        """Return the drops before a time of QEMU's own clock."""
        count = bisect.bisect_left(self._drops, (before_ns,))
        due, self._drops = self._drops[:count], self._drops[count:]
        return [self._loss(dropped, time_ns) for time_ns, dropped in due]

    def _find(self, data: bytes, at: int, *, final: bool) -> tuple[int, bool]:
        """Find the next record; count the bytes before it, except at the begin."""
        ids, pid = self._ids.data, self._pid.data
        place, found = simple.resync(data, at, *self._kind, ids, pid, final)
        if not self._quiet:
            self._unreadable(at, place - at)
        if found:
            self._synced, self._quiet = True, False
        return place, found

    def _unreadable(self, at: int, size: int) -> None:
        self.unread += size
        if size and self.first_unread is None:
            self.first_unread = self.position + at

    def _other(self, data: bytes, at: int, why: int) -> int:
        """Decode a record that is no event; return its end, ``at`` if incomplete, -1 if bad."""
        if why == simple.DROPPED:
            time_ns, dropped = self._dropped.unpack_from(data, at)
            # Version 0 writes no time, and the record where the others are missing.
            bisect.insort(self._drops, (time_ns or self._last_ns, dropped))
            return at + self._dropped.size
        if why == simple.MAPPING:
            found = _mapping(data, at, self._form)
            if found is None:
                return -1
            code, name, after = found
            if name:
                self._ids[code] = self._table.indices.get(name, -1)
            return after
        return self._begin(data, at) if why == simple.HEADER else -1

    def _begin(self, data: bytes, at: int) -> int:
        """Decode a file header: the file was emptied, or another one appended."""
        if len(data) - at < self._form.header_bytes:
            return at
        if self._header.unpack_from(data, at) != (_ONES, _MAGIC, self._form.version):
            return -1
        self._close(data)
        self._items += self._due(_LATEST)
        self._ids[len(self._numbers) :] = _UNSEEN
        self._pid[0] = -1
        return at + self._form.header_bytes

    def _close(self, data: bytes) -> None:
        """Make a batch of the events since the last one."""
        parts, self._parts = self._parts, []
        if not parts:
            return
        event, time_ns, start, begin, stop = joined(parts)
        if not self._form.version:
            stop = begin + 8 * self._words[event]
        columns = (event, time_ns, np.full(len(event), -1, np.int32), start, begin, stop)
        own = int(self._pid[0]) if self._form.version > 2 else None
        pid = own if self._given_pid is None else self._given_pid
        table, clocks, clock, reader = self._table, self._clocks, self._clock, self._reader
        batch = as_batch(
            table, data, columns, clocks, Backend.SIMPLE, clock=clock, pid=pid, reader=reader
        )
        self._items.append(batch)
