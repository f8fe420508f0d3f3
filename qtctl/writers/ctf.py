r"""Write a folder in the Common Trace Format (CTF) 1.8: ``metadata``, and a file per stream.

Source: the CTF 1.8.3 specification; checked with babeltrace2 2.0.4. All fields are aligned to
bytes, in the byte order of this machine. Field names have a leading underscore, so that none is a
keyword of the metadata language; readers remove it.

Texts keep bytes that are not UTF-8; a NUL, which ends a text in CTF, is written as ``\x00``. A
record whose arguments could not be parsed is an event of the same name with one field ``raw``; a
line that is not an event is ``qtctl_line``, a loss or note ``qtctl_note``.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Column, Int64Array, StringColumn
from qtctl.records.items import Item
from qtctl.records.origins import Origin
from qtctl.records.printf import hex_arguments
from qtctl.records.schema import to_object
from qtctl.writers.base import Source

_Fields: TypeAlias = tuple[tuple[str, str], ...]
"""Name and type (``text``, ``signed``, ``unsigned``, ``address``) of each field of an event."""
_Bytes = NDArray[np.uint8]
_Packet: TypeAlias = tuple[int, bytes]
"""The number of a stream, and the bytes to append to its file."""

_ODD = re.compile(r"\W", re.ASCII)
_MAGIC = 0xC1FC1FC1
_PACKET = struct.Struct("=IIQQQQQQq")
_EVENT = struct.Struct("=IQiB")
_METADATA = """\
/* CTF 1.8 */
typealias integer {{ size = 8; align = 8; signed = false; }} := uint8_t;
typealias integer {{ size = 32; align = 8; signed = false; }} := uint32_t;
typealias integer {{ size = 32; align = 8; signed = true; }} := int32_t;
typealias integer {{ size = 64; align = 8; signed = false; }} := unsigned_t;
typealias integer {{ size = 64; align = 8; signed = true; }} := signed_t;
typealias integer {{ size = 64; align = 8; signed = false; base = 16; }} := address_t;
typealias string {{ encoding = UTF8; }} := text_t;

trace {{
    major = 1;
    minor = 8;
    byte_order = {order};
    packet.header := struct {{ uint32_t magic; uint32_t stream_id; }};
}};

env {{ tracer_name = "qtctl"; domain = "qemu"; }};

clock {{ name = "{clock}"; freq = 1000000000; offset = 0; absolute = {absolute}; }};
typealias integer {{ size = 64; align = 8; signed = false; map = clock.{clock}.value; }} := time_t;

stream {{
    id = 0;
    packet.context := struct {{
        time_t timestamp_begin;
        time_t timestamp_end;
        unsigned_t content_size;
        unsigned_t packet_size;
        unsigned_t packet_seq_num;
        unsigned_t events_discarded;
        signed_t _pid;
        text_t _backend;
        text_t _guest;
    }};
    event.header := struct {{ uint32_t id; time_t timestamp; }};
    event.context := struct {{ int32_t _tid; uint8_t _arrived; }};
}};
"""


def open_folder(create: Callable[[], Path], source: Source) -> CtfExport:
    """Return a writer of CTF 1.8 into a folder."""
    return CtfExport(create())


class CtfExport:
    """Writes CTF 1.8 into ``folder``, which exists and is empty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trace = _CtfTrace()

    def write(self, item: Item) -> None:
        """Write the next batch, loss or note."""
        if not isinstance(item, Batch):
            packets = [self._trace.encode_note(to_object(item))]
        else:
            parts = item.by_process() if len(item) else ()
            packets = [self._trace.encode(part, origin) for origin, part in parts]
        # Opened for each packet: times that often go back make many streams.
        for stream, data in packets:
            with (self._folder / f"stream_{stream}").open("ab") as file:
                file.write(data)

    def finish(self) -> None:
        """Write the metadata."""
        (self._folder / "metadata").write_text(self._trace.metadata(), encoding="utf-8")

    def close(self) -> None:
        """Do nothing: each file is closed after a packet."""


@dataclass(slots=True)
class _PacketStream:
    """A stream of packets whose times never go back; readers require that."""

    last_ns: int = 0
    packets: int = 0
    lost: int = 0


class _Texts:
    """A column of texts as NUL-terminated bytes."""

    def __init__(self, column: StringColumn) -> None:
        encoded = [_terminated(text) for text in column.texts]
        lengths = np.array([len(one) for one in encoded], np.int64)
        starts = np.cumsum(lengths) - lengths
        self._data = np.frombuffer(b"".join(encoded), np.uint8)
        self._starts = starts[column.codes]
        self.sizes: Int64Array = lengths[column.codes]

    def put(self, out: _Bytes, at: Int64Array) -> Int64Array:
        """Write text i to out[at[i]:]; return where each ends."""
        before = np.cumsum(self.sizes) - self.sizes
        within = np.arange(int(self.sizes.sum())) - np.repeat(before, self.sizes)
        places = np.repeat(at, self.sizes) + within
        out[places] = self._data[np.repeat(self._starts, self.sizes) + within]
        return at + self.sizes


def _terminated(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape").replace(b"\0", b"\\x00") + b"\0"


def _put(out: _Bytes, at: Int64Array, values: NDArray[Any]) -> Int64Array:
    """Write number i to out[at[i]:]; return where each ends."""
    size = values.dtype.itemsize
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(-1, size)
    out[at[:, None] + np.arange(size)] = raw
    return at + size


@dataclass(frozen=True, slots=True)
class _EventRows:
    """Rows of one event type, and a column for each of its fields."""

    rows: Int64Array
    kind: int
    values: Sequence[NDArray[Any] | _Texts]


class _CtfTrace:
    """Encodes the packets of one trace, and at the end its :meth:`metadata`."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, _Fields], int] = {}
        self._streams: list[_PacketStream] = []
        self._clock: Clock | None = None

    def encode(self, batch: Batch, origin: Origin) -> _Packet:
        """Return a packet with the records of a process, at least one, sorted by time."""
        self._clock = self._clock or batch.clock
        if (np.diff(batch.time_ns) < 0).any():
            batch = batch.select(np.argsort(batch.time_ns, kind="stable"))
        times = np.maximum(batch.time_ns, 0)
        parts = list(self._parts(batch))
        sizes = np.full(len(batch), _EVENT.size, np.int64)
        for part in parts:
            for value in part.values:
                sizes[part.rows] += value.sizes if isinstance(value, _Texts) else 8
        ends = np.cumsum(sizes)
        out = np.empty(int(ends[-1]), np.uint8)
        for part in parts:
            at = (ends - sizes)[part.rows]
            at = _put(out, at, np.full(len(at), part.kind, np.uint32))
            at = _put(out, at, times[part.rows])
            at = _put(out, at, batch.tid[part.rows])
            at = _put(out, at, batch.arrived[part.rows])
            for value in part.values:
                at = value.put(out, at) if isinstance(value, _Texts) else _put(out, at, value)
        span = int(times[0]), int(times[-1])
        return self._packet(out.tobytes(), *span, origin, batch.backend, 0)

    def encode_note(self, note: Mapping[str, Any]) -> _Packet:
        """Return a packet with a loss or note, given as an object of schema ``qtctl/1``."""
        now = max(0, int(note["time_ns"]))
        lost = note["count"] if note["type"] == "loss" else 0
        kind = self._kind("qtctl_note", (("note", "text"),))
        event = _EVENT.pack(kind, now, -1, False) + _terminated(json.dumps(note))
        return self._packet(event, now, now, Origin(), note.get("backend", ""), lost or 0)

    def metadata(self) -> str:
        """Return the metadata of all packets so far, in CTF's description language (TSDL)."""
        monotonic = self._clock is Clock.MONOTONIC
        pieces = [
            _METADATA.format(
                order="le" if sys.byteorder == "little" else "be",
                clock=self._clock or Clock.REALTIME,
                absolute="FALSE" if monotonic else "TRUE",
            )
        ]
        for (name, fields), kind in self._kinds.items():
            # Names in a recording may contain any characters.
            body = " ".join(f"{type_}_t _{_ODD.sub('_', one)};" for one, type_ in fields)
            pieces.append(
                f'event {{ name = "{_ODD.sub("_", name)}"; id = {kind}; stream_id = 0; '
                f"fields := struct {{ {body} }}; }};\n"
            )
        return "".join(pieces)

    def _packet(
        self, events: bytes, first_ns: int, last_ns: int, origin: Origin, backend: str, lost: int
    ) -> _Packet:
        number = next((n for n, one in enumerate(self._streams) if one.last_ns <= first_ns), None)
        if number is None:
            number = len(self._streams)
            self._streams.append(_PacketStream())
        stream = self._streams[number]
        stream.last_ns, stream.lost = last_ns, stream.lost + lost
        name = _terminated(backend) + _terminated(origin._replace(pid=None).words)
        bits = 8 * (_PACKET.size + len(name) + len(events))
        counts = (stream.packets, stream.lost, -1 if origin.pid is None else origin.pid)
        head = _PACKET.pack(_MAGIC, 0, first_ns, last_ns, bits, bits, *counts)
        stream.packets += 1
        return number, head + name + events

    def _kind(self, name: str, fields: _Fields) -> int:
        return self._kinds.setdefault((name, fields), len(self._kinds))

    def _parts(self, batch: Batch) -> Iterator[_EventRows]:
        """Yield the rows of each event type, those with raw text apart."""
        for event, rows in batch.groups().items():
            if event < 0:
                kind = self._kind("qtctl_line", (("line", "text"),))
                yield _EventRows(rows, kind, [_Texts(batch.texts(rows))])
                continue
            name = batch.names[event]
            columns = batch.arguments(event)
            good = columns.ok
            if good.any():
                declared = batch.table.declaration(event)
                in_hex = hex_arguments(declared) if declared else frozenset()
                found = columns.values.items()
                fields = tuple((key, _type(column, key in in_hex)) for key, column in found)
                values = [_select(column, good) for column in columns.values.values()]
                yield _EventRows(rows[good], self._kind(name, fields), values)
            if not good.all():
                kind = self._kind(name, (("raw", "text"),))
                yield _EventRows(rows[~good], kind, [_Texts(batch.raws(rows[~good]))])


def _type(column: Column, in_hex: bool) -> str:
    if isinstance(column, StringColumn):
        return "text"
    if column.dtype.kind == "i":
        return "signed"
    return "address" if in_hex else "unsigned"


def _select(column: Column, rows: BoolArray) -> NDArray[Any] | _Texts:
    if isinstance(column, StringColumn):
        return _Texts(column.take(rows))
    return column[rows]
