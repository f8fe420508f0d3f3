"""Records as a Perfetto trace: bytes of TrackEvent packets, to be written one after the other.

Threads are tracks, and devices: records without a thread that carry a device's address go there.
Pairs of START and END are slices on the device's track, side by side where they overlap; rates are
counters. Source: ``protos/perfetto/trace`` of Perfetto; fields checked with the package of its
protos, version 0.59.1.

Times are those of the records, in ns, on the trace's own clock; where they are Unix time a clock
snapshot says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Clock, Kind
from qtctl.records.batch import Batch
from qtctl.records.columns import Record, StringColumn, readable
from qtctl.records.pairs import Pairing
from qtctl.records.printf import hex_arguments
from qtctl.records.protobuf import message, number, text
from qtctl.records.table import EventTable

__all__ = ["RATE_NS", "PairOf", "PerfettoTrace"]

RATE_NS = 100_000_000
"""Length of the spans that a rate counts records in."""
_DEVICES = ("vdev", "dev", "s", "state", "n", "nic", "bus", "bs", "blk", "chrdev")
"""What QEMU calls the first argument of an event where it is the device that the event is of."""

_SEQUENCE = 1
_CLEARED, _NEEDS = 1, 2
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_REALTIME, _BOOTTIME = 1, 6
# Fields of TracePacket and of the messages in it.
_PACKET = 1
_CLOCKS, _TIMESTAMP, _SEQUENCE_ID, _EVENT, _INTERNED, _FLAGS, _TRACK = 6, 8, 10, 11, 12, 13, 60


@dataclass(frozen=True, slots=True)
class PairOf:
    """Which records are the begin and the end of a slice, and the arguments that tell it."""

    start: str
    end: str
    key: tuple[str, ...]


@dataclass(slots=True)
class _Lanes:
    """Tracks side by side for slices that overlap: when the last one of each ended."""

    uuids: list[int] = field(default_factory=list)
    ended_ns: list[int] = field(default_factory=list)


class PerfettoTrace:
    """Makes the packets of one trace; every method returns the bytes to write next."""

    def __init__(self, table: EventTable, pairs: Sequence[PairOf] = ()) -> None:
        self._table = table
        self._pairs = [(one, Pairing(table, [one.start], [one.end], one.key)) for one in pairs]
        self._tracks: dict[Any, int] = {}
        self._names: dict[str, int] = {}
        self._arguments: dict[str, int] = {}
        self._lanes: dict[tuple[int | None, int, str], _Lanes] = {}
        self._rates: Counter[tuple[int | None, str, int]] = Counter()
        self._hex: dict[str, frozenset[str]] = {}
        self._fresh: list[bytes] = []
        self._out: list[bytes] = []
        self._clock_told = False
        self._packet(number(_FLAGS, _CLEARED))

    def take(self, batch: Batch) -> bytes:
        """Return the packets of a batch of records."""
        if not len(batch):
            return b""
        self._tell_clock(batch)
        devices = self._devices(batch)
        for record, device in zip(batch.records(), devices.tolist(), strict=True):
            self._instant(record, device)
        self._count(batch)
        for which, pairing in self._pairs:
            found = pairing.feed(batch)
            ends = zip(found.start_ns.tolist(), found.end_ns.tolist(), found.row, strict=True)
            for start_ns, end_ns, row in ends:
                self._slice(which, batch.pid, int(devices[row]), start_ns, end_ns)
        return self._flush()

    def note(self, told: Mapping[str, Any]) -> bytes:
        """Return the packet of what stands between records: an object of schema ``qtctl/1``."""
        if told["type"] == "loss":
            for _, pairing in self._pairs:
                pairing.lose()
        track = self._track(("notes",), lambda: text(2, "qtctl"))
        details = [
            self._annotation(key, value if isinstance(value, int) else str(value), False)
            for key, value in told.items()
            if key not in ("type", "time_ns") and value is not None
        ]
        self._event(told["time_ns"], _INSTANT, track, str(told["type"]), details)
        return self._flush()

    def finish(self) -> bytes:
        """Return the packets that end it: the rates."""
        last: dict[tuple[int | None, str], int] = {}
        for (pid, name, span), count in sorted(self._rates.items(), key=lambda one: one[0][2]):
            before = last.get((pid, name))
            if before is not None and before + 1 < span:
                self._rate(pid, name, before + 1, 0)
            self._rate(pid, name, span, count)
            last[pid, name] = span
        for (pid, name), span in last.items():
            self._rate(pid, name, span + 1, 0)
        return self._flush()

    def _tell_clock(self, batch: Batch) -> None:
        """Say that the trace's clock is Unix time, once, if it is."""
        if self._clock_told or batch.clock is Clock.MONOTONIC:
            return
        self._clock_told = True
        now = max(0, int(batch.time_ns[0]))
        both = (message(1, number(1, one), number(2, now)) for one in (_BOOTTIME, _REALTIME))
        self._packet(message(_CLOCKS, *both))

    def _packet(self, *fields: bytes) -> None:
        self._out.append(message(_PACKET, number(_SEQUENCE_ID, _SEQUENCE), *fields))

    def _flush(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out

    def _event(
        self, time_ns: int, kind: int, track: int, name: str, details: Iterable[bytes] = ()
    ) -> None:
        """Put an event on a track; an END has no name."""
        named = number(10, self._interned(self._names, 2, name)) if name else b""
        body = message(_EVENT, number(9, kind), number(11, track), named, *details)
        self._stamped(time_ns, body)

    def _stamped(self, time_ns: int, body: bytes) -> None:
        fresh = message(_INTERNED, *self._fresh) if self._fresh else b""
        self._fresh = []
        self._packet(number(_TIMESTAMP, max(0, time_ns)), number(_FLAGS, _NEEDS), fresh, body)

    def _interned(self, known: dict[str, int], place: int, name: str) -> int:
        number_of = known.get(name)
        if number_of is None:
            number_of = known[name] = len(known) + 1
            self._fresh.append(message(place, number(1, number_of), text(2, readable(name))))
        return number_of

    def _track(self, key: Any, describe: Any) -> int:
        """Return the id of a track; it is described when it is first used."""
        found = self._tracks.get(key)
        if found is None:
            described = describe()  # may make the parent's track
            found = self._tracks[key] = len(self._tracks) + 1
            self._packet(message(_TRACK, number(1, found), described))
        return found

    def _guest(self, pid: int | None) -> int:
        def describe() -> bytes:
            if pid is None:
                return text(2, "QEMU")
            return message(3, number(1, pid), text(6, "QEMU"))

        return self._track(("guest", pid), describe)

    def _child(self, pid: int | None, name: str) -> int:
        return self._track(
            ("child", pid, name), lambda: number(5, self._guest(pid)) + text(2, name)
        )

    def _thread(self, pid: int | None, tid: int) -> int:
        if pid is None:  # Perfetto knows threads of processes only
            return self._child(pid, f"thread {tid}")
        describe = lambda: (  # noqa: E731
            number(5, self._guest(pid)) + message(4, number(1, pid), number(2, tid))
        )
        return self._track(("thread", pid, tid), describe)

    def _instant(self, record: Record, device: int) -> None:
        pid = record.pid
        if record.tid is not None:
            track = self._thread(pid, record.tid)
        elif device:
            track = self._child(pid, f"device {device:#x}")
        else:
            track = self._child(pid, "events" if record.line is None else "log")
        if record.line is not None:
            details = [self._annotation("line", record.line, False)]
            self._event(record.time_ns, _INSTANT, track, "line", details)
            return
        in_hex = self._in_hex(record.name)
        details = [self._annotation(k, v, k in in_hex) for k, v in record.args.items()]
        if record.raw is not None:
            details.append(self._annotation("raw", record.raw, False))
        self._event(record.time_ns, _INSTANT, track, record.name, details)

    def _annotation(self, name: str, value: int | str, in_hex: bool) -> bytes:
        named = number(1, self._interned(self._arguments, 3, name))
        if isinstance(value, str):
            return message(4, named, text(6, readable(value)))
        kind = 4 if value < 0 else 7 if in_hex else 3
        return message(4, named, number(kind, value))

    def _in_hex(self, name: str) -> frozenset[str]:
        if name not in self._hex:
            declared = self._table.declarations.get(name)
            self._hex[name] = hex_arguments(declared) if declared else frozenset()
        return self._hex[name]

    def _devices(self, batch: Batch) -> NDArray[np.uint64]:
        """Address of each record's device, 0 where it has none."""
        found = np.zeros(len(batch), np.uint64)
        for event, rows in batch.groups().items():
            declared = batch.table.declaration(event) if event >= 0 else None
            if declared is None or not declared.arguments:
                continue
            first = declared.arguments[0]
            if first.kind is Kind.POINTER and first.name in _DEVICES:
                column = batch.arguments(event).values.get(first.name)
                if column is not None and not isinstance(column, StringColumn):
                    found[rows] = column
        return found

    def _count(self, batch: Batch) -> None:
        for event, rows in batch.groups().items():
            if event >= 0:
                spans, counts = np.unique(batch.time_ns[rows] // RATE_NS, return_counts=True)
                for span, count in zip(spans.tolist(), counts.tolist(), strict=True):
                    self._rates[batch.pid, batch.names[event], span] += count

    def _rate(self, pid: int | None, name: str, span: int, count: int) -> None:
        track = self._track(
            ("rate", pid, name),
            lambda: (
                number(5, self._guest(pid))
                + text(2, f"{readable(name)} rate")
                + message(8, text(6, "events/s"))
            ),
        )
        value = number(30, count * 1_000_000_000 // RATE_NS)
        body = message(_EVENT, number(9, _COUNTER), number(11, track), value)
        self._stamped(span * RATE_NS, body)

    def _slice(
        self, which: PairOf, pid: int | None, device: int, start_ns: int, end_ns: int
    ) -> None:
        parent = self._child(pid, f"device {device:#x}") if device else self._guest(pid)
        name = readable(f"{which.start} to {which.end}")
        lanes = self._lanes.setdefault((pid, device, name), _Lanes())
        free = (n for n, ended in enumerate(lanes.ended_ns) if ended <= start_ns)
        lane = next(free, len(lanes.uuids))
        if lane == len(lanes.uuids):
            key = ("lane", pid, device, name, lane)
            lanes.uuids.append(
                self._track(key, lambda: number(5, parent) + text(2, readable(name)))
            )
            lanes.ended_ns.append(0)
        # Pairs come in the order they ended, so what a lane holds has ended before this one does.
        lanes.ended_ns[lane] = end_ns
        self._event(start_ns, _BEGIN, lanes.uuids[lane], which.start)
        self._event(end_ns, _END, lanes.uuids[lane], "")
