"""Rows of text: an aligned table on a terminal, tab-separated lines anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qtctl.text.style import Style, escaped

_GAP = "  "


def table(style: Style, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table. Cells are escaped here; too long lines are cut on a terminal."""
    return GrowingTable(style, header).lines(rows)


class GrowingTable:
    """A table whose rows come in runs: a column is as wide as its widest cell up to then."""

    def __init__(self, style: Style, header: Sequence[str]) -> None:
        self._style = style
        self._header: Sequence[str] | None = [escaped(name) for name in header]
        self._widths = list(map(len, self._header))

    def lines(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """Yield the lines of a run of rows, on a terminal with the header above the first."""
        cells = [[escaped(cell) for cell in row] for row in rows]
        if not self._style.terminal:
            yield from ("\t".join(row) for row in cells)
            return
        if not cells:
            return
        for place, width in enumerate(self._widths):
            self._widths[place] = max(width, *(len(row[place]) for row in cells))
        if self._header is not None:
            yield self._style.paint(self._line(self._header), "faint")
            self._header = None
        yield from map(self._line, cells)

    def _line(self, row: Sequence[str]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(row, self._widths, strict=True)]
        return cut(_GAP.join(padded).rstrip(), self._style.width)


def pairs(style: Style, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield ``key  value`` lines, aligned on a terminal; a value is never cut."""
    width = max((len(key) for key, _ in rows), default=0)
    for key, value in rows:
        if style.terminal:
            yield f"{style.paint(key.ljust(width), 'key')}{_GAP}{escaped(value)}"
        else:
            yield f"{key}\t{escaped(value)}"


def cut(line: str, width: int) -> str:
    """Shorten ``line`` to ``width`` columns, marking that something was left out."""
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"
