"""Merging items by time, row by row: those of several files, or of several guests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from qtctl.records.batch import Batch, joined, kind_of
from qtctl.records.columns import Int64Array
from qtctl.records.items import Item


class Row(NamedTuple):
    """An item that is to come, with a time for each of its rows that does not fall."""

    item: Item
    times: Int64Array


def divide(rows: Sequence[Row], until: int | None) -> tuple[list[Row], list[Row]]:
    """Return what stands at ``until`` or before it, and the rest; None: there is no rest."""
    taken, left = list[Row](), list[Row]()
    for row in rows:
        count = len(row.times)
        if until is not None:
            count = int(np.searchsorted(row.times, until, "right"))
        if count == len(row.times):
            taken.append(row)
        elif isinstance(row.item, Batch) and count:
            taken.append(Row(row.item.select(slice(count)), row.times[:count]))
            left.append(Row(row.item.select(slice(count, None)), row.times[count:]))
        else:
            left.append(row)
    return taken, left


def merged(rows: Sequence[Row]) -> list[Item]:
    """Return items in the order of their times; those of equal times in the order given."""
    if len(rows) < 2:
        return [row.item for row in rows]
    kinds: dict[object, list[Batch]] = {}
    kind, place = [], []
    for number, row in enumerate(rows):
        if isinstance(row.item, Batch):
            own = kind_of(row.item)
            alike = kinds.setdefault(own, [])
            kind.append(np.full(len(row.times), list(kinds).index(own)))
            first = sum(map(len, alike))
            place.append(np.arange(first, first + len(row.times)))
            alike.append(row.item)
        else:
            kind.append(np.full(1, -1 - number))
            place.append(np.zeros(1, np.int64))
    whole = [joined(batches) for batches in kinds.values()]
    order = np.argsort(np.concatenate([row.times for row in rows]), kind="stable")
    sorted_kinds, places = np.concatenate(kind)[order], np.concatenate(place)[order]
    begins = [0, *(np.flatnonzero(np.diff(sorted_kinds)) + 1).tolist(), len(order)]
    items: list[Item] = []
    for begin, end in pairwise(begins):
        number = int(sorted_kinds[begin])
        if number < 0:
            items.append(rows[-1 - number].item)
        else:
            items.append(whole[number].select(places[begin:end]))
    return items
