"""The column of times in rows of records: time of day, since the first, or since the one before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.lines import LineBlock
from qtctl.text.style import Style
from qtctl.text.units import ABOUT

FORMS = ("abs", "rel", "delta", "none")
_SECOND_NS = 1_000_000_000
_SLOW_NS = (1_000_000, 100_000_000)
"""Deltas from these on are printed plainly, and stand out."""

_FULL = (8, 6, 11)
_SHORT = ((100, _FULL), (60, (5, 6, 11)), (0, (3, 3, 9)))
"""From so many columns on: columns of the second, digits behind it, columns of a span."""


class _Moment(NamedTuple):
    """When a record was; ``late``: when qtctl read it. ``wall``: in Unix time, not since boot."""

    time_ns: int
    late: bool
    wall: bool


class RowTimes:
    """Appends the times of records to rows; ``form`` is one of ``FORMS``.

    A time at which qtctl read the record, and a span that depends on one, is marked. On a terminal
    times are aligned, and shortened where it is narrow: ``:32.295`` is in a minute that is not
    shown. Spans are between times of one kind of clock: where the other begins, so do they.
    """

    def __init__(self, style: Style, form: str, mark: str) -> None:
        self.form = form
        self._style = style
        self._mark = mark
        self._first: dict[bool, _Moment] = {}
        self._last: _Moment | None = None
        self._marked = False

    def resume(self, batch: Batch | None = None, row: int = 0) -> None:
        """Let the next record be the one behind a row of a batch; without one, the first."""
        self._last = None if batch is None else _moment_of(batch, row)

    def begin(self, batch: Batch) -> None:
        """Let spans of ``rel`` begin at the first record of a batch, unless they have begun."""
        shown = np.flatnonzero(batch.event >= 0)
        if len(shown):
            self._begin(batch, shown)

    def _begin(self, batch: Batch, shown: Int64Array) -> tuple[_Moment, _Moment]:
        """Return the moment of the first shown record, and the one at which ``rel`` begins."""
        here = _moment_of(batch, int(shown[0]))
        return here, self._first.setdefault(here.wall, here)

    def begin_as(self, other: RowTimes) -> None:
        """Let spans of ``rel`` begin where those of another do."""
        self._first = dict(other._first)

    def column(self, batch: Batch, width: int, gap: str) -> tuple[Callable[[LineBlock], None], int]:
        """Return a function that appends the times of a batch and ``gap``, and their columns.

        ``width`` is that of the terminal; off a terminal, the columns are not known.
        """
        shown = np.flatnonzero(batch.event >= 0)
        if self.form == "none" or not len(shown):
            return lambda block: None, 0
        terminal = self._style.terminal
        sizes = next(sizes for least, sizes in _SHORT if width >= least) if terminal else _FULL
        here, first = self._begin(batch, shown)
        last = here if self._last is None or self._last.wall != here.wall else self._last
        self._last = _moment_of(batch, int(shown[-1]))
        before = first if self.form == "rel" else last
        late = self._late(batch, shown, before)
        arrived = bool(late.any())
        self._marked |= arrived
        reserved = terminal and self._marked
        append = (
            self._moments(batch, sizes)
            if self.form == "abs"
            else self._spans(batch, sizes, shown, before)
        )
        begin, end = self._style.colours("time")

        def append_time(block: LineBlock) -> None:
            if arrived or reserved:
                block.literal(begin)
                block.choice(late[block.rows].astype(np.int64), (" " * reserved, ABOUT))
                block.literal(end)
            append(block)
            block.literal(gap)

        columns = sizes[0] + 1 + sizes[1] if self.form == "abs" else sizes[2]
        return append_time, columns + reserved + len(gap)

    def _late(self, batch: Batch, shown: Int64Array, before: _Moment) -> BoolArray:
        """Return the rows whose printed time depends on a time at which qtctl read a record."""
        late = batch.arrived.copy()
        if self.form == "rel":
            late |= before.late
        elif self.form == "delta":
            late[shown] |= np.append(before.late, batch.arrived[shown][:-1])
        return late

    def _moments(self, batch: Batch, sizes: tuple[int, int, int]) -> Callable[[LineBlock], None]:
        codes, texts = _seconds(batch)
        if self._style.terminal:
            texts = [self._shortened(text, sizes[0]) for text in texts]
        before, after = self._style.colours("time")

        def append(block: LineBlock) -> None:
            block.literal(before)
            block.choice(codes[block.rows], texts)
            block.literal(".")
            block.fraction(batch.time_ns[block.rows], sizes[1])
            block.literal(after)

        return append

    def _shortened(self, second: str, width: int) -> str:
        """Return the end of a second's text; a number that is cut has a mark."""
        if len(second) <= width:
            return second.rjust(width)
        return second[-width:] if ":" in second else self._mark + second[1 - width :]

    def _spans(
        self, batch: Batch, sizes: tuple[int, int, int], shown: Int64Array, before: _Moment
    ) -> Callable[[LineBlock], None]:
        """``before`` is the moment from which spans count, or of the record before the first."""
        spans = batch.time_ns - before.time_ns
        if self.form == "delta":
            times = batch.time_ns[shown]
            spans[shown[1:]] = times[1:] - times[:-1]
        slow = np.zeros(len(spans), np.int64)
        if self.form == "delta":
            slow += np.searchsorted(_SLOW_NS, np.abs(spans), "right")
        faint, after = self._style.colours("time")
        befores = [faint, "", self._style.colours("slow")[0]]
        blanks = [" " * count for count in range(sizes[2])]
        digits = np.searchsorted([10**power for power in range(10, 19)], np.abs(spans), "right")
        padding = np.maximum(sizes[2] - 9 - digits, 0)

        def append(block: LineBlock) -> None:
            if self._style.terminal:
                block.choice(padding[block.rows], blanks)
            block.choice(slow[block.rows], befores)
            block.seconds(spans[block.rows])
            block.literal(after)

        return append


def _moment_of(batch: Batch, row: int) -> _Moment:
    late = bool(batch.arrived[row])
    return _Moment(int(batch.time_ns[row]), late, late or batch.clock is not Clock.MONOTONIC)


def _seconds(batch: Batch) -> tuple[NDArray[np.int64], list[str]]:
    """Return the whole second of each row as text: codes, and the distinct texts."""
    wall = batch.arrived | (batch.clock != Clock.MONOTONIC)
    second = int(batch.time_ns.min()) // _SECOND_NS
    if second == int(batch.time_ns.max()) // _SECOND_NS and wall.all() == wall.any():
        return np.zeros(len(wall), np.int64), [_clock_text(second, wall=bool(wall[0]))]
    # Adjacent rows mostly share a second: look only at the first of each run.
    kind = 2 * (batch.time_ns // _SECOND_NS) + wall
    first = np.ones(len(kind), np.bool_)
    np.not_equal(kind[1:], kind[:-1], out=first[1:])
    distinct, codes = np.unique(kind[first], return_inverse=True)
    texts = [_clock_text(one // 2, wall=bool(one % 2)) for one in distinct.tolist()]
    return codes[np.cumsum(first) - 1], texts


def moment(time_ns: int, *, wall: bool) -> str:
    """Return a time as rows of a wide terminal print it; not ``wall``: since some begin."""
    second, rest = divmod(time_ns, _SECOND_NS)
    return f"{_clock_text(second, wall=wall)}.{rest // 1000:06d}"


def _clock_text(second: int, *, wall: bool) -> str:
    if not wall:
        return str(second)
    try:
        return datetime.fromtimestamp(second).strftime("%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(second)
