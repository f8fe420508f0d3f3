"""One record opened: its typed arguments, its declaration, and the others of its request. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from qtctl.analysis.pairs import request_names
from qtctl.model import Clock, Declaration
from qtctl.records.batch import Batch
from qtctl.records.columns import NULL, BoolArray, Record, StringColumn
from qtctl.records.filters import spelt
from qtctl.text.style import Style, escaped
from qtctl.text.units import ABOUT
from qtctl.ui.finder import Finder, Holds
from qtctl.ui.scrollback import VisibleRows


@dataclass(slots=True)
class Opened:
    """A record that is shown whole; ``argument`` is the place of the selected one in its arguments.

    ``number`` is its row, ``time`` its whole time. ``others`` finds the records of the same
    request; None: it has none. Behind the last argument, one of those is selected: ``other`` is
    its row. ``listed`` are the rows of those that were drawn last.
    """

    record: Record
    number: int
    declaration: Declaration | None
    source: str
    in_hex: frozenset[str]
    time: str
    argument: int = 0
    others: Finder | None = field(init=False)
    other: int | None = None
    listed: Sequence[int] = ()

    def __post_init__(self) -> None:
        self.others = None
        if holds := same_request(self.record, self.declaration):
            self.others = Finder(holds, lambda note: False)

    def move(self, down: int, others: VisibleRows) -> None:
        """Select what is ``down`` further down: an argument, or one of the ``others``."""
        if self.other is None:
            last = len(self.record.args) - 1
            if self.argument + down > max(0, last) and self.listed:
                self.argument, self.other = max(0, last), self.listed[0]
            else:
                self.argument = max(0, min(last, self.argument + down))
            return
        way = others.up(self.other) if down < 0 else others.down(self.other)
        steps = list(islice(way, abs(down) + 1))
        at_top = down < 0 and len(steps) <= 1
        self.other = None if at_top or not steps else steps[-1]

    @property
    def selected(self) -> tuple[str, int | str | None] | None:
        """The selected argument and its value; None if the record has none."""
        pairs = list(self.record.args.items())
        return pairs[self.argument] if pairs else None

    @property
    def filter(self) -> str:
        """The expression that holds for records with the selected value; empty without one."""
        if self.selected is None:
            return ""
        name, value = self.selected
        shown = self._shown(name, value) if isinstance(value, int) else repr(value)
        return f"{spelt(name)} == {shown}"

    def _shown(self, name: str, value: int | str | None) -> str:
        if value is None:
            return NULL
        if isinstance(value, str):
            return f"'{escaped(value)}'"
        return f"{value:#x}" if name in self.in_hex else str(value)

    def lines(self, style: Style, thread: str) -> list[str]:
        """Return the lines that show it, above the rows of the same request."""
        record = self.record
        late = record.clock is Clock.ARRIVAL
        facts = [
            ("time", f"{ABOUT * late}{self.time} ({record.clock.value}, {record.time_ns} ns)"),
            ("thread", thread),
            ("backend", record.backend + (f", {words}" if (words := record.origin.words) else "")),
        ]
        declared = self.declaration
        types = {one.name: one.ctype for one in declared.arguments} if declared else {}
        width = max(map(len, [*record.args, "backend"]))
        column = max(map(len, types.values()), default=0)

        def row(key: str, text: str, mark: str = " ") -> str:
            return f"{mark} {style.paint(key.ljust(width), 'key')}  {text}"

        lines = [style.paint(record.name, "event")]
        lines += [row(key, escaped(text)) for key, text in facts if text]
        for place, (name, value) in enumerate(record.args.items()):
            kind = style.paint(types.get(name, "").ljust(column), "faint")
            mark = ">" if place == self.argument and self.other is None else " "
            lines.append(row(name, f"{kind}  {self._shown(name, value)}", mark))
        if record.raw is not None:
            lines.append(row("text", escaped(record.raw) + " (perhaps not whole)" * record.cut))
        if declared is None:
            lines.append(style.paint("not declared: its arguments stay text", "faint"))
        else:
            lines.append(row("format", escaped(declared.format)))
            lines.append(style.paint(f"declared in {self.source}:{declared.line}", "faint"))
        if self.others is not None:
            request = _request(record, declared)
            key = " ".join(f"{name}={self._shown(name, value)}" for name, value in request)
            lines += ["", style.paint(f"the same request ({key}):", "faint")]
        return lines


def _request(record: Record, declaration: Declaration | None) -> list[tuple[str, int]]:
    names = request_names(declaration) if declaration else []
    values = ((name, record.args.get(name)) for name in names)
    return [(name, value) for name, value in values if isinstance(value, int) and value]


def same_request(record: Record, declaration: Declaration | None) -> Holds | None:
    """Return what holds for records of the same request; None if nothing names it."""
    values = dict(_request(record, declaration))
    if not values:
        return None

    def holds(batch: Batch) -> BoolArray:
        found = np.zeros(len(batch), np.bool_)
        for event in batch.groups():
            declared = None if event < 0 else batch.table.declaration(event)
            shared = set(request_names(declared)) & set(values) if declared else ()
            if not shared:
                continue
            columns = batch.arguments(event)
            same = columns.ok.copy()
            for name in shared:
                column = columns.values.get(name)
                if column is None or isinstance(column, StringColumn):
                    same[:] = False
                else:
                    same &= column.astype(np.uint64) == np.uint64(values[name] & (1 << 64) - 1)
            found[columns.rows] = same
        return found

    return holds
