"""A trace's metadata, compiled for reading its packets."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.ust import kernel
from qtctl.backends.ust.arguments import CtfArguments
from qtctl.backends.ust.ctf import (
    PROVIDER,
    CtfNumber,
    CtfType,
    CtfVariant,
    StreamClass,
    TraceClock,
    TraceMetadata,
    members,
    own_events,
)
from qtctl.backends.ust.program import CLOCK, EVENT, PROCESS, THREAD, StepProgram, StepRange
from qtctl.records.columns import Int64Array
from qtctl.records.event_table import EventTable

MAGIC = 0xC1FC1FC1
_MOST_EVENTS = 1 << 17
_MOST_NUMBER = (1 << 63) - 1
_PACKET = (
    "stream_id", "stream_instance_id", "content_size", "packet_size", "timestamp_begin",
    "timestamp_end", "packet_seq_num", "events_discarded",
)  # fmt: skip
_FIRST = 4
_HEAD = {name: _FIRST + number for number, name in enumerate(_PACKET)}
"""Registers of what a packet begins with."""
_CONTEXTS = {"_vtid": THREAD, "vtid": THREAD, "_vpid": PROCESS, "vpid": PROCESS}


class PacketHead(NamedTuple):
    """What a packet begins with; -1 for what it does not have.

    ``size`` and ``content`` are in bytes and bits; ``records`` is the bit of the first record,
    from the beginning of the packet. Times are in cycles.
    """

    stream: int
    instance: int
    content: int
    size: int
    first: int
    last: int
    sequence: int
    discarded: int
    records: int


class StreamLayout(NamedTuple):
    """How the records of a stream class are read; see ``kernel.split_packet``."""

    packet: StepRange
    header: int
    classes: Int64Array
    clock: TraceClock

    @property
    def useful(self) -> bool:
        """Whether there are events of QEMU's in it."""
        return bool((self.classes[::5] >= 0).any())


class TraceLayout:
    """How the packets of a trace are read, with the events of QEMU numbered as in ``table``.

    ``reader`` reads arguments, also those of other traces. Events ``without`` are passed over, as
    those of other providers are. ``mark`` is what each packet begins with.

    Raises:
        ValueError: the metadata makes no sense, or packets have no sizes.
    """

    def __init__(
        self,
        trace: TraceMetadata,
        table: EventTable,
        reader: CtfArguments | None = None,
        without: Collection[str] = (),
    ) -> None:
        self.trace = trace
        self.table = table
        self.reader = reader or CtfArguments.of(table, own_events(trace), big=trace.big)
        self._without = without
        program = StepProgram()
        self._header = program.add((trace.header, _HEAD), clocked=False)
        self.streams = {
            number: self._stream(program, number, one) for number, one in trace.streams.items()
        }
        self.program = program.steps()
        names = [name for name, _ in members(trace.header)]
        self.mark = b""
        if names[:1] == ["magic"]:
            self.mark = struct.pack(">I" if trace.big else "<I", MAGIC)
            self.mark += trace.uuid if names[1:2] == ["uuid"] else b""
        process = trace.environment.get("vpid")
        self.process = process if isinstance(process, int) and 0 < process < 1 << 31 else None

    def _stream(self, program: StepProgram, number: int, one: StreamClass) -> StreamLayout:
        if not {"content_size", "packet_size"} <= {name for name, _ in members(one.packet)}:
            raise ValueError("packets without sizes")
        packet = program.add((one.packet, _HEAD), clocked=False)
        header = program.add((one.header, {"id": EVENT}), (one.context, _CONTEXTS)).first
        events = [event for event in self.trace.events if event.stream == number]
        count = 1 + max((event.number for event in events), default=-1)
        if count > _MOST_EVENTS or min((event.number for event in events), default=0) < 0:
            raise ValueError(f"an event of the number {count - 1}")
        classes = np.full((count, 5), -2, np.int64)
        for event in events:
            index = -1
            if event.name.startswith(PROVIDER) and event.name not in self._without:
                index = self.table.indices.get(event.name.removeprefix(PROVIDER), -1)
            own = program.add((event.context, {})).first if event.context else -1
            fields = program.add((event.fields, {}))
            classes[event.number] = index, own, fields.align - 1, fields.bits, fields.first
        return StreamLayout(packet, header, classes.reshape(-1), self._clock(one))

    def _clock(self, one: StreamClass) -> TraceClock:
        """Return the clock of a stream's records."""
        names = _clocks(one.header) or _clocks(one.packet)
        known: Mapping[str, TraceClock] = self.trace.clocks
        return known.get(names[0], TraceClock()) if names else TraceClock()

    def read_head(self, data: bytes, at: int, registers: NDArray[np.int64]) -> PacketHead | None:
        """Return what the packet at byte ``at`` begins with; None if data ends in it.

        Raises:
            ValueError: no packet begins there.
        """
        if not data.startswith(self.mark[: len(data) - at], at):
            raise ValueError("no packet")
        registers[:] = -1
        registers[CLOCK] = 0
        program, known = self.program.data, registers.data
        base = at * 8
        place = kernel.read_registers(data, base, program, self._header.first, base, known)
        if place < 0:
            return None
        number = max(0, int(registers[_HEAD["stream_id"]]))
        stream = self.streams.get(number)
        if stream is None:
            raise ValueError("a packet of no stream")
        place = kernel.read_registers(data, base, program, stream.packet.first, place, known)
        if place < 0:
            return None
        _, instance, content, size, first, last, sequence, discarded = registers[
            _FIRST : _FIRST + len(_PACKET)
        ].tolist()
        records = place - base
        if size <= 0 or size % 8 or not records <= content <= size:
            raise ValueError("a packet of impossible size")
        return PacketHead(
            number, instance, content, size // 8, first, last, sequence, discarded, records
        )


def _clocks(kind: CtfType | None) -> list[str]:
    """Return the names of the clocks whose values a type holds."""
    if isinstance(kind, CtfNumber):
        return [kind.clock] if kind.clock else []
    inner = kind.options if isinstance(kind, CtfVariant) else members(kind)
    return [name for _, one in inner for name in _clocks(one)]
