"""Encode records as TrackEvent packets of a Perfetto trace.

Each thread has a track. So has each device, for the records that have no thread but the address of
a device as an argument. Pairs of START and END events are slices below the device's track, on
several lanes where they overlap, with the arguments of the END. Event rates are counters. Source:
``protos/perfetto/trace`` of Perfetto; fields checked with its Python package, version 0.59.1.

Times are those of the records, in ns, on the trace's clock; a clock snapshot maps it to Unix time
where the records have that. Instants of equal times on a track are written 1 ns apart: trace
processor nests equal ones, and drops the arguments beyond a depth of 512.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.analysis.order import Order, Part, clock_codes
from qtctl.analysis.pairs import Pairing, Pairs
from qtctl.model import Clock, Kind
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Column, Int64Array, StringColumn, readable
from qtctl.records.event_table import EventTable
from qtctl.records.origins import Origin
from qtctl.records.printf import hex_arguments
from qtctl.writers.perfetto.packets import EventPackets, Lanes, UniqueTimes
from qtctl.writers.perfetto.protobuf import message, number, tag, text

RATE_NS = 100_000_000
"""Length of the intervals in which a rate counter counts records."""
_DEVICES = ("vdev", "dev", "s", "state", "n", "nic", "bus", "bs", "blk", "chrdev")
"""Names of first arguments that are the address of the event's device, in QEMU's declarations."""

_HELD = 64
"""So many pairs of batches wait until it is known that their times did not step back."""
_SEQUENCE = 1
_CLEARED, _NEEDS = 1, 2
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_REALTIME, _BOOTTIME = 1, 6
# Field numbers of TracePacket and its messages; ``kernel.py`` has those of events on a track.
_PACKET = 1
_CLOCKS, _SEQUENCE_ID, _INTERNED, _FLAGS, _TRACK = 6, 10, 12, 13, 60
_TYPE, _NAME, _COUNT = 9, 10, 30
_ANNOTATION = 4
_UINT, _INT, _STRING, _POINTER = 3, 4, 6, 7


@dataclass(frozen=True, slots=True)
class SlicePair:
    """The events that begin and end a slice, and the arguments that match them (``key``)."""

    start: str
    end: str
    key: tuple[str, ...]


@dataclass(slots=True)
class _Slices:
    """Pairs of a process that become slices, and the records of their ENDs."""

    pair: SlicePair
    origin: Origin
    found: Pairs
    ends: Batch


class PerfettoTrace:
    """Encodes the packets of one trace; each public method returns the bytes to write next."""

    def __init__(self, table: EventTable, pairs: Sequence[SlicePair] = ()) -> None:
        self._table = table
        self._pairs = tuple(pairs)
        self._pairings = [Pairing(table, [p.start], [p.end], p.key) for p in self._pairs]
        self._tracks: dict[Any, int] = {}
        self._names: dict[str, int] = {}
        self._arguments: dict[str, int] = {}
        self._groups: dict[tuple[SlicePair, Origin, int], int] = {}
        self._described: list[bytes] = []
        self._lanes = Lanes()
        self._unique_times = UniqueTimes()
        self._rates: list[NDArray[np.int64]] = []
        self._hex_arguments = cache(hex_arguments)
        self._fresh: list[bytes] = []
        self._out: list[bytes] = []
        self._order = Order()
        self._held = deque[_Slices]()
        self._left_out = self._last_ns = 0
        self._clock_written = False
        self._packet(number(_FLAGS, _CLEARED))

    def encode(self, batch: Batch) -> bytes:
        """Return the packets of a batch of records."""
        parts = batch.by_process() if len(batch) else ()
        return b"".join(self._encode(part, origin) for origin, part in parts)

    def _encode(self, batch: Batch, origin: Origin) -> bytes:
        """Return the packets of records of one process."""
        self._write_clock(batch)
        devices = _devices(batch)
        packets = EventPackets(len(batch))
        for event, rows, values in batch.alike():
            name = "line" if event < 0 else batch.names[event]
            self._begin(packets, rows, _INSTANT, name)
            self._annotate(packets, batch, event, rows, values)
        self._instants(packets, batch.time_ns, self._tracks_of(batch, origin, devices))
        self._count(batch, origin)
        for part in self._order.parts(batch):
            self._pair(part, origin)
        while len(self._held) > _HELD:
            self._slices(self._held.popleft())
        return self._flush()

    def _pair(self, part: Part, origin: Origin) -> None:
        """Hold the pairs that end in a part; leave out those that span a place of two orders."""
        if part.restarts:
            self._lose()
        for held in self._held:
            self._leave_out(held, part.overlaps(held.found.start_ns, held.found.end_ns))
        clock, self._last_ns = clock_codes(part.batch), int(part.batch.time_ns[-1])
        for pair, pairing in zip(self._pairs, self._pairings, strict=True):
            found = pairing.feed(part.batch, clock)
            if len(found):
                held = _Slices(pair, origin, found, part.batch.select(found.row))
                doubtful = self._order.doubtful(part, found.start_ns, found.end_ns)
                self._leave_out(held, doubtful | (found.tag != clock[found.row]))
                self._held.append(held)

    def _leave_out(self, held: _Slices, wrong: BoolArray | bool) -> None:
        bad = np.broadcast_to(wrong, len(held.found))
        if bad.any():
            self._left_out += int(np.count_nonzero(bad))
            held.found, held.ends = held.found.select(~bad), held.ends.select(~bad)

    def _lose(self) -> None:
        for pairing in self._pairings:
            pairing.lose()

    def encode_note(self, note: Mapping[str, Any]) -> bytes:
        """Return the packet of a loss or note, given as an object of schema ``qtctl/1``."""
        if note["type"] == "loss":
            self._lose()
        track = self._track(("notes",), lambda: text(2, "qtctl"))
        packets = EventPackets(1)
        self._begin(packets, np.zeros(1, np.int64), _INSTANT, str(note["type"]))
        for key, value in note.items():
            if key in ("type", "time_ns") or value is None:
                continue
            if isinstance(value, int):
                shown = number(_INT, value)
            else:
                shown = _text(value if isinstance(value, str) else json.dumps(value))
            packets.literal(message(_ANNOTATION, self._argument(key), shown))
        self._instants(packets, np.array([note["time_ns"]]), np.array([track]))
        return self._flush()

    def finish(self) -> bytes:
        """Return the last packets: the slices that were held back, and the rate counters."""
        while self._held:
            self._slices(self._held.popleft())
        noted = b""
        if self._left_out:
            note = {"type": "pairs left out", "count": self._left_out, "time_ns": self._last_ns}
            noted = self.encode_note({**note, "because": "times step back, or are of two clocks"})
        if self._rates:
            track, span, count = _summed(np.concatenate(self._rates, axis=1))
            values, codes = np.unique(count, return_inverse=True)
            packets = EventPackets(len(track))
            self._begin(packets, np.arange(len(track)), _COUNTER)
            per_s = (values * (1_000_000_000 // RATE_NS)).tolist()
            packets.choice(codes, [number(_COUNT, value) for value in per_s])
            self._events(packets, span * RATE_NS, track)
            self._rates = []
        return noted + self._flush()

    def _write_clock(self, batch: Batch) -> None:
        """Write, once, a clock snapshot that maps the trace's clock to Unix time."""
        if self._clock_written or batch.clock is Clock.MONOTONIC:
            return
        self._clock_written = True
        now = max(0, int(batch.time_ns[0]))
        both = (message(1, number(1, one), number(2, now)) for one in (_BOOTTIME, _REALTIME))
        self._packet(message(_CLOCKS, *both))

    # Packets

    def _packet(self, *fields: bytes) -> None:
        self._out.append(message(_PACKET, number(_SEQUENCE_ID, _SEQUENCE), *fields))

    def _flush(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out

    def _begin(
        self, packets: EventPackets, rows: Int64Array, what: int, name: str | None = None
    ) -> None:
        """Begin events of a type, with or without a name."""
        packets.begin(rows)
        named = b"" if name is None else number(_NAME, self._interned(self._names, 2, name))
        packets.literal(number(_TYPE, what) + named)

    def _events(self, packets: EventPackets, time_ns: Int64Array, track: Int64Array) -> None:
        """Append events, after the names that they are the first to use."""
        if self._fresh:
            self._packet(number(_FLAGS, _NEEDS), message(_INTERNED, *self._fresh))
            self._fresh = []
        self._out.append(packets.encode(time_ns, track))

    def _instants(self, packets: EventPackets, time_ns: Int64Array, track: Int64Array) -> None:
        self._events(packets, self._unique_times.times(track, time_ns), track)

    def _interned(self, known: dict[str, int], place: int, name: str) -> int:
        number_of = known.get(name)
        if number_of is None:
            number_of = known[name] = len(known) + 1
            self._fresh.append(message(place, number(1, number_of), text(2, readable(name))))
        return number_of

    def _argument(self, name: str) -> bytes:
        return number(1, self._interned(self._arguments, 3, name))

    def _annotate(
        self,
        packets: EventPackets,
        batch: Batch,
        event: int,
        rows: Int64Array,
        values: Mapping[str, Column] | None,
    ) -> None:
        """Append the arguments of rows of an event, or their raw text, or the line."""
        if event < 0:
            values = {"line": batch.texts(rows)}
        elif values is None:
            values = {"raw": batch.raws(rows)}
        declared = batch.table.declaration(event) if event >= 0 else None
        in_hex = self._hex_arguments(declared) if declared is not None else ()
        for name, column in values.items():
            named = self._argument(name)
            if isinstance(column, StringColumn):
                texts = [message(_ANNOTATION, named, _text(one)) for one in column.texts]
                packets.choice(column.codes, texts)
                continue
            plain = named + tag(_POINTER if name in in_hex else _UINT)
            negative = plain if column.dtype == np.uint64 else named + tag(_INT)
            packets.numbers(column, plain, negative)

    # Tracks

    def _track(self, key: Any, describe: Callable[[], bytes]) -> int:
        """Return the id of a track; write its descriptor when it is first used."""
        found = self._tracks.get(key)
        if found is None:
            described = describe()  # may write the parent's first
            found = self._tracks[key] = len(self._tracks) + 1
            self._packet(message(_TRACK, number(1, found), described))
        return found

    def _guest(self, of: Origin) -> int:
        name = " ".join(["QEMU", *filter(None, [readable(of._replace(pid=None).words)])])
        described = text(2, name)
        if of.pid is not None:
            described = message(3, number(1, of.pid), text(6, name))
        return self._track(("guest", of), lambda: described)

    def _child(self, of: Origin, name: str) -> int:
        return self._track(("child", of, name), lambda: number(5, self._guest(of)) + text(2, name))

    def _thread(self, of: Origin, tid: int) -> int:
        if of.pid is None:  # Perfetto knows threads of processes only
            return self._child(of, f"thread {tid}")
        ids = message(4, number(1, of.pid), number(2, tid))
        return self._track(("thread", of, tid), lambda: number(5, self._guest(of)) + ids)

    def _device(self, of: Origin, device: int) -> int:
        return self._child(of, f"device {device:#x}")

    def _tracks_of(self, batch: Batch, of: Origin, devices: NDArray[np.uint64]) -> Int64Array:
        """Return the track of each record: its thread's, its device's, or the common one."""
        track = np.empty(len(batch), np.int64)
        threads = batch.tid >= 0
        track[threads] = _each(batch.tid[threads], lambda tid: self._thread(of, tid))
        known = ~threads & (devices > 0)
        track[known] = _each(devices[known], lambda one: self._device(of, one))
        rest = ~threads & (devices == 0)
        names = ("events", "log")
        track[rest] = _each(batch.event[rest] < 0, lambda line: self._child(of, names[line]))
        return track

    # Slices and rates

    def _slices(self, held: _Slices) -> None:
        """Append a slice for each pair."""
        start_ns, end_ns, ends = held.found.start_ns, held.found.end_ns, held.ends
        if not len(ends):
            return
        group = _each(_devices(ends), lambda device: self._group(held.pair, held.origin, device))
        lane = self._lanes.assign(group, start_ns, end_ns)
        track = _each(group << 32 | lane, lambda code: self._lane(code >> 32, code))
        packets = EventPackets(2 * len(ends))
        begins = np.arange(0, 2 * len(ends), 2)
        self._begin(packets, begins, _BEGIN, held.pair.start)
        for event, rows, values in ends.alike():
            self._begin(packets, begins[rows] + 1, _END)
            self._annotate(packets, ends, event, rows, values)
        self._events(packets, np.stack([start_ns, end_ns], 1).reshape(-1), np.repeat(track, 2))

    def _group(self, pair: SlicePair, of: Origin, device: int) -> int:
        """Return the number of the group of slices of a pair and device, which share lanes."""
        key = (pair, of, device)
        if key not in self._groups:
            self._groups[key] = len(self._groups)
            parent = self._device(of, device) if device else self._guest(of)
            name = text(2, readable(f"{pair.start} to {pair.end}"))
            self._described.append(number(5, parent) + name)
        return self._groups[key]

    def _lane(self, group: int, code: int) -> int:
        return self._track(("lane", code), lambda: self._described[group])

    def _count(self, batch: Batch, of: Origin) -> None:
        """Count the records of each event and interval, a run of adjacent rows at a time."""
        tracks, rows = [], []
        for event, places in batch.groups().items():
            if event >= 0:
                counter = self._rate(of, batch.names[event])
                tracks.append(np.full(len(places), counter, np.int64))
                rows.append(places)
        if rows:
            track = np.concatenate(tracks)
            span = batch.time_ns[np.concatenate(rows)] // RATE_NS
            self._rates.append(np.stack(_runs(track, span, np.ones(len(span), np.int64))))

    def _rate(self, of: Origin, name: str) -> int:
        return self._track(
            ("rate", of, name),
            lambda: (
                number(5, self._guest(of))
                + text(2, f"{readable(name)} rate")
                + message(8, text(6, "events/s"))
            ),
        )


def _text(value: str) -> bytes:
    """Return a string field; NUL is escaped, as trace processor ends a text there."""
    return text(_STRING, readable(value).replace("\0", "\\x00"))


def _each(values: NDArray[Any], number_of: Callable[[Any], int]) -> Int64Array:
    """Return ``number_of`` each value; call it once for each distinct one."""
    distinct, codes = np.unique(values, return_inverse=True)
    return np.array([number_of(value) for value in distinct.tolist()], np.int64)[codes]


def _devices(batch: Batch) -> NDArray[np.uint64]:
    """Return the address of each record's device, 0 if it has none."""
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


def _runs(track: Int64Array, span: Int64Array, count: Int64Array) -> list[Int64Array]:
    """Return the columns with adjacent rows of one track and span merged, counts added."""
    first = np.ones(len(track), np.bool_)
    first[1:] = (track[1:] != track[:-1]) | (span[1:] != span[:-1])
    starts = np.flatnonzero(first)
    return [track[starts], span[starts], np.add.reduceat(count, starts)]


def _summed(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (track, span, count) with equal pairs merged, and a zero after each run of spans."""
    track, span, count = runs[:, np.lexsort((runs[1], runs[0]))]
    track, span, count = _runs(track, span, count)
    last = np.ones(len(track), np.bool_)
    last[:-1] = (track[1:] != track[:-1]) | (span[1:] != span[:-1] + 1)
    zeros = [track[last], span[last] + 1, np.zeros_like(track[last])]
    every = np.concatenate([[track, span, count], zeros], axis=1)
    return every.take(np.lexsort((every[0], every[1])), axis=1)
