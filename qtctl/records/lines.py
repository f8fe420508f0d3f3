"""Formats many records as lines at once: a kernel writes columns, each text is escaped once.

``LineBlock`` collects the parts of the lines of some rows, from left to right; ``write`` makes the
text. All parts must be safe to print already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import Column, Int64Array, StringColumn
from qtctl.records.kernels import writing
from qtctl.text import cells
from qtctl.text.encoded import EncodedLines

_LONGEST = {
    writing.SIGNED: 20,
    writing.UNSIGNED: 20,
    writing.HEX: 18,
    writing.SIGNED_HEX: 19,
    writing.DIGITS: 6,
    writing.SPAN: 18,
}
"""Maximum size of a number in bytes."""


_SHORT_DIGITS = 5
_MOST_KEPT = 1 << 24


class LineBlock:
    """The lines of ``rows`` of a batch; the rows need not be adjacent.

    ``head`` is how many columns stay when the lines are scrolled sideways.
    """

    def __init__(self, rows: Int64Array) -> None:
        self.rows = rows
        self.head = 0
        self.room = len(rows)  # upper bound in bytes; one newline each
        self._plan: list[int] = []
        self._texts = b""
        self._edges: list[int] = []
        self._columns: list[NDArray[np.uint64]] = []
        self._goes_on = False  # whether the next literal may continue the last piece

    def literal(self, text: str) -> None:
        """Append the same text to every line."""
        if self._goes_on and self._plan[-1] == len(self._texts):
            encoded = text.encode()
            self._texts += encoded
            self._plan[-1] += len(encoded)
            self.room += len(encoded) * len(self.rows)
        elif text:
            self._piece(text)
            self._goes_on = True

    def _piece(self, text: str) -> None:
        """Append a literal that is a piece by itself."""
        encoded = text.encode()
        at = len(self._texts)
        self._texts += encoded
        self.room += len(encoded) * len(self.rows)
        self._plan += (writing.LITERAL, 0, at, at + len(encoded))
        self._goes_on = False

    def number(self, values: NDArray[Any], *, in_hex: bool = False, short: str = "") -> None:
        """Append integers (int64 or uint64), in decimal or as C's ``%#x``.

        ``short``: of unsigned ones in hex from 2**32 on, this mark and the last 5 digits.
        """
        if values.dtype == np.uint64:
            if in_hex and short:
                self._value(writing.HEX, values, _SHORT_DIGITS, self._text(short))
            else:
                self._value(writing.HEX if in_hex else writing.UNSIGNED, values)
        else:
            self._value(writing.SIGNED_HEX if in_hex else writing.SIGNED, values)

    def optional(
        self, numbers: NDArray[Any], before: str = "", after: str = "", instead: str = ""
    ) -> None:
        """Append numbers between two texts; for a negative one append ``instead`` instead."""
        if len(numbers) and numbers.max() < 0:
            self.literal(instead)
            return
        values = numbers.astype(np.int64)
        self._value(writing.UNLESS_NEGATIVE, values, 3)
        self._piece(before)
        self._value(writing.SIGNED, values)
        self._piece(after)
        if instead:
            self._value(writing.IF_NEGATIVE, values, 1)
            self._piece(instead)

    def fraction(self, times_ns: Int64Array, count: int) -> None:
        """Append the first ``count`` digits (at most 6) below the second of times in ns."""
        self._value(writing.DIGITS, times_ns, count, 10 ** (9 - count))

    def seconds(self, spans_ns: Int64Array) -> None:
        """Append times in ns as seconds with a sign and six decimals."""
        self._value(writing.SPAN, spans_ns)

    def choice(self, codes: NDArray[Any], texts: Sequence[str]) -> None:
        """Append texts[codes[i]] to line i."""
        if len(texts) == 1:
            self.literal(texts[0])
            return
        encoded = [text.encode() for text in texts]
        sizes = np.array([len(text) for text in encoded], np.int64)
        begins = len(self._texts) + np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        self._value(writing.CHOICE, codes.astype(np.uint64), len(self._edges))
        self._edges += begins.tolist()
        self._texts += b"".join(encoded)
        self.room += int(sizes[codes].sum())

    def column(
        self, column: Column, form: Callable[[str | None], str], *, in_hex: bool = False
    ) -> None:
        """Append numbers, or texts, of which ``form`` escapes or quotes each distinct one."""
        if isinstance(column, StringColumn):
            self.choice(column.codes, [form(text) for text in column.uniques])
        else:
            self.number(column, in_hex=in_hex)

    def _text(self, text: str) -> int:
        """Add a text, and return its number."""
        encoded = text.encode()
        self._edges += (len(self._texts), len(self._texts) + len(encoded))
        self._texts += encoded
        return len(self._edges) - 2

    def _value(self, kind: int, values: NDArray[Any], parameter: int = 0, second: int = 0) -> None:
        self.room += _LONGEST.get(kind, 0) * len(self.rows)
        self._plan += (kind, len(self._columns), parameter, second)
        self._goes_on = False
        self._columns.append(values.view(np.uint64))

    def write(self, out: NDArray[np.uint8], begin: Int64Array, stop: Int64Array, at: int) -> int:
        """Write the lines to out[at:], their offsets to ``begin`` and ``stop``; return the end."""
        values = np.concatenate(self._columns) if self._columns else np.empty(0, np.uint64)
        return writing.write_rows(
            np.array(self._plan, np.int64).data,
            self._texts,
            np.array(self._edges, np.int64).data,
            values.data,
            np.ascontiguousarray(self.rows).data,
            out.data,
            begin.data,
            stop.data,
            at,
        )


class Crop(NamedTuple):
    """Lines of ``width`` columns, scrolled ``left`` columns; ``mark`` stands where text is cut."""

    width: int
    left: int
    mark: str


class _Room(threading.local):
    """A buffer of each thread that is used again: fresh memory has to be cleared by the kernel."""

    def __init__(self) -> None:
        self._buffer = np.empty(0, np.uint8)

    def of(self, size: int) -> NDArray[np.uint8]:
        """Return at least ``size`` bytes, valid until the next call."""
        if size > _MOST_KEPT:
            return np.empty(size, np.uint8)
        if size > len(self._buffer):
            self._buffer = np.empty(size, np.uint8)
        return self._buffer


_ROOM = _Room()


def write(blocks: Sequence[LineBlock]) -> EncodedLines:
    """Return the lines of a batch in row order; the blocks together hold each row once."""
    text, begin, stop, size = _written(blocks)
    if len(blocks) < 2:
        return EncodedLines(text[:size].tobytes())
    out = np.empty(size, np.uint8)
    writing.gather(text.data, begin.data, stop.data, out.data)
    return EncodedLines(out.data)


def _written(
    blocks: Sequence[LineBlock],
) -> tuple[NDArray[np.uint8], Int64Array, Int64Array, int]:
    """Return the lines, block by block; where that of each row begins and ends; and their size."""
    rows = sum(len(block.rows) for block in blocks)
    text = _ROOM.of(sum(block.room for block in blocks))
    begin, stop = np.empty(rows, np.int64), np.empty(rows, np.int64)
    size = 0
    for block in blocks:
        block.literal("\n")
        size = block.write(text, begin, stop, size)
    return text, begin, stop, size


def write_texts(block: LineBlock) -> tuple[bytes, NDArray[np.int32]]:
    """Return the texts of a block whose rows are 0, 1, 2 and so on, and the bounds of each."""
    rows = len(block.rows)
    text, bounds = _ROOM.of(block.room), np.zeros(rows + 1, np.int64)
    size = block.write(text, np.empty(rows, np.int64), bounds[1:], 0)
    return text[:size].tobytes(), bounds.astype(np.int32)


def write_cropped(blocks: Sequence[LineBlock], crop: Crop) -> list[str]:
    """Return the lines of :func:`write` as a terminal shows them."""
    text, begin, stop, size = _written(blocks)
    if not size:
        return []
    heads, odd = np.zeros(len(begin), np.int64), np.empty(len(begin), np.uint8)
    for block in blocks:
        heads[block.rows] = block.head
    mark = crop.mark.encode()
    out = np.empty(size + len(begin) * (2 * len(mark) + 4), np.uint8)
    at = writing.crop(
        text.data,
        begin.data,
        stop.data,
        heads.data,
        crop.left,
        crop.width,
        mark,
        out.data,
        odd.data,
    )
    lines = out[: at - 1].tobytes().decode().split("\n")
    for row in np.flatnonzero(odd).tolist():
        lines[row] = cells.crop(lines[row], int(heads[row]), crop.left, crop.width, crop.mark)
    return lines
