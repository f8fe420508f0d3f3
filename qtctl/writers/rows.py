"""Formatting records as lines for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import Column, StringColumn
from qtctl.text.style import Style, escaped
from qtctl.writers.lines import LineBlock, write

_SECOND_NS = 1_000_000_000
NAME_WIDTH = 36
"""Event names are padded to at most so many columns, so that arguments line up."""


class RowFormatter:
    """Formats records for people. ``times`` is abs, rel, delta or none.

    ``hex_arguments`` maps an event to the arguments that QEMU itself prints in hex. ``thread``
    names a thread by its id; one without a name is shown by its id.
    """

    def __init__(
        self,
        style: Style,
        times: str,
        hex_arguments: Mapping[str, frozenset[str]],
        names: Sequence[str],
        thread: Callable[[int], str] | None = None,
    ) -> None:
        self._style = style
        self._times = times
        self._hex = hex_arguments
        self._width = min(NAME_WIDTH, max(map(len, names), default=0)) if style.terminal else 0
        self._thread = thread
        self._gap = "  " if style.terminal else " "
        self._first_ns: int | None = None
        self._last_ns = 0

    def note(self, text: str) -> str:
        """Return a line for a note between the records."""
        return self._style.paint(escaped(text), "bad")

    def lines(self, batch: Batch) -> list[str]:
        """Return the lines of a batch, a record each, safe to print."""
        stamp = self._stamp(batch)
        blocks = []
        for event, rows, values in batch.alike():
            block = LineBlock(rows)
            blocks.append(block)
            if event < 0:
                block.texts(batch.texts(rows), lambda text: self._paint(escaped(text), "faint"))
                continue
            name = batch.names[event]
            if stamp is not None:
                stamp(block)
            self._put_thread(block, batch.tid[rows])
            if values is None:
                raws = batch.raws(rows)
                block.texts(raws, partial(self._raw, name))
            else:
                block.literal(self._name(name, last=not values))
                self._arguments(block, name, values)
        return write(blocks)

    def _stamp(self, batch: Batch) -> Callable[[LineBlock], None] | None:
        """Return the function that adds the times to a block; None for no times."""
        shown = np.flatnonzero(batch.event >= 0)
        if self._times == "none" or not len(shown):
            return None
        before, after = self._colour("time")
        times = batch.time_ns
        if self._first_ns is None:
            self._first_ns = self._last_ns = int(times[shown[0]])
        if self._times == "abs":
            codes, texts = _seconds(batch)
            micros = times % _SECOND_NS // 1000

            def put(block: LineBlock) -> None:
                block.literal(before)
                block.choice(codes[block.rows], texts)
                block.literal(".")
                block.six_digits(micros[block.rows])
                block.literal(after + self._gap)

            return put
        spans = times - self._first_ns
        if self._times == "delta":
            spans[shown] = np.diff(times[shown], prepend=self._last_ns)
            self._last_ns = int(times[shown[-1]])

        def put_span(block: LineBlock) -> None:
            block.literal(before)
            block.seconds(spans[block.rows])
            block.literal(after + self._gap)

        return put_span

    def _put_thread(self, block: LineBlock, tid: NDArray[np.int32]) -> None:
        if self._thread is None:
            before, after = self._colour("faint")
            block.optional(tid.astype(np.int64), before, after + self._gap)
            return
        threads, codes = np.unique(tid, return_inverse=True)
        names = [escaped(self._thread(one)) or str(one) for one in threads.tolist()]
        shown = [self._paint(name, "faint") + self._gap for name in names]
        block.choice(
            codes, ["" if one < 0 else text for one, text in zip(threads, shown, strict=True)]
        )

    def _name(self, name: str, *, last: bool) -> str:
        """Return an event's name, padded unless it ends the line."""
        return self._paint(escaped(name).ljust(0 if last else self._width), "event")

    def _raw(self, name: str, text: str) -> str:
        """Return name and arguments of a record whose arguments could not be read."""
        return (self._name(name, last=not text) + self._gap + escaped(text)).rstrip()

    def _arguments(self, block: LineBlock, name: str, values: Mapping[str, Column]) -> None:
        in_hex = self._hex.get(name, frozenset())
        gap = self._gap
        for key, column in values.items():
            block.literal(f"{gap}{self._paint(key, 'key')}=")
            gap = " "
            if isinstance(column, StringColumn):
                block.texts(column, lambda text: f"'{escaped(text)}'")
            else:
                block.number(column, in_hex=key in in_hex)

    def _paint(self, text: str, role: str) -> str:
        return self._style.paint(text, role)

    def _colour(self, role: str) -> tuple[str, str]:
        """Return the colour codes before and after a text of that role."""
        before, _, after = self._style.paint("\0", role).partition("\0")
        return before, after


def _seconds(batch: Batch) -> tuple[NDArray[np.int64], list[str]]:
    """Return the whole second of each row as text, by codes."""
    wall = batch.arrived | (batch.clock != Clock.MONOTONIC)
    # Adjacent rows mostly have the same second: only changes are formatted.
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
