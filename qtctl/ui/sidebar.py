"""The bar at the side of records: where in all rows the shown ones are, and what is where. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from prompt_toolkit.formatted_text import StyleAndTextTuples

from qtctl.records.columns import Int64Array

SIGNS = (
    ("loss", "!", "bold fg:ansired"),
    ("hit", "-", "bold fg:ansiyellow"),
    ("bookmark", "*", "bold fg:ansicyan"),
    ("mark", "+", "fg:ansimagenta"),
)
"""What the bar shows, in order: of several at one place the first is shown."""


def sidebar(
    height: int,
    span: tuple[int, int],
    shown: tuple[int, int],
    places: dict[str, Iterable[Int64Array] | Sequence[int]],
    *,
    unicode: bool,
) -> StyleAndTextTuples:
    """Return a bar of ``height`` rows.

    ``span`` and ``shown`` are the first row and the one behind the last, of all and of the shown.
    ``places`` has the rows of each of ``SIGNS``, ascending.
    """
    first, end = span
    size = max(1, end - first)

    # The first row of each place: looked up, as there may be a million hits.
    edges = np.minimum(first - (-np.arange(height + 1) * size // height), end)

    def at(numbers: Int64Array) -> list[int]:
        found: list[int] = np.flatnonzero(np.diff(np.searchsorted(numbers, edges))).tolist()
        return found

    signs: dict[int, tuple[str, str]] = {}
    for name, sign, look in reversed(SIGNS):
        rows = [np.asarray(one, np.int64).reshape(-1) for one in places.get(name, ())]
        for place in at(np.concatenate(rows)) if rows else ():
            signs[place] = (look, sign)
    top = (shown[0] - first) * height // size
    bottom = max(top + 1, -(-(shown[1] - first) * height // size))
    found: StyleAndTextTuples = []
    for place in range(height):
        thumb = top <= place < bottom
        line = ("┃" if thumb else "│") if unicode else ("#" if thumb else "|")
        look, sign = signs.get(place, ("" if thumb else "fg:ansibrightblack", line))
        found.append((look, sign + ("\n" if place + 1 < height else "")))
    return found
