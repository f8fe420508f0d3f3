"""Rows of text: an aligned table on a terminal, tab-separated lines anywhere else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qtctl.text.style import Style, escaped

_GAP = "  "


def table(style: Style, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table. Cells are escaped here; too long lines are cut on a terminal."""
    cells = [[escaped(cell) for cell in row] for row in rows]
    if not style.terminal:
        yield from ("\t".join(row) for row in cells)
        return
    if not cells:
        return
    everything = [list(header), *cells]
    widths = [max(len(row[i]) for row in everything) for i in range(len(header))]
    for number, row in enumerate(everything):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = cut(_GAP.join(padded).rstrip(), style.width)
        yield style.paint(line, "faint") if number == 0 else line


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
