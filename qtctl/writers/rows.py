"""Format records as the rows that a terminal shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import NULL, BoolArray, Column, Int64Array
from qtctl.records.origins import Origin
from qtctl.text.style import Style, escaped
from qtctl.text.units import ABOUT
from qtctl.writers.lines import LineBlock, write

_SECOND_NS = 1_000_000_000
NAME_WIDTH = 36
"""Columns to which shorter event names are padded at most, to align the arguments."""


class RowFormatter:
    """Formats records as rows of time, thread, event and arguments.

    ``times`` is abs, rel, delta or none; ``~`` marks times at which qtctl read the record.
    ``hex_arguments`` maps an event to the arguments that QEMU prints in hex. ``names`` are the
    event names to align. ``thread`` maps a thread id to its name, or to an empty text, for which
    the id is printed; without it, names are those that the records bring. Once records of a second
    process have come, each row says of which it is.
    """

    def __init__(
        self,
        style: Style,
        times: str,
        hex_arguments: Mapping[str, frozenset[str]],
        names: Sequence[str],
        thread: Callable[[int], str] | None = None,
    ) -> None:
        self._paint, self._colours = style.paint, style.colours
        self._times = times
        self._hex = hex_arguments
        self._width = min(NAME_WIDTH, max(map(len, names), default=0)) if style.terminal else 0
        self._thread = thread
        self._gap = "  " if style.terminal else " "
        self._first: Origin | None = None
        self._several = False
        self._first_ns: int | None = None
        self._last_ns = 0
        self._first_late = self._last_late = False

    def note(self, text: str) -> str:
        """Return a message, as a line between the records."""
        return self._paint(text, "bad")

    def lines(self, batch: Batch) -> list[str]:
        """Return a line per record, safe to print."""
        append_time = self._time_appender(batch)
        guests = self._guests(batch)
        blocks = []
        for event, rows, values in batch.alike():
            block = LineBlock(rows)
            blocks.append(block)
            if event < 0:
                block.column(batch.texts(rows), lambda text: self._paint(text or "", "faint"))
                continue
            name = batch.names[event]
            append_time(block)
            if guests:
                block.choice(batch.origin[rows], guests)
            self._append_thread(block, batch, rows)
            if values is None:
                block.column(batch.raws(rows), partial(self._raw, name))
                if batch.is_cut(int(rows[0])):
                    block.literal(self._gap + self._paint("(cut short)", "faint"))
            else:
                block.literal(self._name(name, last=not values))
                self._arguments(block, name, values)
        return write(blocks)

    def _time_appender(self, batch: Batch) -> Callable[[LineBlock], None]:
        """Return a function that appends the times to a block."""
        shown = np.flatnonzero(batch.event >= 0)
        if self._times == "none" or not len(shown):
            return lambda block: None
        before, after = self._colours("time")
        times = batch.time_ns
        if self._first_ns is None:
            self._first_ns = self._last_ns = int(times[shown[0]])
            self._first_late = self._last_late = bool(batch.arrived[shown[0]])
        spans = times - self._first_ns
        if self._times == "delta":
            spans[shown] = np.diff(times[shown], prepend=self._last_ns)
            self._last_ns = int(times[shown[-1]])
        seconds = _seconds(batch) if self._times == "abs" else None
        late = self._late(batch, shown)
        arrived = bool(late.any())

        def append_time(block: LineBlock) -> None:
            block.literal(before)
            if arrived:
                block.choice(late[block.rows].astype(np.int64), ("", ABOUT))
            if seconds is None:
                block.seconds(spans[block.rows])
            else:
                codes, texts = seconds
                block.choice(codes[block.rows], texts)
                block.literal(".")
                block.six_digits(times[block.rows] % _SECOND_NS // 1000)
            block.literal(after + self._gap)

        return append_time

    def _late(self, batch: Batch, shown: Int64Array) -> BoolArray:
        """Return the rows whose printed time depends on a time at which qtctl read a record."""
        late = batch.arrived.copy()
        if self._times == "rel":
            late |= self._first_late
        elif self._times == "delta":
            late[shown] |= np.append(self._last_late, batch.arrived[shown][:-1])
            self._last_late = bool(batch.arrived[shown[-1]])
        return late

    def _guests(self, batch: Batch) -> list[str]:
        """Return the words for each of the batch's origins; none while there is one process."""
        if not self._several and len(batch):
            codes, processes = batch.processes()
            for code in np.unique(codes[batch.event >= 0]).tolist():
                self._first = self._first or processes[code]
                self._several |= processes[code] != self._first or bool(processes[code].file)
        if not self._several:
            return []
        words = [escaped(one.words) for one in batch.origins]
        return [self._paint(f"[{one}]", "faint") + self._gap if one else "" for one in words]

    def _append_thread(self, block: LineBlock, batch: Batch, rows: Int64Array) -> None:
        tid, named = batch.tid[rows], [one.thread or "" for one in batch.origins]
        if self._thread is None and not any(named):
            before, after = self._colours("faint")
            block.optional(tid, before, after + self._gap)
            return
        threads = batch.origin[rows].astype(np.int64) << 32 | (tid.astype(np.int64) + 1)
        distinct, codes = np.unique(threads, return_inverse=True)
        texts = []
        for one in distinct.tolist():
            number = (one & 0xFFFFFFFF) - 1
            name = named[one >> 32] or (self._thread(number) if self._thread else "")
            name = escaped(name) or ("" if number < 0 else str(number))
            texts.append(self._paint(name, "faint") + self._gap if name else "")
        block.choice(codes, texts)

    def _name(self, name: str, *, last: bool) -> str:
        """Return an event's name, padded unless it is the ``last`` on the line."""
        return self._paint(escaped(name).ljust(0 if last else self._width), "event")

    def _raw(self, name: str, text: str | None) -> str:
        """Return the name and the raw text of a record whose arguments could not be parsed."""
        text = text or ""
        return (self._name(name, last=not text) + self._gap + escaped(text)).rstrip()

    def _arguments(self, block: LineBlock, name: str, values: Mapping[str, Column]) -> None:
        in_hex = self._hex.get(name, frozenset())
        gap = self._gap
        for key, column in values.items():
            block.literal(f"{gap}{self._paint(key, 'key')}=")
            gap = " "
            block.column(column, _quoted, in_hex=key in in_hex)


def _quoted(text: str | None) -> str:
    return NULL if text is None else f"'{escaped(text)}'"


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


def _clock_text(second: int, *, wall: bool) -> str:
    if not wall:
        return str(second)
    try:
        return datetime.fromtimestamp(second).strftime("%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(second)
