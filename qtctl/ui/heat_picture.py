"""The picture of a heat map: rows of buckets, columns of seconds, in shades and colours. Pure.

A shade is told by its character, so that it needs no colour; where there are 256 colours, these
go with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from qtctl.analysis.heat import BUCKETS, PER_DECADE, Cells, HeatMap, ends_of
from qtctl.text.style import Style
from qtctl.ui.timeline import SECOND_NS, Timeline

_STRIDES = (1, 2, PER_DECADE, 2 * PER_DECADE, 4 * PER_DECADE, BUCKETS)
"""So many buckets may make a row: their edges are 1, 1.5, 2, 3, 5, 7; 1, 2, 5; or decades."""
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns"))
_SHADES = {True: "░▒▓█", False: ".:=#"}
_LEVELS = 8
_LEAST_LABELLED = 24
_TICK_S = 10
CURSOR = "\x1b[7m"
_END = "\x1b[0m"


def edge_words(length_ns: int) -> str:
    """Return the edge of a bucket with a unit: ``1.5 ms``."""
    size, unit = next(((s, u) for s, u in _UNITS if length_ns >= s), _UNITS[-1])
    return f"{length_ns / size:g} {unit}"


@dataclass(frozen=True, slots=True)
class Frame:
    """What of a map is drawn: from the second ``first`` on, and from the bucket ``low`` upwards.

    A row has ``stride`` buckets; ``label`` columns are left of the seconds.
    """

    first: int
    columns: int
    low: int
    rows: int
    stride: int
    label: int

    @classmethod
    def fit(cls, heat: HeatMap, right: int, height: int, width: int) -> Frame:
        """Return the frame with the narrowest buckets that fit, up to the second ``right``."""
        low, high = (heat.low, heat.high) if heat.high >= 0 else (0, 0)
        stride = next(s for s in _STRIDES if high // s - low // s < max(1, height))
        rows = high // stride - low // stride + 1
        # A margin shows that there is nothing beyond.
        below = rows < height and low >= stride
        above = rows + below < height and (high // stride + 1) * stride < BUCKETS
        bottom = (low // stride - below) * stride
        rows += below + above
        edges = [ends_of(bottom + row * stride)[0] for row in range(rows)]
        label = max(map(len, map(edge_words, edges))) + 1 if width >= _LEAST_LABELLED else 0
        columns = max(1, width - label)
        return cls(right - columns + 1, columns, bottom, rows, stride, label)

    def row_of(self, bucket: int) -> int:
        """Return the row of a bucket, the lowest is 0, or the nearest to it."""
        return max(0, min(self.rows - 1, (bucket - self.low) // self.stride))

    def buckets(self, row: int) -> tuple[int, int]:
        """Return the first bucket of a row, and how many it has."""
        first = self.low + row * self.stride
        return first, min(self.stride, BUCKETS - first)

    def cells(self, heat: HeatMap) -> Cells:
        """Return the counts: a row of the picture for each row, the lowest first."""
        cells = heat.cells(self.first, self.columns)[:, self.low :]
        wanted = self.rows * self.stride
        whole = np.zeros((self.columns, wanted), np.uint32)
        whole[:, : cells.shape[1]] = cells[:, :wanted]
        summed: Cells = whole.reshape(self.columns, self.rows, self.stride).sum(2, np.uint32).T
        return summed


def levels(counts: Cells, most: int) -> Cells:
    """Return how intense each count is, 0 to 8, on a scale of logarithms; only 0 is 0."""
    found: Cells = np.ceil(_LEVELS * np.log1p(counts) / np.log1p(max(1, most))).astype(np.uint32)
    return np.minimum(found, _LEVELS)


def picture(
    style: Style, frame: Frame, cells: Cells, cursor: tuple[int, int] | None
) -> Iterator[str]:
    """Yield a line for each row, the highest bucket first; ``cursor`` is its row and column."""
    shown = levels(cells, int(cells.max(initial=0)))
    for row in reversed(range(frame.rows)):
        column = cursor[1] if cursor is not None and cursor[0] == row else None
        words = edge_words(ends_of(frame.buckets(row)[0])[0]) if frame.label else ""
        label = words.rjust(max(0, frame.label - 1)) + " " * bool(frame.label)
        label = style.paint(label, "key") if column is None else f"{CURSOR}{label}{_END}"
        yield label + _row(style, shown[row].tolist(), column)


def _row(style: Style, intensities: list[int], cursor: int | None) -> str:
    parts: list[str] = []
    place = 0
    for level, run in groupby(intensities):
        length = len(list(run))
        if cursor is not None and place <= cursor < place + length:
            shade = shade_of(style, level)
            parts += _run(style, level, cursor - place), f"{CURSOR}{shade}{_END}"
            parts.append(_run(style, level, place + length - cursor - 1))
        else:
            parts.append(_run(style, level, length))
        place += length
    return "".join(parts)


def _run(style: Style, level: int, length: int) -> str:
    heat = style.theme.heat
    before, after = style.sequences(heat[level - 1]) if level and heat else ("", "")
    return f"{before}{shade_of(style, level) * length}{after}" if length else ""


def shade_of(style: Style, level: int) -> str:
    """Return the character of an intensity."""
    return " " if level == 0 else _SHADES[style.unicode][(level - 1) // 2]


def legend(style: Style, most: int) -> str:
    """Return from which count on each shade stands, for the greatest count ``most``."""
    if most < 1:
        return ""
    edges = np.expm1(np.arange(0, _LEVELS, 2) / _LEVELS * np.log1p(most))
    counts = np.floor(edges + 1e-9).astype(np.int64) + 1
    counts = counts[counts <= most]
    found: dict[int, str] = {}
    for count in counts.tolist():
        level = int(levels(np.array([count], np.uint32), most)[0])
        found[count] = shade_of(style, level)
    return " ".join(f"{shade}{count:,}" for count, shade in found.items())


def axis(
    style: Style, frame: Frame, lost: list[bool], timeline: Timeline, column: int | None
) -> str:
    """Return the line below the rows: the time of every tenth second.

    ``!`` stands where records were lost, ``^`` below the selected second.
    """
    cells, free = [" "] * frame.columns, 0
    for place in range(frame.columns):
        second = frame.first + place
        if second % _TICK_S == 0 and place >= free:
            words = timeline.clock_words(second * SECOND_NS)
            if place + len(words) <= frame.columns:
                cells[place : place + len(words)] = words
                free = place + len(words) + 1
    for place in range(frame.columns):
        if lost[place]:
            cells[place] = "!"
    if column is not None:
        cells[column] = "^"
    return " " * frame.label + style.paint("".join(cells), "faint")
