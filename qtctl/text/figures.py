"""Figures for people: short numbers, and a run of numbers as a line of bars."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = ".:-=+*#%@"
_SCALE = ("", "k", "M", "G", "T", "P", "E")


def short(value: float) -> str:
    """Return a number of at least 0 in five characters or less: ``0.4``, ``12``, ``1.23M``."""
    if 0 < value < 9.95:
        return f"{value:.1f}".removesuffix(".0")
    for unit in _SCALE:
        if value < 999.5:
            return (
                f"{value:.{0 if value >= 99.95 or not unit else 1 if value >= 9.995 else 2}f}{unit}"
            )
        value /= 1000
    return "huge"


def sparkline(values: Sequence[int], width: int, *, unicode: bool = True) -> str:
    """Return ``width`` bars, each for an equal share of ``values`` in their order.

    Heights are relative to the highest; nothing at all is a blank, so that little shows.
    """
    if width < 1 or not values:
        return ""
    bounds = [len(values) * place // width for place in range(width + 1)]
    sums = [sum(values[begin:stop]) for begin, stop in pairwise(bounds)]
    bars, most = _BARS if unicode else _ASCII_BARS, max(sums)
    top = len(bars) - 1
    return "".join(bars[round(top * one / most)] if one else " " for one in sums)
