"""Histograms as lines of bars, and times as people say them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from qtctl.text.style import Style
from qtctl.text.tables import cut

if TYPE_CHECKING:
    from qtctl.analysis.distribution import Bar

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MOST_WIDTH = 50
_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"))


def duration_words(time_ns: float) -> str:
    """Return a time in ns in its own unit, three digits or more: ``873 ns``, ``52.1 us``."""
    for size, unit in _UNITS:
        # What would be rounded up to the next unit is that already.
        if abs(time_ns) >= size * 0.9995:
            value = time_ns / size
            digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
            return f"{value:.{digits}f} {unit}"
    return f"{time_ns:.0f} ns"


def histogram(
    style: Style, bars: Sequence[Bar], label: Callable[[int], str] = str
) -> Iterator[str]:
    """Yield a line for each bar; ``label`` writes the ends of bars.

    Off a terminal: low end, high end (exclusive) and count, separated by tabs, as plain numbers.
    """
    if not style.terminal:
        yield from (f"{bar.low}\t{bar.high}\t{bar.count}" for bar in bars)
        return
    lows, highs = ([label(end) for end in ends] for ends in _ends(bars))
    counts = [str(bar.count) for bar in bars]
    low, high, size = (max(map(len, texts), default=0) for texts in (lows, highs, counts))
    most = max((bar.count for bar in bars), default=0)
    room = min(_MOST_WIDTH, style.width - (low + high + size + 7))
    for bar, *texts in zip(bars, lows, highs, counts, strict=True):
        ends = f"{texts[0]:>{low}} .. {texts[1]:>{high}}"
        count = f"{texts[2]:>{size}}"
        drawn = style.paint(_bar(bar.count, most, room, unicode=style.unicode), "good")
        if room > 0:
            yield f"{style.paint(ends, 'key')}  {count} {drawn}".rstrip()
        else:
            yield cut(f"{ends}  {count}", style.width)


def _ends(bars: Sequence[Bar]) -> tuple[list[int], list[int]]:
    return [bar.low for bar in bars], [bar.high for bar in bars]


def _bar(count: int, most: int, width: int, *, unicode: bool) -> str:
    """Draw a bar; what is not nothing is seen."""
    if not count or width < 1:
        return ""
    if not unicode:
        return "#" * max(1, round(width * count / most))
    whole, rest = divmod(max(1, round(8 * width * count / most)), 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")
