"""The column of times in rows of records: time of day, since the first, or since the one before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.text.style import Style
from qtctl.text.units import ABOUT
from qtctl.writers.lines import LineBlock

FORMS = ("abs", "rel", "delta", "none")
_SECOND_NS = 1_000_000_000
_SLOW_NS = (1_000_000, 100_000_000)
"""Deltas from these on are printed plainly, and stand out."""

_FULL = (8, 6, 11)
_SHORT = ((100, _FULL), (60, (5, 6, 11)), (0, (3, 3, 9)))
"""From so many columns on: columns of the second, digits behind it, columns of a span."""


class RowTimes:
    """Appends the times of records to rows; ``form`` is one of ``FORMS``.

    A time at which qtctl read the record, and a span that depends on one, is marked. On a terminal
    times are aligned, and shortened where it is narrow: ``:32.295`` is in a minute that is not
    shown.
    """

    def __init__(self, style: Style, form: str, mark: str) -> None:
        self.form = form
        self._style = style
        self._mark = mark
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._first_late = self._last_late = self._marked = False

    def resume(self, time_ns: int, *, late: bool) -> None:
        """Let the next record be the one behind a record at ``time_ns``."""
        self._last_ns, self._last_late = time_ns, late

    def column(self, batch: Batch, width: int, gap: str) -> tuple[Callable[[LineBlock], None], int]:
        """Return a function that appends the times of a batch and ``gap``, and their columns.

        ``width`` is that of the terminal; off a terminal, the columns are not known.
        """
        shown = np.flatnonzero(batch.event >= 0)
        if self.form == "none" or not len(shown):
            return lambda block: None, 0
        terminal = self._style.terminal
        sizes = next(sizes for least, sizes in _SHORT if width >= least) if terminal else _FULL
        time_ns, arrives = int(batch.time_ns[shown[0]]), bool(batch.arrived[shown[0]])
        if self._first_ns is None:
            self._first_ns, self._first_late = time_ns, arrives
        if self._last_ns is None:
            self._last_ns, self._last_late = time_ns, arrives
        late = self._late(batch, shown)
        arrived = bool(late.any())
        self._marked |= arrived
        reserved = terminal and self._marked
        append = self._moments(batch, sizes) if self.form == "abs" else self._spans(batch, sizes)
        before, after = self._style.colours("time")

        def append_time(block: LineBlock) -> None:
            if arrived or reserved:
                block.literal(before)
                block.choice(late[block.rows].astype(np.int64), (" " * reserved, ABOUT))
                block.literal(after)
            append(block)
            block.literal(gap)

        columns = sizes[0] + 1 + sizes[1] if self.form == "abs" else sizes[2]
        return append_time, columns + reserved + len(gap)

    def _late(self, batch: Batch, shown: Int64Array) -> BoolArray:
        """Return the rows whose printed time depends on a time at which qtctl read a record."""
        late = batch.arrived.copy()
        if self.form == "rel":
            late |= self._first_late
        elif self.form == "delta":
            late[shown] |= np.append(self._last_late, batch.arrived[shown][:-1])
            self._last_late = bool(batch.arrived[shown[-1]])
        return late

    def _moments(self, batch: Batch, sizes: tuple[int, int, int]) -> Callable[[LineBlock], None]:
        codes, texts = _seconds(batch)
        if self._style.terminal:
            texts = [self._shortened(text, sizes[0]) for text in texts]
        parts = batch.time_ns % _SECOND_NS // 10 ** (9 - sizes[1])
        before, after = self._style.colours("time")

        def append(block: LineBlock) -> None:
            block.literal(before)
            block.choice(codes[block.rows], texts)
            block.literal(".")
            block.digits(parts[block.rows], sizes[1])
            block.literal(after)

        return append

    def _shortened(self, second: str, width: int) -> str:
        """Return the end of a second's text; a number that is cut has a mark."""
        if len(second) <= width:
            return second.rjust(width)
        return second[-width:] if ":" in second else self._mark + second[1 - width :]

    def _spans(self, batch: Batch, sizes: tuple[int, int, int]) -> Callable[[LineBlock], None]:
        assert self._first_ns is not None
        shown = np.flatnonzero(batch.event >= 0)
        spans = batch.time_ns - self._first_ns
        if self.form == "delta":
            times = batch.time_ns[shown]
            spans[shown] = times - np.append(self._last_ns or 0, times[:-1])
            self._last_ns = int(batch.time_ns[shown[-1]])
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


def _seconds(batch: Batch) -> tuple[NDArray[np.int64], list[str]]:
    """Return the whole second of each row as text: codes, and the distinct texts."""
    wall = batch.arrived | (batch.clock != Clock.MONOTONIC)
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
