"""Decoder for the text that babeltrace2 prints of an LTTng-UST trace of QEMU.

Forms checked on babeltrace2 2.0.4 with LTTng 2.13 and QEMU 7.2; its texts come from
``plugins/text/pretty/print.c`` (``print_escape_string``, ``print_discarded_elements_msg``).
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.splitting import Arrays, RowBuffers, as_batch
from qtctl.backends.ust import kernel as lttng
from qtctl.backends.ust.arguments import FieldReader
from qtctl.model import Backend
from qtctl.records.columns import StringColumn
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from qtctl.records.origins import Origin

LINE_LIMIT = 1 << 20
_HALF = 1 << 63
_STREAMS = 4096
_GROUP = re.compile(rb'\{ ((?:"(?:[^"\\]|\\.)*"|[^}"])*) \}')
_VALUE = re.compile(rb'(?:"(?:[^"\\]|\\.)*"|[^,"])+')
_DISCARDED = re.compile(
    rb"WARNING: Tracer (?:discarded (?P<count>one|\d{1,20})|may have discarded) "
    rb"(?P<what>event|packet)s? between \[[^\]]*\] and \[(?:(?P<s>\d{1,10})\.(?P<ns>\d{9}))?"
    rb"(?:.*stream ID: (?P<stream>\d{1,20})\))?"
)


class _Losses:
    """Parses babeltrace2's reports of discarded events, and ignores what it reports twice.

    It prints how much the tracer's counter of a stream rose between two packets. LTTng 2.13 now
    and then sends a packet with an old counter: the fall is printed as 2^64 less it, and the rise
    back to where it was is no loss. Lost packets hold an unknown number of records.
    """

    def __init__(self) -> None:
        self._fallen: dict[bytes, int] = {}

    def read(self, line: bytes, now_ns: int) -> Loss | None:
        """Return the loss that a line reports, with a count of 0 if nothing is lost; else None.

        A report without a time gets ``now_ns``.
        """
        match = _DISCARDED.match(line)
        if match is None:
            return None
        time_ns = int(match["s"]) * 10**9 + int(match["ns"]) if match["s"] else now_ns
        return Loss(Backend.UST, self._count(match), time_ns)

    def _count(self, match: re.Match[bytes]) -> int | None:
        if match["count"] is None:
            return None
        count = 1 if match["count"] == b"one" else int(match["count"])
        if match["what"] == b"packet":
            return 0 if count >= _HALF else None
        stream = match["stream"] or b""
        fallen = self._fallen.get(stream, 0)
        if count >= _HALF:
            if len(self._fallen) < _STREAMS:
                self._fallen[stream] = fallen + max(0, 2 * _HALF - count)
            return 0
        taken = min(fallen, count)
        if taken:
            self._fallen[stream] = fallen - taken
        return count - taken


class LttngDecoder:
    """Decodes babeltrace2's text; keeps at most one unfinished line.

    A line that is neither a record of a known event nor a report of
    discarded ones is a text row; one beyond ``LINE_LIMIT`` bytes is several text rows.
    ``thread`` and ``process`` are the places of the ids of the thread and, unless ``pid`` is that
    of all records, of the process among the contexts of an event, from 0, or -1.
    """

    def __init__(
        self, table: EventTable, *, pid: int | None = None, thread: int = 1, process: int = -1
    ) -> None:
        self._table = table
        self._pid = pid
        self._thread = thread
        self._process = process
        self._reader = FieldReader(table)
        self._losses = _Losses()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._buffers = RowBuffers(*(np.int64,) * 3, np.int32, *(np.int64,) * 3)

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished line that is kept."""
        return self._pending_bytes

    def feed(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the next bytes."""
        cut = data.rfind(b"\n") + 1
        out: Items = []
        if cut:
            out = self._decode(self._take_pending() + data[:cut], clocks)
        if cut < len(data):
            self._pending.append(data[cut:])
            self._pending_bytes += len(data) - cut
        if self._pending_bytes > LINE_LIMIT:
            out += self.flush(clocks)
        return out

    def flush(self, clocks: Clocks) -> Items:
        """Return an unfinished line as text."""
        rest = self._take_pending()
        if not rest:
            return []
        row = np.array([[-1], [-1], [-1], [-1], [0], [0], [len(rest)]])
        return self._items(rest, (*row[:3], row[3].astype(np.int32), *row[4:]), clocks)

    def _take_pending(self) -> bytes:
        data = b"".join(self._pending)
        self._pending, self._pending_bytes = [], 0
        return data

    def _decode(self, data: bytes, clocks: Clocks) -> Items:
        scratch = np.zeros(2, np.int64)
        columns, _ = self._buffers.fill(lttng.split_records, data, scratch.data, self._thread)
        return self._items(data, columns, clocks)

    def _items(self, data: bytes, part: Arrays, clocks: Clocks) -> Items:
        """Cut the rows where something was discarded."""
        name, name_stop, time_ns, tid, start, begin, stop = part
        event = np.full(len(name), -1, np.int32)
        records = np.flatnonzero(name >= 0)
        if len(records):
            event[records], _ = self._table.match(data, name[records], name_stop[records])
            begin = np.where(event < 0, start, begin)
        columns = (event, time_ns, tid, start, begin, stop)
        pid, reader = self._pid, self._reader
        whole = as_batch(self._table, data, columns, clocks, Backend.UST, pid=pid, reader=reader)
        if self._process >= 0 and len(records):
            contexts = StringColumn.from_spans(data, name_stop[records], part[5][records])
            codes = np.zeros(len(event), np.int32)
            codes[records] = contexts.codes + 1
            pids = [
                self._pid_in(text.encode("utf-8", "surrogateescape")) for text in contexts.texts
            ]
            whole = replace(whole, origin=codes, origins=[Origin(), *map(Origin, pids)])
        losses = [
            (row, found)
            for row in np.flatnonzero(whole.arrived).tolist()
            if (found := self._losses.read(data[start[row] : stop[row]], clocks.now_ns)) is not None
        ]
        out: Items = []
        first = 0
        for row, found in [*losses, (len(event), None)]:
            if row > first:
                out.append(whole.select(slice(first, row)) if losses else whole)
            if found is not None and found.count != 0:
                out.append(found)
            first = row + 1
        return out

    def _pid_in(self, contexts: bytes) -> int | None:
        """Return the process id in ``: { CPU }, { VPID, VTID }, ``."""
        groups = _GROUP.findall(contexts)
        values = _VALUE.findall(groups[1]) if len(groups) > 1 else []
        found = values[self._process].strip() if self._process < len(values) else b""
        return int(found) if found.isdigit() and int(found) < 1 << 31 else None
