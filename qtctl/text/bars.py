"""Draw histograms (by rich, on a terminal) and sparklines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from qtctl.text.style import Style
from qtctl.text.tables import render

_MOST_WIDTH = 50
_LEAST_WIDTH = 4
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = ".:-=+*#%@"


class _Bucket(Protocol):
    """A bar of a histogram: the ``count`` of values from ``low`` to below ``high``."""

    @property
    def low(self) -> int: ...
    @property
    def high(self) -> int: ...
    @property
    def count(self) -> int: ...


def histogram(
    style: Style, buckets: Sequence[_Bucket], label: Callable[[int], str] = str
) -> Iterator[str]:
    """Yield a line per bucket; ``label`` formats its bounds.

    If the output is not a terminal: low bound, high bound (exclusive) and count as plain numbers,
    separated by tabs.
    """
    if not style.terminal:
        yield from (f"{one.low}\t{one.high}\t{one.count}" for one in buckets)
        return
    if not buckets:
        return
    from rich.bar import Bar
    from rich.table import Table
    from rich.text import Text

    rows = [(label(one.low), label(one.high), str(one.count)) for one in buckets]
    low, high, count = (max(map(len, column)) for column in zip(*rows, strict=True))
    room = min(_MOST_WIDTH, style.width - (low + high + count + 7))
    grid = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(2 + (room >= _LEAST_WIDTH)):
        grid.add_column(no_wrap=True, overflow="ellipsis")
    most = max(one.count for one in buckets)
    for one, (first, last, number) in zip(buckets, rows, strict=True):
        ends = style.paint(f"{first:>{low}} .. {last:>{high}} ", "key")
        cells: list[Text | Bar] = [Text.from_ansi(ends), Text(f"{number:>{count}}")]
        length = max(room * one.count / most, 1 / 8) if one.count else 0.0  # always visible
        if room >= _LEAST_WIDTH and style.unicode:
            cells.append(Bar(room, 0, length, width=room, color="green"))
        elif room >= _LEAST_WIDTH:
            marks = "#" * max(one.count > 0, round(length))
            cells.append(Text.from_ansi(style.paint(marks, "good")))
        grid.add_row(*cells)
    yield from render(style, grid)


def sparkline(values: Sequence[int], width: int, *, unicode: bool = True) -> str:
    """Return ``width`` bars, each the sum of an equal share of ``values``, in order.

    Heights are relative to the highest; a blank is zero, the lowest bar is more than zero.
    """
    if width < 1 or not values:
        return ""
    bounds = [len(values) * place // width for place in range(width + 1)]
    sums = [sum(values[begin:stop]) for begin, stop in pairwise(bounds)]
    bars, most = _BARS if unicode else _ASCII_BARS, max(sums)
    top = len(bars) - 1
    return "".join(bars[round(top * one / most)] if one else " " for one in sums)
