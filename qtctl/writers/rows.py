"""Format records as the rows that a terminal shows: one row a record, in columns, in colours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from qtctl.records.batch import Batch
from qtctl.records.columns import NULL, Column, StringColumn
from qtctl.records.lines import Crop, LineBlock, write, write_cropped
from qtctl.records.origins import Origin
from qtctl.text.cells import RESET, crop, width_of, wrap
from qtctl.text.style import Style, escaped
from qtctl.writers.row_times import RowTimes

_LONGEST = {"event": 36, "guest": 20, "thread": 12}
"""The most columns of names, by column."""
_LEAST_NAME = 10
_WIDE = 100
"""From so many columns on, there are two blanks between columns, and pointers are whole."""
_LEAST_WIDTH = 20
"""Below so many columns, a cropped row would show nothing: records are wrapped."""
_NARROW = 60
"""Below so many columns, threads are not shown."""
_POINTER = re.compile("0x[0-9a-f]+")
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""An odd number by which a product's upper bits depend on all bits (Fibonacci hashing)."""

HeadColumn: TypeAlias = tuple[Callable[[LineBlock], None], int]


class RowFormatter:
    """Formats records as rows of time, thread, event and arguments.

    ``times`` is abs, rel, delta or none; ``~`` marks times at which qtctl read the record.
    ``hex_arguments`` maps an event to the arguments that QEMU prints in hex. ``names`` are the
    event names to align. ``thread`` maps a thread id to its name, or to an empty text, for which
    the id is printed; without it, names are those that the records bring. Once records of a second
    process have come, each row says of which it is.

    On a terminal, a row has at most ``width`` columns and a mark where it is cropped, as are
    pointers if it is narrow. All but time, thread and event are scrolled ``left`` columns. With
    ``wrap``, it is not cropped but continues on indented rows. The same thread, pointer, number in
    hex or text has one colour everywhere, and so has an event's name.
    """

    def __init__(
        self,
        style: Style,
        times: str,
        hex_arguments: Mapping[str, frozenset[str]],
        names: Sequence[str],
        thread: Callable[[int], str] | None = None,
        *,
        wrap: bool = False,
        several: bool = False,
    ) -> None:
        self.width, self.left, self.wrap = style.width, 0, wrap
        self._style = style
        self._mark = "…" if style.unicode else "~"
        self.times = RowTimes(style, times, self._mark)
        self._palette = [style.sequences(one)[0] for one in style.theme.identities] + [""]
        self.hex_arguments = hex_arguments
        self._longest = max(map(len, names), default=0)
        self._thread = thread
        self._widths: dict[str, int] = {}
        self._first: Origin | None = None
        self._several = several

    @property
    def _wraps(self) -> bool:
        return self.wrap or self.width < _LEAST_WIDTH

    def note(self, text: str, role: str = "bad") -> str:
        """Return a message, as a line between the records."""
        return self._style.paint(text, role)

    def lines(self, batch: Batch) -> Iterable[str]:
        """Return the lines of each record, safe to print."""
        if not self._style.terminal:
            return write(self._blocks(batch))
        rows = self.rows(batch)
        return "\n".join(rows).split("\n") if rows and self._wraps else rows

    def rows(self, batch: Batch) -> list[str]:
        """Return a text per record, safe to print; with ``wrap`` it may have several lines."""
        blocks = self._blocks(batch)
        if not self._style.terminal:
            return list(write(blocks))
        if self._wraps:
            indents = np.zeros(len(batch), np.int64)
            for block in blocks:
                indents[block.rows] = block.head
            lines = zip(write(blocks), indents.tolist(), strict=True)
            return ["\n".join(wrap(line, indent, self.width)) for line, indent in lines]
        head = max((block.head for block in blocks), default=0)
        left = self.left if head < self.width else 0
        return write_cropped(blocks, Crop(self.width, left, self._mark))

    def _blocks(self, batch: Batch) -> list[LineBlock]:
        """Return the parts of the lines, events of one kind together."""
        gap = "  " if self._style.terminal and self.width >= _WIDE else " "
        columns = [self.times.column(batch, self.width, gap), *self._origins(batch, gap)]
        name_width = self._name_width()
        head = sum(size for _, size in columns) + name_width + len(gap)
        blocks = []
        for event, rows, values in batch.alike():
            block = LineBlock(rows)
            blocks.append(block)
            if event < 0:
                block.column(batch.texts(rows), lambda text: self._style.paint(text or "", "faint"))
                continue
            for append, _ in columns:
                append(block)
            block.head = head
            name = batch.names[event]
            if values is None:
                raw = partial(self._raw, cut=batch.is_cut(int(rows[0])), gap=gap)
                block.literal(self._name(name, name_width))
                block.column(batch.raws(rows), raw)
            else:
                block.literal(self._name(name, name_width if values else 0))
                self._arguments(block, name, values, gap)
        return blocks

    # The columns before the arguments: a function that appends it with its gap, and its size.

    def _origins(self, batch: Batch, gap: str) -> list[HeadColumn]:
        """Return the columns of guest and thread, where they are shown."""
        columns = []
        if guests := self._guests(batch):
            columns.append(self._names("guest", batch.origin, guests, gap))
        if not self._style.terminal or self.width >= _NARROW:
            columns.append(self._thread_column(batch, gap))
        return columns

    def _thread_column(self, batch: Batch, gap: str) -> HeadColumn:
        plain = not self._style.terminal and not self._style.colour and self._thread is None
        if plain and not any(one.thread for one in batch.origins):  # the common case, kept fast
            return lambda block: block.optional(batch.tid[block.rows], after=gap), 0
        return self._names("thread", *self._threads(batch), gap)

    def _names(
        self, column: str, codes: NDArray[Any], names: Sequence[str], gap: str
    ) -> HeadColumn:
        """Return the column of names[codes[row]], in the colours of the names."""
        width = 0
        if self._style.terminal:
            names = [crop(name, 0, 0, _LONGEST[column], self._mark) for name in names]
            width = max(self._widths.get(column, 0), *map(width_of, names), 0)
            self._widths[column] = width
        texts = [
            self._coloured(name) + " " * (width - width_of(name)) + gap if name or width else ""
            for name in names
        ]
        return lambda block: block.choice(codes[block.rows], texts), (width + len(gap)) * (
            width > 0
        )

    def _guests(self, batch: Batch) -> list[str]:
        """Return the words for each of the batch's origins; none while there is one process."""
        if not self._several and len(batch):
            codes, processes = batch.processes()
            for code in np.unique(codes[batch.event >= 0]).tolist():
                self._first = self._first or processes[code]
                self._several |= processes[code] != self._first or bool(processes[code].file)
        if not self._several:
            return []
        words = (escaped(one.words) for one in batch.origins)
        return [f"[{one}]" if one else "" for one in words]

    def _threads(self, batch: Batch) -> tuple[NDArray[Any], list[str]]:
        """Return the name of each row's thread: codes, and the distinct names."""
        named = [one.thread or "" for one in batch.origins]
        threads = batch.origin.astype(np.int64) << 32 | (batch.tid.astype(np.int64) + 1)
        distinct, codes = np.unique(threads, return_inverse=True)
        names = []
        for one in distinct.tolist():
            number = (one & 0xFFFFFFFF) - 1
            name = named[one >> 32] or (self._thread(number) if self._thread else "")
            names.append(escaped(name) or ("" if number < 0 else str(number)))
        return codes, names

    # The event and its arguments.

    def _name_width(self) -> int:
        """Return the columns of names: as many as they need, at most a third of the terminal."""
        if not self._style.terminal:
            return 0
        return min(self._longest, _LONGEST["event"], max(_LEAST_NAME, self.width // 3))

    def _name(self, name: str, width: int) -> str:
        """Return an event's name, on a terminal padded or cropped to its column."""
        text = escaped(name)
        if 0 < width < len(text) and not self._wraps:
            # Names that begin alike are told apart by their ends.
            text = self._mark + text[len(text) - width + 1 :]
        before, after = self._style.sequences(f"1;{self._style.theme.identity(name)}")
        return f"{before}{text.ljust(width)}{after}"

    def _raw(self, text: str | None, *, cut: bool, gap: str) -> str:
        """Return the raw text of a record whose arguments could not be parsed."""
        shown = escaped(text or "").rstrip()
        if self._style.colour:
            shown = _POINTER.sub(lambda found: self._number(found[0]), shown)
        note = self._style.paint("(perhaps not whole)", "faint") if cut else ""
        # Where lines are cropped, the note must not be.
        parts = (note, shown) if self._style.terminal else (shown, note)
        return "".join(gap + part for part in parts if part)

    def _arguments(
        self, block: LineBlock, name: str, values: Mapping[str, Column], gap: str
    ) -> None:
        in_hex = self.hex_arguments.get(name, frozenset())
        crops = self._style.terminal and not self._wraps and self.width < _WIDE
        short = self._mark if crops else ""
        for key, column in values.items():
            block.literal(f"{gap}{self._style.paint(f'{key}=', 'key')}")
            gap = " "
            if isinstance(column, StringColumn):
                block.column(column, self._text)
            elif key in in_hex and self._style.colour:
                block.choice(_places(column, len(self._palette)), self._palette)
                block.number(column, in_hex=True, short=short)
                block.literal(RESET)
            else:
                block.number(column, in_hex=key in in_hex, short=short)

    def _text(self, text: str | None) -> str:
        return NULL if text is None else self._coloured(f"'{escaped(text)}'", text)

    def _coloured(self, shown: str, identity: str | None = None) -> str:
        """Return a safe text in the colour of what it names, by default the text itself."""
        if not self._style.colour or not shown:
            return shown
        colour = self._style.theme.identity(shown if identity is None else identity)
        before, after = self._style.sequences(colour)
        return f"{before}{shown}{after}"

    def _number(self, text: str) -> str:
        [code] = _places(np.array([int(text, 16) & (1 << 64) - 1], np.uint64), len(self._palette))
        return f"{self._palette[code]}{text}{RESET}"


def _places(numbers: NDArray[Any], size: int) -> NDArray[Any]:
    """Return the place of each number in a palette of ``size``, whose last is that of 0."""
    places = (numbers.view(np.uint64) * _SPREAD >> np.uint64(40)) % np.uint64(size - 1)
    places[numbers == 0] = size - 1
    return places
