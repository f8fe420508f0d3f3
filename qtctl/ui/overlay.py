"""What stands in place of the rows of a view until it is left: help, a text, an opened record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from qtctl.text.cells import wrap
from qtctl.text.style import Style, escaped
from qtctl.ui.actions import ACTIONS, ViewAction, help_lines
from qtctl.ui.marked_spans import MarkedSpans
from qtctl.ui.opened import Opened
from qtctl.ui.records import Records

_HANGING = 4
_LEAST_OTHERS = 3
"""So many records of the same request are listed, behind the last row if need be."""


class Overlay:
    """Help (from the line ``help_top`` on), a text, a comparison of spans, or an opened record."""

    def __init__(self) -> None:
        self.helping = False
        self.help_top = 0
        self.told = ""
        self.spans = MarkedSpans()
        self.comparing = False
        self.opened: Opened | None = None

    def __bool__(self) -> bool:
        return self.reading or self.opened is not None

    @property
    def reading(self) -> bool:
        """Whether it is something in which nothing is selected."""
        return self.helping or self.comparing or bool(self.told)

    def remove(self) -> None:
        """Show the rows again."""
        self.helping = self.comparing = False
        self.opened, self.told = None, ""

    def turn_help(self) -> None:
        """Show help, or no more."""
        self.helping, self.help_top = not self.helping, 0

    def up(self, rows: int, records: Records) -> None:
        """Scroll help up, or select in an opened record."""
        if self.helping:
            self.help_top = max(0, min(len(ACTIONS) - 1, self.help_top - rows))
        elif self.opened is not None:
            self.opened.move(-rows, records.rows_found(self.opened.others))

    def mark_span(self, name: str, row: int, records: Records) -> str:
        """Mark a row as an end of a span, and compare spans once there are two; return a note."""
        note = self.spans.mark(name, row)
        self.comparing = self.spans.whole
        if self.comparing:
            self.spans.compare(records.rows)
        return note

    @property
    def keys(self) -> str:
        """What keys do here, in words."""
        if self.helping:
            return "Down: more, Esc: back"
        if self.opened is None:
            return "Esc: back"
        if self.opened.other is not None:
            return "Enter, p: to this record, Esc: back"
        return "f: filter by it, b: rates by it, p: next of the request, Esc: back"

    def lines(
        self,
        style: Style,
        actions: Sequence[ViewAction],
        records: Records,
        thread_name: Callable[[int], str],
        size: tuple[int, int],
    ) -> tuple[Sequence[str], int]:
        """Return the lines for ``size`` rows and columns, and the place of the selected one."""
        rows, width = size
        if self.helping:
            return help_lines(actions)[self.help_top :], -1
        if self.told:
            return list(wrap(escaped(self.told), _HANGING, width)), -1
        if self.comparing:
            return list(self.spans.lines(replace(style, width=width))), -1
        if (opened := self.opened) is None:
            return (), -1
        tid = opened.record.tid
        thread = "" if tid is None else f"{tid} {thread_name(tid)}".rstrip()
        whole = opened.lines(style, thread)
        lines = [row for line in whole for row in wrap(line, _HANGING, width)]
        selected = next((n for n, line in enumerate(lines) if line.startswith(">")), -1)
        if opened.others is None:
            return lines, selected
        room = max(_LEAST_OTHERS, rows - len(lines))
        here = opened.number if opened.other is None else opened.other
        others = records.lines_found(opened.others, here, room, width)
        opened.listed = [number for number, _ in others]
        if opened.other in opened.listed:
            selected = len(lines) + opened.listed.index(opened.other)
        return lines + [line for _, line in others], selected
