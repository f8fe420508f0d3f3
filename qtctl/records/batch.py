"""A batch: consecutive records in columns. Decoders return batches, and writers accept them.

Filters and counters work on the columns; Python objects are only made for records that are
printed. Arguments are parsed lazily, all rows of an event at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Backend, Clock
from qtctl.records.columns import (
    BoolArray,
    Column,
    Columns,
    Int64Array,
    Record,
    StringColumn,
    rows_by_key,
)
from qtctl.records.event_table import EventTable
from qtctl.records.origins import Origin
from qtctl.records.rows import Rows

__all__ = ["ArgumentReader", "Batch", "Column", "Columns", "EventTable", "Record", "StringColumn"]


class ArgumentReader(Protocol):
    """Parses the arguments of rows of one event; ``EventTable`` does so for printed text.

    ``binary``: the bytes that it reads are not text.
    """

    @property
    def binary(self) -> bool:
        """See the class."""
        ...

    def stored(self) -> dict[str, str]:
        """Return what a recording needs to rebuild the reader; ``arguments`` names its form."""
        ...

    def read(
        self, data: bytes, event: int, begin: Int64Array, stop: Int64Array
    ) -> tuple[dict[str, Column], BoolArray]:
        """Parse data[begin[i]:stop[i]]; return a column per argument, and a mask of parsed rows."""
        ...

    def cut(self, data: bytes, event: int, begin: Int64Array, stop: Int64Array) -> BoolArray:
        """Return which of the rows are as declared, but for a text that may be cut."""
        ...


_COLUMNS = ("event", "time_ns", "tid", "start", "begin", "stop", "arrived", "origin", "cut")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Columns of equal length, one row per record, in the order of the stream.

    ``event``: int32, index in ``table.names``; -1 for a line of text. ``time_ns``: int64, ns.
    ``tid``: int32; -1 if unknown. ``start``, ``begin``, ``stop``: int64 offsets in ``data`` of the
    record, its arguments, and its end. ``arrived``: a mask of rows whose ``time_ns`` is the time at
    which qtctl read them (Clock.ARRIVAL); the others are on ``clock``. ``origin``: int32, index in
    ``origins`` of where the record comes from. ``cut``: a mask of rows whose arguments are not
    whole, or may not be, and stay raw, beside those of which ``reader`` finds that; None if there
    are none. Raw arguments of ``binary`` data are printed in
    hex.
    """

    table: EventTable
    data: bytes
    event: NDArray[np.int32]
    time_ns: NDArray[np.int64]
    tid: NDArray[np.int32]
    start: Int64Array
    begin: Int64Array
    stop: Int64Array
    arrived: BoolArray
    origin: NDArray[np.int32]
    origins: Sequence[Origin]
    clock: Clock
    backend: Backend
    reader: ArgumentReader | None = None
    cut: BoolArray | None = None
    _cache: dict[int, Columns] = field(default_factory=dict, init=False, repr=False)
    _known: tuple[Mapping[int, Columns], Int64Array] | None = field(default=None, repr=False)
    _groups: dict[int, Int64Array] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.event)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of events; ``event`` holds indices in it."""
        return self.table.names

    def backend_of(self, event: int) -> Backend:
        """Return where an event's records are from: the kernel's own come through its buffer."""
        return Backend.FTRACE if event >= 0 and ":" in self.names[event] else self.backend

    @property
    def binary(self) -> bool:
        """Whether the arguments are not text."""
        return self.reader is not None and self.reader.binary

    @property
    def pid(self) -> int | None:
        """The process id of the guest, the same for all rows; None if unknown, or not the same."""
        pids = {one.pid for one in self.processes()[1]}
        return pids.pop() if len(pids) == 1 else None

    def processes(self) -> tuple[NDArray[np.int32], Sequence[Origin]]:
        """Return the index of each row's process in a sequence of those that occur, and that."""
        found: dict[Origin, int] = {}
        codes = np.zeros(len(self.origins), np.int32)
        for number in np.flatnonzero(np.bincount(self.origin)).tolist():
            codes[number] = found.setdefault(self.origins[number].process, len(found))
        return codes[self.origin], list(found)

    def by_process(self) -> Iterator[tuple[Origin, Batch]]:
        """Yield each process whose records occur, and a batch of them, in order."""
        codes, processes = self.processes()
        for code, process in enumerate(processes):
            yield process, self.select(codes == code) if len(processes) > 1 else self

    def by_guest(self) -> Iterator[tuple[str | None, Batch]]:
        """Yield each guest whose records occur, and a batch of them, in order."""
        guests = list(dict.fromkeys(one.guest for one in self.origins))
        if len(guests) == 1:
            yield guests[0], self
            return
        codes = np.array([guests.index(one.guest) for one in self.origins], np.int32)[self.origin]
        for code in np.flatnonzero(np.bincount(codes)).tolist():
            yield guests[code], self.select(codes == code)

    def groups(self) -> dict[int, Int64Array]:
        """Map each event that occurs (-1: text lines) to its rows, in order. Do not modify it."""
        if not self._groups and len(self):
            order, bounds = rows_by_key(self.event)
            for group in np.flatnonzero(np.diff(bounds)).tolist():
                self._groups[group - 1] = order[bounds[group] : bounds[group + 1]]
        return self._groups

    def arguments(self, event: int) -> Columns:
        """Parse the arguments of all rows of an event, once; no rows if it does not occur."""
        if event not in self._cache:
            rows = self.groups().get(event, np.empty(0, np.int64))
            values, ok = self._read(event, rows)
            if self.cut is not None:
                ok = ok & ~self.cut[rows]
                for column in values.values():
                    if not isinstance(column, StringColumn):
                        column[~ok] = 0
            self._cache[event] = Columns(rows, values, ok)
        return self._cache[event]

    def _read(self, event: int, rows: Int64Array) -> tuple[Mapping[str, Column], BoolArray]:
        """Parse arguments, or take them from the batch from which these rows were selected."""
        if self._known is not None and event in self._known[0]:
            known = self._known[0][event]
            places = np.searchsorted(known.rows, self._known[1][rows])
            return {k: _take(v, places) for k, v in known.values.items()}, known.ok[places]
        reader = self.table if self.reader is None else self.reader
        return reader.read(self.data, event, self.begin[rows], self.stop[rows])

    def alike(self) -> Iterator[tuple[int, Int64Array, Mapping[str, Column] | None]]:
        """Yield (event, rows, columns by argument) for rows of one event with equal columns.

        The columns are None for rows whose arguments could not be parsed, of which all are cut or
        none, and for lines of text (event -1).
        """
        for event, rows in self.groups().items():
            if event < 0:
                yield event, rows, None
                continue
            columns = self.arguments(event)
            if columns.ok.all():
                yield event, rows, columns.values
                continue
            good = np.flatnonzero(columns.ok)
            if len(good):
                yield event, rows[good], {k: _take(v, good) for k, v in columns.values.items()}
            raw = rows[~columns.ok]
            cut = self._cut(event, raw)
            for part in (raw[~cut], raw[cut]):
                if len(part):
                    yield event, part, None

    def first(self, count: int) -> Batch:
        """Return a batch of the first ``count`` rows, or this one if it has no more."""
        return self if count >= len(self) else self.select(np.arange(count))

    def select(self, rows: NDArray[Any] | slice) -> Batch:
        """Return a batch of the rows that a mask, indices in any order, or a slice selects."""
        columns = {n: c[rows] for n in _COLUMNS if (c := getattr(self, n)) is not None}
        known = self._known
        if self._cache:
            known = self._cache, np.arange(len(self))[rows]
        elif known is not None:
            known = known[0], known[1][rows]
        return replace(self, **columns, _known=known)

    def is_cut(self, row: int) -> bool:
        """Return whether the arguments of a row are not whole."""
        return bool(self._cut(int(self.event[row]), np.array([row]))[0])

    def _cut(self, event: int, rows: Int64Array) -> BoolArray:
        """Return which rows of an event have arguments that are not whole."""
        cut = np.zeros(len(rows), np.bool_) if self.cut is None else self.cut[rows]
        if self.reader is not None:
            cut = cut | self.reader.cut(self.data, event, self.begin[rows], self.stop[rows])
        return cut

    def text(self, row: int) -> str:
        """Return the complete line of a row; bytes that are not UTF-8 as surrogate escapes."""
        return self._decode(int(self.start[row]), int(self.stop[row]))

    def raw(self, row: int) -> str:
        """Return the raw text of a row's arguments."""
        return self._decode(int(self.begin[row]), int(self.stop[row]))

    def texts(self, rows: NDArray[Any]) -> StringColumn:
        """Return the complete lines of ``rows`` (indices), like :meth:`text`."""
        return self._column(self.start[rows], self.stop[rows])

    def raws(self, rows: NDArray[Any]) -> StringColumn:
        """Return the raw text of the arguments of ``rows`` (indices), like :meth:`raw`."""
        return self._column(self.begin[rows], self.stop[rows])

    def _column(self, starts: Int64Array, stops: Int64Array) -> StringColumn:
        found = StringColumn.from_spans(self.data, starts, stops)
        if not self.binary:
            return found
        shown = (text.encode("utf-8", "surrogateescape").hex() for text in found.texts)
        return StringColumn(found.codes, tuple(shown))

    def _decode(self, begin: int, stop: int) -> str:
        data = self.data[begin:stop]
        return data.hex() if self.binary else str(data, "utf-8", "surrogateescape")

    def records(self, rows: NDArray[Any] | None = None) -> Iterator[Record]:
        """Yield a Record per row, in order: all rows, or those of ``rows`` (a mask or indices)."""
        if rows is not None:
            yield from self.select(rows).records()
            return
        times, tids, late = self.time_ns.tolist(), self.tid.tolist(), self.arrived.tolist()
        made: list[Any] = [None] * len(self)
        clock, origin = self.clock, self.origin.tolist()
        for event, places in self.groups().items():
            name, backend = "" if event < 0 else self.names[event], self.backend_of(event)
            for row, args in zip(places.tolist(), self._dicts(event, len(places)), strict=True):
                record = Record(
                    name,
                    args or {},
                    times[row],
                    Clock.ARRIVAL if late[row] else clock,
                    None if (tid := tids[row]) < 0 else tid,
                    backend,
                    self.origins[origin[row]],
                )
                if event < 0:
                    record.line = self.text(row)
                elif args is None:
                    record.raw, record.cut = self.raw(row), self.is_cut(row)
                made[row] = record
        yield from made

    def _dicts(self, event: int, size: int) -> list[dict[str, int | str | None] | None]:
        """Return the arguments of an event's rows as dicts; None where they could not be parsed."""
        if event < 0:
            return [None] * size
        columns = self.arguments(event)
        lists = [column.tolist() for column in columns.values.values()]
        rows = zip(*lists, strict=True) if lists else [()] * size
        dicts: list[dict[str, int | str | None] | None]
        dicts = [dict(zip(columns.values, row, strict=True)) for row in rows]
        for row in np.flatnonzero(~columns.ok).tolist():
            dicts[row] = None
        return dicts


def kind_of(batch: Batch) -> tuple[object, ...]:
    """Return what batches have in common that :func:`joined` can join."""
    reader = batch.reader
    facts = None if reader is None else (type(reader), *sorted(reader.stored().items()))
    return id(batch.table), batch.clock, batch.backend, facts


def joined(batches: Sequence[Batch]) -> Batch:
    """Return the rows of batches of one kind, one after the other, as one batch."""
    first = batches[0]
    if len(batches) == 1:
        return first
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
    at = origins = 0
    for batch in batches:
        for name, parts in columns.items():
            column = getattr(batch, name)
            if column is None:  # all rows are whole
                column = np.zeros(len(batch), np.bool_)
            moved = {"start": at, "begin": at, "stop": at, "origin": origins}.get(name, 0)
            parts.append(column + moved if moved else column)
        at += len(batch.data)
        origins += len(batch.origins)
    whole: dict[str, Any] = {name: np.concatenate(parts) for name, parts in columns.items()}
    whole["data"] = b"".join(batch.data for batch in batches)
    whole["origins"] = tuple(origin for batch in batches for origin in batch.origins)
    return replace(first, **whole, _known=None)


def compacted(batch: Batch) -> Batch:
    """Return the same rows with a copy of no other bytes than those of arguments and lines."""
    found: dict[Origin, int] = {}
    codes = [found.setdefault(one, len(found)) for one in batch.origins]
    begin = np.where(batch.event < 0, batch.start, batch.begin)
    cut = np.zeros(len(batch), np.bool_) if batch.cut is None else batch.cut
    rows = Rows.copied(
        *(batch.event, batch.time_ns, batch.tid, batch.arrived, cut),
        *(begin, batch.stop - begin, batch.data),
    )
    return replace(
        batch,
        data=rows.data,
        start=rows.begin,
        begin=rows.begin,
        stop=rows.begin + rows.size,
        origin=np.array(codes, np.int32)[batch.origin],
        origins=tuple(found),
        _known=None,
    )


def _take(column: Column, places: Int64Array) -> Column:
    return column.take(places) if isinstance(column, StringColumn) else column[places]
