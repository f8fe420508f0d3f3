"""Comparing two runs record by record: what differs, and where they part.

Both runs are read side by side, and records that are equal (by their fingerprints) are passed over.
Where they differ, the runs go on at the nearest place from which :data:`ALIKE` records are equal
again: first by all their arguments, else by their events alone. Memory is bounded; the work is in
columns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import chain

import numpy as np

from qtctl.analysis.changed_arguments import ChangedArguments
from qtctl.analysis.fingerprints import Correspondence
from qtctl.analysis.meeting import ALIKE, first_true, meeting_place
from qtctl.analysis.unmatched import END, SHOWN, Segment, Unmatched
from qtctl.records.batch import Batch, Record
from qtctl.records.items import Item, Loss

_LOST = (1, 2)
_WINDOWS = (1 << 6, 1 << 12, 1 << 16)
_SMALL = 1 << 7
_PLACES = 100
_CONTEXT = 3


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


class Alignment:
    """Compares two runs; call :meth:`take` and :meth:`end` for sides 0 and 1 as they are read.

    Next is the side that :meth:`behind` names. ``same`` counts equal records, ``only`` those of one
    run alone, ``changes`` records of one event with other arguments. ``places`` are the first 100
    places. ``parted`` is where the rest of the runs has nothing in common that could be found, and
    is not compared. ``addresses`` and ``threads`` match those of equal records; ``differ`` names
    which of times, threads and addresses are other numbers in any of them.
    """

    def __init__(self) -> None:
        self.sides = Unmatched(_LOST[0]), Unmatched(_LOST[1])
        self.same = self.changes = 0
        self.only = [0, 0]
        self.changed = ChangedArguments()
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
            size = min(len(side.segments[0]) for side in self.sides)
            whole = [side.segments[0].whole[:size] for side in self.sides]
            equal = first_true(whole[0] != whole[1], size)
            if equal:
                self._pass(equal)
            elif not self._meet():
                return

    def _pass(self, count: int) -> None:
        """Pass over equal records."""
        self.same += count
        for a, b in self._together(count):
            self._match(a, b)
            for row in range(max(a.rows.start, a.rows.stop - _CONTEXT), a.rows.stop):
                self._before.append((a.batch, row))

    def _match(self, a: Segment, b: Segment) -> None:
        """Match times, threads and addresses of equal records."""
        one, two = a.batch.select(a.rows), b.batch.select(b.rows)
        equal = {
            "times": one.clock == two.clock
            and np.array_equal(one.time_ns, two.time_ns)
            and np.array_equal(one.arrived, two.arrived),
            "threads": np.array_equal(one.tid, two.tid),
            "addresses": np.array_equal(a.addresses, b.addresses),
        }
        self.differ |= {name for name, same in equal.items() if not same}
        at = self.threads.take(one.tid, two.tid)
        if at is not None and self.first_threads is None:
            self.first_threads = a.number + at, b.number + at
        if len(a.addresses) == len(b.addresses):
            at = self.addresses.take(a.addresses, b.addresses)
            if at is not None and self.first_addresses is None:
                place = a.record_of(at)
                self.first_addresses = a.number + place, b.number + place

    def _together(self, count: int) -> Iterator[tuple[Segment, Segment]]:
        """Consume as many records of both sides; yield them by segments of equal length."""
        one, two = self.sides
        while count:
            size = min(count, len(one.segments[0]), len(two.segments[0]))
            yield one.cut(size), two.cut(size)
            count -= size

    def _meet(self) -> bool:
        """Go on where both runs are equal again; return False where more must be read first."""
        for window in _WINDOWS:
            if any(side.size < window + ALIKE and not side.ended for side in self.sides):
                return False
            whole, event = zip(*(side.ahead(window + ALIKE) for side in self.sides), strict=True)
            for level in (whole, event):
                place = meeting_place(*level)
                if place is None:
                    continue
                if place == (0, 0):  # the same events, with other arguments
                    size = min(map(len, event))
                    different = (event[0][:size] != event[1][:size]) | (event[0][:size] == END)
                    self._change(first_true(different, size))
                else:
                    self._block(*place)
                return True
        self.parted = self.sides[0].passed + 1, self.sides[1].passed + 1
        for side in self.sides:
            side.clear()
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
                shown += more[: SHOWN - len(shown)]
        self._behind = at[0] + counts[0], at[1] + counts[1]
        self._before.clear()

    def _change(self, count: int) -> None:
        """Compare the arguments of records of the same events."""
        for a, b in self._together(count):
            different = a.whole != b.whole
            places = np.flatnonzero(different)
            self.same += len(different) - len(places)
            self.changes += len(places)
            self.changed.take(a, b, places)
            for place in places.tolist():
                shown: tuple[list[Record | Loss], list[Record | Loss]] = [], []
                if len(self.places) < _PLACES or self.place_count == _PLACES:
                    one = np.array([place])
                    shown = a.records(one), b.records(one)
                self._place((a.number + place, b.number + place), (1, 1), shown)
