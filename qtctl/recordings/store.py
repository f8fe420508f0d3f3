"""Contents of recordings: events with their declarations, records as columns, notes. No files.

``chunks`` documents the frame. Notes are objects of schema ``qtctl/1``.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.table import recorded_arguments
from qtctl.model import Argument, Backend, Clock, Declaration, Kind
from qtctl.recordings.chunks import Chunk, ChunkKind
from qtctl.recordings.packing import pack, unpack
from qtctl.records.batch import ArgumentReader, Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item
from qtctl.records.origins import Origin
from qtctl.records.rows import Rows
from qtctl.records.schema import from_object, origin, to_object
from qtctl.shapes import (
    Malformed,
    elements,
    flag,
    member,
    members,
    pair,
    parsed,
    shown,
    text,
    whole,
)

CHUNK_ROWS = 1 << 16
CHUNK_BYTES = 4 << 20
"""Rows, or bytes before compression, at which a chunk of data is full."""
_ROW_BYTES = 28
"""Bytes of a row beside its arguments, before compression: event, time, thread, size."""
_MOST = (1 << 31) - 1
_NUMBERS = ("pid", "run")
_BAD = (ValueError, LookupError, TypeError, OverflowError, RecursionError, MemoryError)
"""What malformed content raises."""
_SIZE = struct.Struct("<I")


@dataclass(slots=True)
class NameBook:
    """The events of a recording, in the order of their numbers; it grows as they occur.

    An event that two guests declare differently has a number for each.
    """

    names: list[str] = field(default_factory=list)
    _declared: list[Any] = field(default_factory=list)
    _numbers: dict[tuple[object, ...], int] = field(default_factory=dict)
    _tables: dict[int, tuple[EventTable, NDArray[np.int32]]] = field(default_factory=dict)
    _written: int = 0

    def enter(self, name: str, declaration: Declaration | None) -> int:
        """Return the number of an event, a new one if it is new."""
        of = declaration
        known = (name,) if of is None else (name, of.format, of.arguments)
        number = self._numbers.setdefault(known, len(self.names))
        if number == len(self.names):
            self.names.append(name)
            written = declaration and [declaration.format, declaration.arguments]
            self._declared.append([name, written])
        return number

    def numbers(self, batch: Batch) -> NDArray[np.int32]:
        """Return the numbers of a batch's events, row by row; -1 for lines of text."""
        table, event = batch.table, batch.event
        if id(table) not in self._tables:
            self._tables[id(table)] = table, np.full(len(table) + 1, -1, np.int32)
        numbers = self._tables[id(table)][1]
        found = numbers[event]
        unknown = event[(found < 0) & (event >= 0)]
        if len(unknown):
            for one in np.unique(unknown).tolist():
                numbers[one] = self.enter(table.names[one], table.declaration(one))
            found = numbers[event]
        return found

    def news(self) -> list[Chunk]:
        """Return a chunk of the events that no chunk returned before has, if there are any."""
        fresh = self._declared[self._written :]
        self._written = len(self._declared)
        return [Chunk.of(ChunkKind.NAMES, fresh)] if fresh else []

    def all(self) -> Chunk:
        """Return a chunk of all events."""
        return Chunk.of(ChunkKind.NAMES, self._declared)


class RecordedEvent(NamedTuple):
    """An event of a NAMES chunk; ``name`` is empty where it is malformed."""

    name: str
    declaration: Declaration | None


def read_names(raw: bytes) -> tuple[list[RecordedEvent], str]:
    """Return the events of a NAMES chunk, and what is malformed in them, or an empty string.

    Raises:
        Malformed: it is no list of events, so that their numbers are not known.
    """
    events, problem = [], ""
    for entry in elements(parsed(raw), "the list of events"):
        name, declaration = "", None
        try:
            first, written = pair(entry, "an event")
            name = text(first, "the name of an event")
            declaration = None if written is None else _declaration(name, written)
        except Malformed as malformed:
            problem = problem or str(malformed)
        events.append(RecordedEvent(name, declaration))
    return events, problem


def _declaration(name: str, written: object) -> Declaration:
    printed, arguments = pair(written, f"the declaration of {name}")
    of = f"of {name}"
    read = tuple(_argument(one, of) for one in elements(arguments, f"the arguments {of}"))
    if len({one.name for one in read}) < len(read):
        raise Malformed(f"two arguments {of} have one name")
    return Declaration(name, read, text(printed, f"the format {of}"))


def _argument(written: object, of: str) -> Argument:
    if len(fields := elements(written, f"an argument {of}")) != len(Argument._fields):
        raise Malformed(f"an argument {of} is {shown(fields)}")
    name, ctype, kind, bits, signed = fields
    if kind not in list(Kind):
        raise Malformed(f"an argument {of} is of the kind {shown(kind)}")
    return Argument(
        text(name, f"the name of an argument {of}"),
        text(ctype, f"the type of an argument {of}"),
        Kind(kind),
        whole(bits, f"the width of an argument {of}", 1, 64),
        flag(signed, f"the sign of an argument {of}"),
    )


_Facts: TypeAlias = tuple[tuple[str, Any], ...]


class DataMaker:
    """Collects items, in order, into DATA chunks of about ``chunk_bytes`` unpacked."""

    def __init__(self, names: NameBook, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._names = names
        self._chunk_bytes = chunk_bytes
        self._items: list[tuple[_Facts, list[Rows]] | dict[str, Any]] = []
        self._bytes = 0
        self.rows = 0

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be made a chunk."""
        return not self._items

    @property
    def full(self) -> bool:
        """Whether it is time for :meth:`chunk`."""
        return self.rows >= CHUNK_ROWS or self._bytes >= self._chunk_bytes

    def parts(self, item: Item) -> Iterator[Item]:
        """Yield an item; a batch in parts that each fill a chunk at most about twice."""
        if not isinstance(item, Batch) or not len(item):
            yield item
            return
        size = int((item.stop - item.begin).sum()) + _ROW_BYTES * len(item)
        count = min(len(item), -(-size // self._chunk_bytes))
        for rows in np.array_split(np.arange(len(item)), count):
            yield item if count == 1 else item.select(rows)

    def add(self, item: Item) -> None:
        """Add a loss, news, or the records of a batch; copies the bytes that it needs."""
        if not isinstance(item, Batch):
            self._items.append(to_object(item))
            return
        edges = np.flatnonzero(np.diff(item.origin)) + 1
        for begin, end in pairwise([0, *edges.tolist(), len(item)]):
            if begin < end:
                origin = item.origins[item.origin[begin]]
                self._add(item.select(slice(begin, end)) if len(edges) else item, origin)

    def _add(self, batch: Batch, origin: Origin) -> None:
        begin = np.where(batch.event < 0, batch.start, batch.begin)
        rows = Rows.copied(
            self._names.numbers(batch),
            batch.time_ns,
            batch.tid,
            batch.arrived,
            np.zeros(len(batch), np.bool_) if batch.cut is None else batch.cut,
            begin,
            batch.stop - begin,
            batch.data,
        )
        facts = _facts(batch, origin)
        last = self._items[-1] if self._items else None
        if isinstance(last, tuple) and last[0] == facts:
            last[1].append(rows)
        else:
            self._items.append((facts, [rows]))
        self.rows += len(rows)
        self._bytes += len(rows.data) + _ROW_BYTES * len(rows)

    def chunk(self) -> Chunk:
        """Make a chunk of the items so far, and start a new one."""
        index: list[Any] = []
        pieces: list[bytes] = []
        for item in self._items:
            if isinstance(item, tuple):
                facts, piece = pack(Rows.joined(item[1]))
                index.append({**dict(item[0]), **facts})
                pieces.append(piece)
            else:
                index.append(item)
        text = json.dumps(index).encode()
        raw = b"".join((_SIZE.pack(len(text)), text, *pieces))
        made = Chunk.pack(ChunkKind.DATA, raw, self.rows)
        self._items, self._bytes, self.rows = [], 0, 0
        return made


def _facts(batch: Batch, one: Origin) -> _Facts:
    """Return the properties that all records of a batch share, which are of one origin."""
    facts: dict[str, Any] = {
        "type": "rows",
        "backend": batch.backend,
        "clock": batch.clock,
        **origin(one),
    }
    facts |= {"arguments": "text"} if batch.reader is None else batch.reader.stored()
    return tuple(facts.items())


class DataReader:
    """Reads DATA chunks into batches of ``table``.

    ``numbers`` maps the recording's number of an event to that of ``table``; -1 where its name is
    malformed. ``others`` are the declarations of numbers that differ from that of the table: rows
    with one of them, and later ones of their guest, have a table of their own.
    """

    def __init__(
        self,
        table: EventTable,
        numbers: NDArray[np.int32],
        others: Mapping[int, Declaration | None] = MappingProxyType({}),
    ) -> None:
        self._table = table
        self._others = others
        self._of_guest: dict[Origin, dict[str, int]] = {}
        self._tables: dict[tuple[tuple[str, int], ...], EventTable] = {}
        # Also for lines of text, which have the number -1, and for numbers without a name.
        self._numbers = np.append(numbers, np.int32(-1))
        self._readers: dict[tuple[object, ...], ArgumentReader] = {}

    def read(self, raw: bytes) -> list[Item]:
        """Return the items of a chunk in order.

        An event of an unknown number is a line of text; a note of an unknown type is skipped.

        Raises:
            Malformed: the chunk makes no sense.
        """
        items: list[Item] = []
        try:
            (size,) = _SIZE.unpack_from(raw)
            at = _SIZE.size + size
            for entry in elements(parsed(raw[_SIZE.size : at]), "the index of records"):
                one = members(entry, "an entry of the index")
                if member(one, "type") == "rows":
                    rows, at = unpack(one, raw, at)
                    items.append(self._batch(one, rows))
                elif (item := from_object(one)) is not None:
                    items.append(item)
        except (*_BAD, struct.error) as error:
            raise error if isinstance(error, Malformed) else Malformed(_words(error)) from None
        return items

    def _batch(self, facts: Mapping[str, Any], rows: Rows) -> Batch:
        origin = _read_origin(facts)
        event = self._numbers[np.minimum(rows.event, len(self._numbers) - 1)]
        table = self._table_of(origin.process, rows.event, event) if self._others else self._table
        return Batch(
            table=table,
            data=rows.data,
            event=event,
            time_ns=rows.time_ns,
            tid=rows.tid,
            start=rows.begin,
            begin=rows.begin,
            stop=rows.begin + rows.size,
            arrived=rows.arrived,
            cut=rows.cut if rows.cut.any() else None,
            origin=np.zeros(len(rows), np.int32),
            origins=(origin,),
            clock=Clock(facts["clock"]),
            backend=Backend(facts["backend"]),
            reader=self._reader(facts, table),
        )

    def _table_of(
        self, guest: Origin, numbers: NDArray[np.int32], events: NDArray[np.int32]
    ) -> EventTable:
        """Return the table with the declarations of a guest's records."""
        own = self._of_guest.setdefault(guest, {})
        used, first = np.unique(numbers, return_index=True)
        for number, event in zip(used.tolist(), events[first].tolist(), strict=True):
            if event >= 0 and number in self._others:
                own[self._table.names[event]] = number
            elif event >= 0:
                own.pop(self._table.names[event], None)
        key = tuple(sorted(own.items()))
        if key and key not in self._tables:
            changed = {name: self._others[number] for name, number in key}
            declared = {**self._table.declarations, **changed}
            known = {name: one for name, one in declared.items() if one is not None}
            self._tables[key] = EventTable.build(self._table.names, known)
        return self._tables[key] if key else self._table

    def _reader(self, facts: Mapping[str, Any], table: EventTable) -> ArgumentReader | None:
        """Return the reader of a run of rows, made once for all that have the same facts."""
        arguments = facts["arguments"]
        if arguments == "text":
            return None
        own = ("mark", "layout", "places", "others")
        key = id(table), arguments, *(str(facts.get(name)) for name in own)
        if key not in self._readers:
            self._readers[key] = recorded_arguments(arguments).reader(table, facts)
        return self._readers[key]


def _read_origin(facts: Mapping[str, Any]) -> Origin:
    """Return where records come from; ``pid`` is there, the rest if it is known.

    Raises:
        Malformed: it makes no sense.
        KeyError: there is no ``pid``.
    """
    known = {"pid": facts["pid"], **{name: facts.get(name) for name in Origin._fields[1:]}}
    for name, value in known.items():
        if value is not None:
            of = f"the {name} of records"
            known[name] = whole(value, of, 0, _MOST) if name in _NUMBERS else text(value, of)
    return Origin(**known)


def _words(error: BaseException) -> str:
    """Return what an exception says of a chunk of data, in words."""
    if isinstance(error, KeyError):
        return f"{error} is missing in the index of records"
    return f"the index of records makes no sense ({type(error).__name__}: {error})"
