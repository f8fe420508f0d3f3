"""Comparing two runs record by record: what differs, and where they part.

Both runs are read side by side, and records that are equal (by their fingerprints) are passed over.
Where they differ, the runs go on at the nearest place from which :data:`_ALIKE` records are equal
again: first by all their arguments, else by their events alone. Memory is bounded; the work is in
columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import chain

import numpy as np

from qtctl.analysis.fingerprints import (
    Correspondence,
    Fingerprints,
    UInt64Array,
    combined,
    hashed,
    is_address,
)
from qtctl.records.batch import Batch, Record
from qtctl.records.columns import BoolArray, Column, Int64Array
from qtctl.records.items import Item, Loss

_ALIKE = 8
_WINDOWS = (1 << 6, 1 << 12, 1 << 16)
_CANDIDATES = 32
_SMALL = 1 << 7
_PLACES = 100
_SHOWN = 5
_CONTEXT = 3
_END, _LOST = 0, (1, 2)
"""Fingerprints of the end of a run, which equals another end, and of a loss, which equals none."""


@dataclass(slots=True)
class Place:
    """Where the runs differ: ``counts`` records of A stand for ``counts`` of B.

    ``at`` are the numbers of the first of them in each run, from 1; ``rows`` the first few of each;
    ``before`` are the records before, which are equal. A loss stands in ``rows`` as such.
    """

    at: tuple[int, int]
    counts: tuple[int, int]
    before: list[Record]
    rows: tuple[list[Record | Loss], list[Record | Loss]]


@dataclass(slots=True)
class Changed:
    """An argument that differs in ``count`` records; ``at`` are the numbers of the first of them.

    ``values`` are those of the first. ``argument`` is ``raw`` for arguments that are not parsed.
    """

    event: str
    argument: str
    at: tuple[int, int]
    values: tuple[int | str | None, int | str | None]
    count: int = 0


@dataclass(slots=True)
class _Piece:
    """A batch or a loss, with the number of its first record and of the first not yet compared."""

    item: Batch | Loss
    prints: Fingerprints
    at: int = 0

    def __len__(self) -> int:
        return len(self.prints.whole) - self.at

    def whole(self, count: int) -> UInt64Array:
        return self.prints.whole[self.at : self.at + count]


@dataclass(slots=True)
class _Side:
    """The records of one run that are not yet compared."""

    lost: int
    pieces: deque[_Piece] = field(default_factory=deque)
    size: int = 0
    passed: int = 0
    ended: bool = False

    def take(self, item: Batch | Loss) -> None:
        if isinstance(item, Batch):
            prints = Fingerprints.of(item)
        else:
            one = np.array([self.lost], np.uint64)
            prints = Fingerprints(one, one, np.empty(0, np.uint64), np.zeros(2, np.int64))
        self.pieces.append(_Piece(item, prints))
        self.size += len(prints.whole)

    def ahead(self, count: int) -> tuple[UInt64Array, UInt64Array]:
        """Return fingerprints of the next records: whole, and of events; then those of the end."""
        columns: list[tuple[UInt64Array, UInt64Array]] = []
        for piece in self.pieces:
            if count <= 0:
                break
            part = slice(piece.at, piece.at + count)
            columns.append((piece.prints.whole[part], piece.prints.event[part]))
            count -= len(columns[-1][0])
        end = np.full(_ALIKE if count > 0 else 0, _END, np.uint64)
        columns.append((end, end))
        whole, event = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        return whole, event

    def next(self, count: int) -> Iterator[tuple[_Piece, slice]]:
        """Consume records; yield them by pieces."""
        while count:
            piece = self.pieces[0]
            rows = slice(piece.at, piece.at + min(count, len(piece)))
            yield piece, rows
            taken = rows.stop - rows.start
            piece.at += taken
            count -= taken
            self.size -= taken
            self.passed += taken if isinstance(piece.item, Batch) else 0
            if not len(piece):
                self.pieces.popleft()

    def skip(self, count: int) -> list[Record | Loss]:
        """Consume records; return the first few."""
        shown: list[Record | Loss] = []
        for piece, rows in self.next(count):
            wanted = np.arange(rows.start, min(rows.stop, rows.start + _SHOWN - len(shown)))
            shown += _records(piece.item, wanted)
        return shown


def _records(item: Batch | Loss, rows: Int64Array) -> Iterator[Record | Loss]:
    if isinstance(item, Loss):
        yield item
    elif len(rows):
        yield from item.records(rows)


class Alignment:
    """Compares two runs; call :meth:`take` and :meth:`end` for sides 0 and 1 as they are read.

    Next is the side that :meth:`behind` names. ``same`` counts equal records, ``only`` those of one
    run alone, ``changes`` records of one event with other arguments. ``places`` are the first 100
    places. ``parted`` is where the rest of the runs has nothing in common that could be found, and
    is not compared. ``addresses`` and ``threads`` match those of equal records; ``differ`` names
    which of times, threads and addresses are other numbers in any of them.
    """

    def __init__(self) -> None:
        self.sides = _Side(_LOST[0]), _Side(_LOST[1])
        self.same = self.changes = 0
        self.only = [0, 0]
        self.changed: dict[tuple[str, str], Changed] = {}
        self.places: list[Place] = []
        self.place_count = 0
        self.parted: tuple[int, int] | None = None
        self.losses = [0, 0]
        self.addresses, self.threads = Correspondence(), Correspondence()
        self.first_addresses: tuple[int, int] | None = None
        self.first_threads: tuple[int, int] | None = None
        self.differ: set[str] = set()
        self._behind = 0, 0
        self._before: deque[tuple[Batch, int]] = deque(maxlen=_CONTEXT)

    @property
    def alike(self) -> bool:
        """Whether all records are the same, but for times and for which address or thread."""
        return not (self.changes or any(self.only) or any(self.losses) or self.parted)

    def behind(self) -> int | None:
        """Return the side of which to read more; None at the end of both."""
        waiting = [number for number in (0, 1) if not self.sides[number].ended]
        return min(waiting, key=lambda number: self.sides[number].size, default=None)

    def take(self, number: int, item: Item) -> None:
        """Compare the next item of a side."""
        if isinstance(item, Loss):
            self.losses[number] += 1
        if self.parted is None and isinstance(item, Batch | Loss):
            if isinstance(item, Batch):
                item = item.select(item.event >= 0)
            self.sides[number].take(item)
            self._run()

    def end(self, number: int) -> None:
        """Finish a side."""
        self.sides[number].ended = True
        if self.parted is None:
            self._run()

    def _run(self) -> None:
        one, two = self.sides
        while one.size or two.size:
            if not (one.size and two.size):
                if not (one if two.size else two).ended:
                    return
                self._differ(one.size, two.size)  # the other run has ended
                continue
            size = min(len(one.pieces[0]), len(two.pieces[0]))
            whole = [side.pieces[0].whole(size) for side in self.sides]
            equal = _first(whole[0] != whole[1], size)
            if equal:
                self._pass(equal)
            elif not self._meet():
                return

    def _pass(self, count: int) -> None:
        """Pass over equal records."""
        self.same += count
        for (a, rows), (b, others) in self._together(count):
            assert isinstance(a.item, Batch)
            assert isinstance(b.item, Batch)
            self._match(a, rows, b, others)
            for row in range(max(rows.start, rows.stop - _CONTEXT), rows.stop):
                self._before.append((a.item, row))

    def _match(self, a: _Piece, rows: slice, b: _Piece, others: slice) -> None:
        """Match times, threads and addresses of equal records."""
        one, two = a.item, b.item
        assert isinstance(one, Batch)
        assert isinstance(two, Batch)
        first, second = one.tid[rows], two.tid[others]
        both = a.prints.of_rows(rows), b.prints.of_rows(others)
        equal = {
            "times": one.clock == two.clock
            and np.array_equal(one.time_ns[rows], two.time_ns[others])
            and np.array_equal(one.arrived[rows], two.arrived[others]),
            "threads": np.array_equal(first, second),
            "addresses": np.array_equal(*both),
        }
        self.differ |= {name for name, same in equal.items() if not same}
        base = self.sides[0].passed - rows.start + 1, self.sides[1].passed - others.start + 1
        at = self.threads.take(first, second)
        if at is not None and self.first_threads is None:
            self.first_threads = base[0] + rows.start + at, base[1] + others.start + at
        at = self.addresses.take(*both) if len(both[0]) == len(both[1]) else None
        if at is not None and self.first_addresses is None:
            begin = a.prints.begin
            row = int(np.searchsorted(begin, begin[rows.start] + at, side="right")) - 1
            self.first_addresses = base[0] + row, base[1] + others.start + row - rows.start

    def _together(self, count: int) -> Iterator[tuple[tuple[_Piece, slice], tuple[_Piece, slice]]]:
        """Consume as many records of both sides; yield them by pieces of equal length."""
        one, two = self.sides
        while count:
            part = min(count, len(one.pieces[0]), len(two.pieces[0]))
            (a,), (b,) = [[*_held(side, part)] for side in self.sides]
            yield a, b
            for side in self.sides:
                for _ in side.next(part):
                    pass
            count -= part

    def _meet(self) -> bool:
        """Go on where both runs are equal again; return False where more must be read first."""
        for window in _WINDOWS:
            if any(side.size < window + _ALIKE and not side.ended for side in self.sides):
                return False
            whole, event = zip(*(side.ahead(window + _ALIKE) for side in self.sides), strict=True)
            for level in (whole, event):
                place = _nearest(*level)
                if place is None:
                    continue
                if place == (0, 0):  # the same events, with other arguments
                    size = min(map(len, event))
                    different = (event[0][:size] != event[1][:size]) | (event[0][:size] == _END)
                    self._change(_first(different, size))
                else:
                    self._block(*place)
                return True
        self.parted = self.sides[0].passed + 1, self.sides[1].passed + 1
        for side in self.sides:
            side.pieces.clear()
            side.size = 0
        return True

    def _block(self, one: int, two: int) -> None:
        """Compare two runs of records, before and behind which both runs are equal."""
        if max(one, two) > _SMALL:
            self._differ(one, two)
            return
        events = [
            side.ahead(size)[1][:size].tolist()
            for side, size in zip(self.sides, (one, two), strict=True)
        ]
        matcher = SequenceMatcher[int](None, events[0], events[1], autojunk=False)
        for tag, low, high, least, most in matcher.get_opcodes():
            if tag == "equal":
                self._change(high - low)
            else:
                self._differ(high - low, most - least)

    def _differ(self, one: int, two: int) -> None:
        """Count records that only one run has."""
        at = self.sides[0].passed + 1, self.sides[1].passed + 1
        rows = self.sides[0].skip(one), self.sides[1].skip(two)
        counts = self.sides[0].passed + 1 - at[0], self.sides[1].passed + 1 - at[1]
        self.only[0] += counts[0]
        self.only[1] += counts[1]
        self._place(at, counts, rows)

    def _place(
        self,
        at: tuple[int, int],
        counts: tuple[int, int],
        rows: tuple[list[Record | Loss], list[Record | Loss]],
    ) -> None:
        """Keep what is shown of a place; one right behind the last place continues it."""
        kept = self.place_count == len(self.places)
        if at != self._behind or not self.places:
            self.place_count += 1
            if len(self.places) < _PLACES:
                held = [batch.records(np.array([row])) for batch, row in self._before]
                self.places.append(Place(at, counts, list(chain.from_iterable(held)), rows))
        elif kept:
            last = self.places[-1]
            last.counts = last.counts[0] + counts[0], last.counts[1] + counts[1]
            for shown, more in zip(last.rows, rows, strict=True):
                shown += more[: _SHOWN - len(shown)]
        self._behind = at[0] + counts[0], at[1] + counts[1]
        self._before.clear()

    def _change(self, count: int) -> None:
        """Compare the arguments of records of the same events."""
        for (a, rows), (b, others) in self._together(count):
            one, two = a.item, b.item
            assert isinstance(one, Batch)
            assert isinstance(two, Batch)
            different = a.prints.whole[rows] != b.prints.whole[others]
            self.same += int(np.count_nonzero(~different))
            self.changes += int(np.count_nonzero(different))
            base = self.sides[0].passed + 1, self.sides[1].passed + 1
            places = np.flatnonzero(different)
            self._arguments(
                one,
                places + rows.start,
                two,
                places + others.start,
                base,
                (rows.start, others.start),
            )
            for place in places.tolist():
                at = base[0] + place, base[1] + place
                shown: tuple[list[Record | Loss], list[Record | Loss]] = [], []
                if len(self.places) < _PLACES or self.place_count == _PLACES:
                    shown = (
                        list(_records(one, np.array([rows.start + place]))),
                        list(_records(two, np.array([others.start + place]))),
                    )
                self._place(at, (1, 1), shown)

    def _arguments(
        self,
        one: Batch,
        rows: Int64Array,
        two: Batch,
        others: Int64Array,
        base: tuple[int, int],
        start: tuple[int, int],
    ) -> None:
        """Count, by argument, the records in which it differs."""
        for event in np.unique(one.event[rows]).tolist():
            mine = np.flatnonzero(one.event[rows] == event)
            sides = _columns(one, rows[mine]), _columns(two, others[mine])
            for name in dict.fromkeys([*sides[0], *sides[1]]):
                columns = sides[0].get(name), sides[1].get(name)
                if is_address(one, event, name):
                    continue
                if columns[0] is None or columns[1] is None:
                    places = np.arange(len(mine))
                else:
                    places = np.flatnonzero(hashed(columns[0]) != hashed(columns[1]))
                if not len(places):
                    continue
                key = one.names[event], name
                if key not in self.changed:
                    at = int(places[0])
                    place = int(rows[mine[at]]) - start[0]
                    values = _value(columns[0], at), _value(columns[1], at)
                    self.changed[key] = Changed(*key, (base[0] + place, base[1] + place), values)
                self.changed[key].count += len(places)


def _held(side: _Side, count: int) -> Iterator[tuple[_Piece, slice]]:
    piece = side.pieces[0]
    yield piece, slice(piece.at, piece.at + count)


def _columns(batch: Batch, rows: Int64Array) -> dict[str, Column]:
    """Return the columns of rows of one event; the text as ``raw`` if any is not parsed."""
    chosen = batch.select(rows)
    event = int(chosen.event[0])
    columns = chosen.arguments(event)
    return dict(columns.values) if columns.ok.all() else {"raw": chosen.raws(np.arange(len(rows)))}


def _value(column: Column | None, row: int) -> int | str | None:
    return None if column is None else column.take(np.array([row])).tolist()[0]


def _first(mask: BoolArray, otherwise: int) -> int:
    """Return the place of the first true value."""
    found = np.flatnonzero(mask)
    return int(found[0]) if len(found) else otherwise


def _nearest(one: UInt64Array, two: UInt64Array) -> tuple[int, int] | None:
    """Return near places in both from which the most fingerprints are equal, at least `_ALIKE`."""
    grams = [np.lib.stride_tricks.sliding_window_view(side, _ALIKE) for side in (one, two)]
    first, second = (combined(*(gram[:, place] for place in range(_ALIKE))) for gram in grams)
    size = min(len(first), len(second))
    straight = np.flatnonzero(first[:size] == second[:size])[:1]
    mine, others = _occurring(first, second)
    back, forth = _occurring(second, first)
    places = np.stack([[*straight, *mine, *forth], [*straight, *others, *back]], axis=1)
    far = places.max(axis=1)
    near = places[np.argsort(far, kind="stable")[:_CANDIDATES]].astype(int).tolist()

    def gain(place: list[int]) -> int:
        a, b = one[place[0] :], two[place[1] :]
        length = min(len(a), len(b))
        return _first(a[:length] != b[:length], length) - max(place)

    best = max(near, key=gain, default=None)
    return None if best is None else (best[0], best[1])


def _occurring(some: UInt64Array, other: UInt64Array) -> tuple[Int64Array, Int64Array]:
    """Return the places of numbers that occur in ``other``, and where they do so first."""
    found, places = np.unique(other, return_index=True)
    at = np.minimum(np.searchsorted(found, some), len(found) - 1)
    mine = np.flatnonzero(found[at] == some)
    return mine, places[at[mine]]
