"""Reading a recording that ``qtctl record`` wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qtctl.backends.declared import read_declarations
from qtctl.backends.saved import CHUNK_BYTES, Fit, PlainFile, SavedPlain
from qtctl.model import Backend
from qtctl.recordings.chunks import (
    HEAD_BYTES,
    HEADER_BYTES,
    TRAILER_BYTES,
    ChunkKind,
    Head,
    check_header,
    content,
    end_chunk_bytes,
    find_head,
    is_recording,
    read_head,
)
from qtctl.recordings.store import DataReader, RecordedEvent, read_names
from qtctl.records.batch import Batch
from qtctl.records.counts import Declared
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss
from qtctl.shapes import Malformed, elements, member, members, parsed, whole
from qtctl.text.style import counted


def fit(path: Path, head: bytes | None) -> Fit:
    """Check the magic bytes."""
    return Fit.CERTAIN if head is not None and is_recording(head) else Fit.NO


def open_saved(path: Path, file: PlainFile | None, events_all: Path | None) -> RecordingFile:
    """Open a file of this kind; see :class:`RecordingFile`."""
    assert file is not None
    return RecordingFile(file, events_all)


class RecordingFile(SavedPlain):
    """A recording, whole or not; its declarations are its own, or those of ``events_all``.

    ``facts`` is its header: guest, backend, patterns. Opening reads the index, or else the heads of
    all chunks.

    Raises:
        QtctlError: it is cut off or damaged in its header, or of another version.
    """

    def __init__(self, file: PlainFile, events_all: Path | None) -> None:
        check_header(file.at(0, HEADER_BYTES), str(file.path))
        super().__init__(file)
        file.taken = HEADER_BYTES
        self._whole = False
        self._read = self._lost_rows = self._unread = 0
        self._first_unread: int | None = None
        self.facts: Mapping[str, Any] = {}
        self._sums: Any = None
        self.notes: list[str] = []
        events: list[RecordedEvent] = []
        indexed = self._indexed()
        for kind, raw in indexed or self._walked():
            if kind == ChunkKind.FACTS:
                self.facts = _object(raw)
                continue
            try:
                events += read_names(raw)[0]
            except Malformed:
                break  # those behind it are numbered on from it
        names = [event.name for event in events]
        first = {one.name: one.declaration for one in reversed(events) if one.name}
        declared = {name: one for name, one in first.items() if one is not None}
        others = {
            number: one.declaration
            for number, one in enumerate(events)
            if one.name and one.declaration != first[one.name]
        }
        if events_all is not None:
            others = {}
            declared = dict(read_declarations(events_all).by_name)
            self.declared = Declared(str(events_all), False, 0, 0)
        self.table = EventTable.build(filter(None, names), declared)
        summary = _summary(self.facts, self._sums, len(names))
        self.notes.append(summary if indexed else f"{summary}, without its end")
        numbers = [self.table.indices.get(name, -1) for name in names]
        self._data = DataReader(self.table, np.array(numbers, np.int32), others)
        self._backend = Backend.LOG
        self._cause = ""
        with contextlib.suppress(ValueError):
            self._backend = Backend(self.facts.get("backend", Backend.LOG))

    def _indexed(self) -> list[tuple[int, bytes]]:
        """Return the contents of FACTS and NAMES, by the index at the end; nothing without one."""
        size = end_chunk_bytes(self._file.at(self._file.size - TRAILER_BYTES, TRAILER_BYTES))
        index = _object(self._content(self._file.size - TRAILER_BYTES - size)[1]) if size else {}
        self._sums = index.get("summary")
        places = index.get("chunks")
        if not isinstance(places, list):
            return []
        found = [self._content(at) for at in places if isinstance(at, int)]
        return found if all(raw for _, raw in found) else []

    def _walked(self) -> list[tuple[int, bytes]]:
        """Return the contents of FACTS and NAMES, from the heads of all chunks."""
        found = []
        at = self._next_head(HEADER_BYTES)
        while at >= 0:
            head = self._head(at)
            if head is None:
                break  # the file changed meanwhile
            if head.kind in (ChunkKind.FACTS, ChunkKind.NAMES):
                found.append((head.kind, self._content(at)[1]))
            at = self._next_head(at + HEAD_BYTES + head.stored)
        return found

    def _content(self, at: int) -> tuple[int, bytes]:
        """Return the kind and content of the chunk at ``at``; no content if it is damaged."""
        head = self._head(at) if 0 <= at < self._file.size else None
        if head is None or at + HEAD_BYTES + head.stored > self._file.size:
            return 0, b""
        return head.kind, content(head, self._file.at(at + HEAD_BYTES, head.stored)) or b""

    def _head(self, at: int) -> Head | None:
        """Return the head at ``at``, if one stands there in the file as it was when opened."""
        return read_head(self._file.at(at, min(HEAD_BYTES, self._file.size - at)))

    def _next_head(self, at: int) -> int:
        """Return where the next head stands from ``at`` on, or -1."""
        while at < self._file.size:
            if self._head(at) is not None:
                return at
            data = self._file.at(at, min(CHUNK_BYTES, self._file.size - at))
            found = find_head(data, 0)
            if found >= 0:
                return at + found
            # A head may begin in these bytes and end in the next.
            at += max(1, len(data) - HEAD_BYTES + 1)
        return -1

    def read(self) -> list[Item] | None:
        """Read and decode one chunk; None at the end."""
        if self._ended:
            return None
        begin = self._file.taken
        head = self._head(begin) if begin < self._file.size else None
        if head is None:
            return self._skip()
        end = begin + HEAD_BYTES + head.stored
        if end > self._file.size:
            self._ended = True
            return self._lose(begin, self._file.size, head)
        raw = content(head, self._file.at(begin + HEAD_BYTES, head.stored))
        try:
            items = self._lose(begin, end, head) if raw is None else self._items(head, raw)
        except Malformed as malformed:
            self._cause = self._cause or str(malformed)
            items = self._lose(begin, end, head)
        self._file.taken = end
        return items

    def _items(self, head: Head, raw: bytes) -> list[Item]:
        """Decode a chunk.

        Raises:
            Malformed: the checksum is right, and the content makes no sense.
        """
        if head.kind == ChunkKind.FACTS:
            members(parsed(raw), "the header")
        if head.kind == ChunkKind.END:
            self._ended = self._whole = True
            rest = self._file.size - self._file.taken - HEAD_BYTES - head.stored
            if rest > TRAILER_BYTES:
                self._lose(self._file.size - rest, self._file.size, None)
            index = members(parsed(raw), "the end")
            for place in elements(member(index, "chunks"), "the index"):
                whole(place, "a place in the index", HEADER_BYTES, self._file.size)
        if head.kind == ChunkKind.NAMES and (problem := read_names(raw)[1]):
            raise Malformed(problem)
        if head.kind != ChunkKind.DATA:
            return []
        items = self._data.read(raw)
        self._read += sum(len(item) for item in items if isinstance(item, Batch))
        return items

    def _skip(self) -> list[Item]:
        """Skip to the next valid head, if there is one."""
        begin = self._file.taken
        found = self._next_head(begin)
        end = self._file.taken = self._file.size if found < 0 else found
        self._ended = found < 0
        return self._lose(begin, end, None) if end > begin else []

    def _lose(self, begin: int, end: int, head: Head | None) -> list[Item]:
        """Count bytes that could not be read; return the loss of the records in them."""
        if self._first_unread is None:
            self._first_unread = begin
        self._unread += end - begin
        if head is None:
            return [Loss(self._backend, None, 0)]
        self._lost_rows += head.rows
        return [Loss(self._backend, head.rows, 0)] if head.kind == ChunkKind.DATA else []

    @property
    def problem(self) -> str:
        """Which part could not be read; empty if none."""
        path, read = self._file.path, f"{self._read} records"
        if self._file.fault:
            return self._file.fault
        if self._first_unread is not None:
            cut = not self._whole and self._first_unread + self._unread == self._file.size
            rows = f", {self._lost_rows} records among them" if self._lost_rows else ""
            cause = f" ({self._cause})" if self._cause else ""
            return (
                f"{path} is {'cut off' if cut else 'damaged'} at byte {self._first_unread}{cause}: "
                f"{self._unread} of {self._file.size} bytes could not be read{rows}; {read} were"
            )
        if not self._whole:
            return (
                f"{path} was not ended (qtctl was killed, or still writes it): what came after "
                f"its last whole chunk is not there; {read} were read"
            )
        return ""


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        return members(parsed(raw), "the header")
    except Malformed:
        return {}  # reported where the chunk is read


def _summary(facts: Mapping[str, Any], sums: object, names: int) -> str:
    """Return a phrase on a recording's guest and size."""
    guest = facts.get("guest")
    events = counted(names, "event")
    if isinstance(sums, dict) and isinstance(shown := sums.get("shown"), int):
        events += f", {counted(shown, 'record')}"
    if isinstance(guests := facts.get("guests"), list):
        return f"recording of {counted(len(guests), 'guest')}, {events}"
    if not isinstance(guest, dict):
        return f"recording, {events}"
    name = f"{guest.get('name') or 'a guest'} (pid {guest.get('pid')}, QEMU {guest.get('version')})"
    return f"recording of {name}, {facts.get('backend')} backend, {events}"
