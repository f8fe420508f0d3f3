"""Tables: drawn by rich on a terminal, tab-separated lines elsewhere.

rich is imported on first use, and only for a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

from qtctl.text.style import Style, escaped

if TYPE_CHECKING:
    from rich.console import JustifyMethod, RenderableType
    from rich.style import Style as RichStyle
    from rich.text import Text

RoleOf = Callable[[str], str | None]
"""Returns the role (see ``theme.ROLES``) of a cell by its text, or None for no colour."""
Roles = Mapping[str, RoleOf]
"""Maps the names of coloured columns to such functions."""

_GAP = 2
_LEAST_VALUE = 12
_NUMBER = re.compile(
    r"[-+]?\d[\d,]*(?:\.\d+)?(?:[kMGTPE]i?B?|B|%| %|x| (?:[num]s|s))?|-|0x[0-9a-f]+"
)
_LEAST_WIDTH = 6
_HEIGHT = 1 << 20
_COLOURS: Mapping[int, Literal["standard", "256"]] = {16: "standard", 256: "256"}


def table(
    style: Style,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    roles: Roles | None = None,
) -> Iterator[str]:
    """Yield the lines of a table, with all cells escaped.

    On a terminal, a column of numbers is right-aligned. Cells of the others are shortened, with an
    ellipsis, where the terminal is too narrow. Columns that do not fit even so are left out, and
    counted in the header.
    """
    return GrowingTable(style, header, roles=roles).lines(rows)


class GrowingTable:
    """A table whose rows come in several runs; its columns never become narrower."""

    def __init__(self, style: Style, header: Sequence[str], *, roles: Roles | None = None) -> None:
        self._style = style
        self._header = [escaped(name) for name in header]
        self._roles = [(roles or {}).get(name) for name in header]
        self._widths = list(map(_width, self._header))
        self._numbers: list[bool] = []
        self.hidden = 0
        """So many columns at the right were left out of the rows so far."""

    def lines(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """Yield the lines of a run of rows; on a terminal, the header precedes the first run."""
        cells = [[escaped(cell) for cell in row] for row in rows]
        if not self._style.terminal:
            yield from ("\t".join(row) for row in cells)
        elif cells:
            yield from self._drawn(cells)

    def _drawn(self, rows: list[list[str]]) -> Iterator[str]:
        from rich.table import Table
        from rich.text import Text

        columns = list(zip(*rows, strict=True))
        first = not self._numbers
        if first:
            # A cell of ``-`` is an unknown number.
            for column in columns:
                self._numbers.append(all(map(_NUMBER.fullmatch, column)) and set(column) != {"-"})
        for place, column in enumerate(columns):
            self._widths[place] = max(self._widths[place], *map(_width, column))
        drawn = Table.grid(padding=(0, _GAP, 0, 0))
        cells = []
        fitting = self._fitting()
        self.hidden = len(columns) - len(fitting)
        for place, width in enumerate(fitting):
            justify: JustifyMethod = "right" if self._numbers[place] else "left"
            drawn.add_column(justify=justify, width=width)
            texts = [_text(self._style, self._header[place], "faint")] if first else []
            role_of = self._roles[place] or (lambda text: None)
            texts += [_text(self._style, text, role_of(text)) for text in columns[place]]
            # One cell per column: rich takes four times as long with a cell per row.
            cells.append(Text("\n", no_wrap=True, overflow="ellipsis").join(texts))
        if self.hidden and first:
            drawn.add_column(no_wrap=True)
            cells.append(_text(self._style, self._mark(len(fitting)), "faint"))
        drawn.add_row(*cells)
        yield from render(self._style, drawn, least=sum(fitting) + _GAP * len(cells) + 2)

    def _fitting(self) -> list[int]:
        """Return the widths of the columns that fit the terminal, from the first on.

        Columns of text are narrowed to ``_LEAST_WIDTH``, numbers only if they are alone.
        """
        count = len(self._widths)
        least = [
            width if number else min(width, _LEAST_WIDTH)
            for width, number in zip(self._widths, self._numbers, strict=True)
        ]

        def room() -> int:
            mark = _GAP + len(self._mark(count)) if count < len(self._widths) else 0
            return self._style.width - _GAP * (count - 1) - mark

        while count > 1 and sum(least[:count]) > room():
            count -= 1
        widths = self._widths[:count]
        while sum(widths) > room() and widths != least[:count]:
            widths[max(range(count), key=lambda place: widths[place] - least[place])] -= 1
        return widths if count > 1 else [max(1, min(widths[0], room()))]

    def _mark(self, fitting: int) -> str:
        """Return the header's last word where only ``fitting`` columns fit."""
        return f"+{len(self._widths) - fitting}"


def pairs(style: Style, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield ``key  value`` lines; on a terminal they are aligned, and long values are wrapped.

    Values are never shortened.
    """
    if not style.terminal:
        yield from (f"{key}\t{escaped(value)}" for key, value in rows)
        return
    from rich.table import Table

    keys = max((len(key) for key, _ in rows), default=0)
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    grid.add_column(no_wrap=True, min_width=keys)
    grid.add_column(overflow="fold")
    for key, value in rows:
        grid.add_row(_text(style, key, "key"), _text(style, escaped(value)))
    yield from render(style, grid, least=keys + _GAP + _LEAST_VALUE)


def panel(style: Style, title: str, lines: Sequence[str]) -> Iterator[str]:
    """Yield ``lines``, which must be safe to print and may be coloured, in a titled frame."""
    from rich import box
    from rich.panel import Panel
    from rich.text import Text

    yield from render(
        style,
        Panel(
            Text("\n").join(map(Text.from_ansi, lines)),
            title=_text(style, title, "key"),
            title_align="left",
            box=box.ROUNDED if style.unicode else box.ASCII,
            border_style="dim" if style.colour else "none",
        ),
    )


def render(style: Style, drawing: RenderableType, *, least: int = 1) -> Iterator[str]:
    """Yield the lines that rich draws at the style's width, without trailing blanks.

    The width is at least ``least``: a narrower terminal wraps the lines.
    """
    from rich.console import Console

    console = Console(
        width=max(style.width, least),
        height=_HEIGHT,
        color_system=_COLOURS.get(style.theme.depth, "truecolor") if style.colour else None,
        force_terminal=style.colour,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
        _environ={},
    )
    with console.capture() as captured:
        console.print(drawing)
    text = captured.get() if style.unicode else captured.get().replace("…", "~")
    yield from (line.rstrip() for line in text.splitlines())


def cut(line: str, width: int) -> str:
    """Return ``line`` shortened to ``width`` columns, with an ellipsis."""
    if _width(line) <= width:
        return line
    if line.isascii():
        return line[: max(0, width - 1)] + "…"
    from rich.cells import set_cell_size

    return set_cell_size(line, max(0, width - 1)) + "…"


def _width(text: str) -> int:
    """Return the width of a text in columns; East Asian wide characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _text(style: Style, text: str, role: str | None = None) -> Text:
    from rich.text import Text

    if not role or not style.colour:
        return Text(text)
    return Text(text, _rich_style(style.theme.roles[role]))


@cache
def _rich_style(parameters: str) -> str | RichStyle:
    """Return a style of rich's with the parameters of an SGR."""
    from rich.text import Text

    spans = Text.from_ansi(f"\x1b[{parameters}mx").spans
    return spans[0].style if spans else ""
