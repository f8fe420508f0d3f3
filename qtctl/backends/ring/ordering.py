"""Put the records of several processors in the order of their times."""

from __future__ import annotations

import numpy as np

from qtctl.records.batch import Batch, compacted, joined
from qtctl.records.items import Items, Loss

_LARGE = 4096
"""So many rows are a batch of their own if no others lie between them."""


class Ordering:
    """Holds items until no earlier one can come, and returns them by time.

    Batches are of one kind (see ``batch.joined``). A loss stands before the first record that is
    not older than it.
    """

    def __init__(self) -> None:
        self._batches: list[Batch] = []
        self._losses: list[Loss] = []

    def __bool__(self) -> bool:
        return bool(self._batches) or bool(self._losses)

    def add(self, items: Items) -> None:
        """Hold items of one processor."""
        for item in items:
            if isinstance(item, Loss):
                self._losses.append(item)
            else:
                self._batches.append(item)

    def take(self, before_ns: int | None = None) -> Items:
        """Return what is older than a time, or all, in order."""
        losses = sorted(self._losses, key=lambda loss: loss.time_ns)
        count = len(losses)
        if before_ns is not None:
            count = sum(loss.time_ns < before_ns for loss in losses)
        self._losses = losses[count:]
        due = losses[count - 1 :: -1] if count else []
        out: Items = []
        for whole in self._ordered(before_ns):
            begin = 0
            while due and due[-1].time_ns <= whole.time_ns[-1]:
                end = int(np.searchsorted(whole.time_ns, due[-1].time_ns))
                if end > begin:
                    out.append(whole.select(slice(begin, end)))
                    begin = end
                out.append(due.pop())
            out.append(whole.select(slice(begin, None)) if begin else whole)
        return [*out, *reversed(due)]

    def _ordered(self, before_ns: int | None) -> list[Batch]:
        """Return the records older than a time, and go on holding the others."""
        held, self._batches = self._batches, []
        found: list[Batch] = []
        for group in _groups(held):
            if before_ns is not None and min(int(one.time_ns.min()) for one in group) >= before_ns:
                self._batches += group
                continue
            whole = joined(group)
            if (whole.time_ns[1:] < whole.time_ns[:-1]).any():
                whole = whole.select(np.argsort(whole.time_ns, kind="stable"))
            count = len(whole)
            if before_ns is not None:
                count = int(np.searchsorted(whole.time_ns, before_ns))
            if count < len(whole):
                rest = whole.select(slice(count, None))
                alone = len(group) == 1 and 2 * len(rest) > len(whole)
                self._batches.append(rest if alone else compacted(rest))
                whole = whole.select(slice(count))
            found.append(whole)
        return found


def _groups(batches: list[Batch]) -> list[list[Batch]]:
    """Group batches that are to be sorted together: those that overlap, and small ones."""
    if len(batches) < 2:
        return [batches] if batches else []
    spans = [(int(one.time_ns.min()), int(one.time_ns.max())) for one in batches]
    order = sorted(range(len(batches)), key=lambda number: spans[number][0])
    groups: list[list[int]] = []
    latest, rows = 0, 0
    for number in order:
        if groups and (spans[number][0] < latest or rows + len(batches[number]) < _LARGE):
            groups[-1].append(number)
            latest, rows = max(latest, spans[number][1]), rows + len(batches[number])
        else:
            groups.append([number])
            latest, rows = spans[number][1], len(batches[number])
    return [[batches[number] for number in sorted(group)] for group in groups]
