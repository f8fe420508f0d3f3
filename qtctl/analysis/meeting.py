"""Where two runs that differ go on alike; pure, on columns of fingerprints."""

from __future__ import annotations

import numpy as np

from qtctl.analysis.fingerprints import UInt64Array, combined
from qtctl.records.columns import BoolArray, Int64Array

ALIKE = 8
"""So many records in a row must be equal for two runs to go on alike."""
_CANDIDATES = 32


def first_true(mask: BoolArray, otherwise: int) -> int:
    """Return the place of the first true value."""
    found = np.flatnonzero(mask)
    return int(found[0]) if len(found) else otherwise


def meeting_place(one: UInt64Array, two: UInt64Array) -> tuple[int, int] | None:
    """Return near places in both from which the most fingerprints are equal, at least `ALIKE`."""
    grams = [np.lib.stride_tricks.sliding_window_view(side, ALIKE) for side in (one, two)]
    first, second = (combined(*(gram[:, place] for place in range(ALIKE))) for gram in grams)
    size = min(len(first), len(second))
    straight = np.flatnonzero(first[:size] == second[:size])[:1]
    mine, others = _occurring(first, second)
    back, forth = _occurring(second, first)
    places = np.stack([[*straight, *mine, *forth], [*straight, *others, *back]], axis=1)
    far = places.max(axis=1)
    near = places[np.argsort(far, kind="stable")[:_CANDIDATES]].astype(int).tolist()

    def gain(place: list[int]) -> int:
        a, b = one[place[0] :], two[place[1] :]
        length = min(len(a), len(b))
        return first_true(a[:length] != b[:length], length) - max(place)

    best = max(near, key=gain, default=None)
    return None if best is None else (best[0], best[1])


def _occurring(some: UInt64Array, other: UInt64Array) -> tuple[Int64Array, Int64Array]:
    """Return the places of numbers that occur in ``other``, and where they do so first."""
    found, places = np.unique(other, return_index=True)
    at = np.minimum(np.searchsorted(found, some), len(found) - 1)
    mine = np.flatnonzero(found[at] == some)
    return mine, places[at[mine]]
