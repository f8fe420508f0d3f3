"""Several saved files at once: merged by time, or one after the other."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from qtctl.errors import NothingMatched
from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.counts import Counts
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item
from qtctl.records.printf import HexArguments
from qtctl.records.rows_by_time import Row, divide, merged
from qtctl.session.replay import Replay

_CLOCKS = {
    Clock.REALTIME: "Unix time",
    Clock.MONOTONIC: "time since boot",
    Clock.ARRIVAL: "no times",
}
_BEGIN = -(1 << 63)
_SINCE_BOOT = 1 << 62
"""Added to times since boot: they stand behind Unix times, to which they have no relation."""


class _Side:
    """One file, and its items that were read and are to come."""

    def __init__(self, replay: Replay, number: int) -> None:
        self.replay = replay
        self.number = number
        self.rows: list[Row] = []
        self.ended = False
        self._last = _BEGIN

    def read(self) -> None:
        """Read on if nothing is to come."""
        if self.rows or self.ended:
            return
        items = self.replay.step()
        self.ended = items is None
        for item in items or ():
            times = np.full(1, self._last)
            if isinstance(item, Batch):
                known = ~item.arrived & (item.event >= 0)
                times = item.time_ns + (_SINCE_BOOT if item.clock is Clock.MONOTONIC else 0)
                times = np.maximum.accumulate(np.where(known, times, _BEGIN))
                times = np.maximum(times, self._last)
                self._last = int(times[-1])
            self.rows.append(Row(item, times))

    def reached(self) -> int | None:
        """Return a time before which nothing more will come; None if it has ended."""
        if self.ended:
            return None
        return int(self.rows[-1].times[-1]) if self.rows else _BEGIN

    def take(self, until: int | None) -> list[Row]:
        """Take what stands at ``until`` or before it; everything without ``until``."""
        taken, self.rows = divide(self.rows, until)
        return taken


class Files:
    """Several files with the interface of :class:`Replay`.

    ``ordered``: they are merged by time, each in its own order; else read one after the other.
    ``opened`` opens one of them, with its ``label``: its name, or its path where another file has
    the same name. Files in which the patterns match nothing are left out.

    Raises:
        NothingMatched: they match in none.
        UsageError, QtctlError: as :class:`Replay`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        opened: Callable[..., Replay],
        *,
        ordered: bool,
        limit: int | None = None,
    ) -> None:
        self.notes: list[str] = []
        self.replays: list[Replay] = []
        self._labels: list[str] = []
        self._limit, self._shown, self._ordered = limit, 0, ordered
        unmatched: NothingMatched | None = None
        try:
            for path, label in zip(paths, _labels(paths), strict=True):
                try:
                    self.replays.append(opened(path, label=label))
                except NothingMatched as error:
                    unmatched = unmatched or error
                    self.notes.append(f"{path}: {error.message}")
                    continue
                self._labels.append(label)
                self.notes += [f"{path}: {note}" for note in self.replays[-1].notes]
            if not self.replays:
                assert unmatched is not None
                raise unmatched
        except BaseException:
            self.close()
            raise
        self.path = self.replays[0].path
        tables = [replay.table for replay in self.replays]
        self._tables = [next(t for t in tables if _alike(t, table)) for table in tables]
        self.table = self._tables[0]
        if any(table is not self.table for table in self._tables):
            declared = {n: d for t in reversed(tables) for n, d in t.declarations.items()}
            self.table = EventTable.build([n for t in tables for n in t.names], declared)
        picked = [name for replay in self.replays for name in replay.picked]
        self.picked = tuple(dict.fromkeys(picked))
        sizes = [replay.size for replay in self.replays]
        self.size = sum(sizes) if all(sizes) else 0
        self._sides = [_Side(replay, number) for number, replay in enumerate(self.replays)]

    @property
    def counts(self) -> Counts:
        """The sums of all files."""
        counts = reduce(add, (replay.counts for replay in self.replays))
        counts.shown = self._shown
        counts.read = counts.shown + counts.filtered
        return counts

    @property
    def taken(self) -> int:
        """Bytes read so far."""
        return sum(replay.taken for replay in self.replays)

    @property
    def problem(self) -> str:
        """Which parts could not be read, once the end was reached; empty if none."""
        return "; ".join(filter(None, (replay.problem for replay in self.replays)))

    @property
    def unread_lines(self) -> tuple[str, ...]:
        """The first of the lines that are counted as unread."""
        return tuple(line for replay in self.replays for line in replay.unread_lines)

    @property
    def remark(self) -> str:
        """Warnings about the times so far; empty if there are none."""
        found = [replay.remark for replay in self.replays]
        return "; ".join(filter(None, [*found, self._clock_words() if self._ordered else ""]))

    def _clock_words(self) -> str:
        """Return which files have times that cannot be compared so far; empty if all can."""
        labels: dict[Clock, list[str]] = {}
        for replay, label in zip(self.replays, self._labels, strict=True):
            for clock in replay.clocks - {Clock.ARRIVAL} or replay.clocks:
                labels.setdefault(clock, []).append(label)
        if len(labels) > 1:
            each = (f"{_CLOCKS[clock]} in {', '.join(files)}" for clock, files in labels.items())
            return f"{'; '.join(each)}: these records are not in one order of time"
        booted = labels.get(Clock.MONOTONIC, [])
        if len(booted) > 1:
            return f"time since boot in {', '.join(booted)}: in one order only if the boot is one"
        return ""

    def hex_arguments(self) -> HexArguments:
        """Return, by event, the arguments that QEMU prints in hex; pointers are among them."""
        return HexArguments(one for replay in self.replays for one in replay.declared())

    def step(self) -> list[Item] | None:
        """Read on and return the filtered items; None at the end. Blocks shortly."""
        if self._limit is not None and self._shown >= self._limit:
            return None
        sides = [side for side in self._sides if not side.ended or side.rows]
        if not sides:
            return None
        for side in sides if self._ordered else sides[:1]:
            side.read()
        if not self._ordered:
            rows = [(row, sides[0]) for row in sides[0].take(None)]
            return self._limited([self._own(row.item, side) for row, side in rows])
        until = [at for side in sides if (at := side.reached()) is not None]
        taken = [
            (row._replace(item=self._own(row.item, side)))
            for side in sides
            for row in side.take(min(until, default=None))
        ]
        return self._limited(merged(taken))

    def _own(self, item: Item, side: _Side) -> Item:
        """Return an item with the table that all files like its own share."""
        table = self._tables[side.number]
        return replace(item, table=table) if isinstance(item, Batch) else item

    def _limited(self, items: list[Item]) -> list[Item]:
        shown: list[Item] = []
        for item in items:
            if isinstance(item, Batch):
                if self._limit is not None:
                    item = item.first(self._limit - self._shown)
                if not len(item):
                    break
                self._shown += len(item)
            shown.append(item)
        return shown

    def close(self) -> None:
        """Close the files."""
        for replay in self.replays:
            replay.close()


Reading = Replay | Files


def open_reading(
    paths: Sequence[Path], *, ordered: bool, limit: int | None, jobs: int = 1, **options: Any
) -> Reading:
    """Open one file, or several; ``options`` are those of :class:`Replay`.

    ``jobs`` threads work on them at once, of which one uses the records, and the others read ahead.

    Raises:
        NothingMatched, UsageError, QtctlError: as :class:`Files` and :class:`Replay`.
    """
    options["ahead"] = turns_of(jobs)
    if len(paths) == 1:
        return Replay(paths[0], limit=limit, **options)
    return Files(paths, partial(Replay, **options), ordered=ordered, limit=limit)


def turns_of(jobs: int) -> threading.Semaphore | None:
    """Return the turns of the threads that read ahead; None where no other thread may."""
    return threading.Semaphore(jobs - 1) if jobs > 1 else None


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return the names of files, and the paths of those that have one name."""
    names = Counter(path.name for path in paths)
    return [path.name if names[path.name] == 1 else str(path) for path in paths]


def _alike(one: EventTable, two: EventTable) -> bool:
    """Return whether two tables number and declare the same events."""
    return one is two or (one.names == two.names and one.declarations == two.declarations)
