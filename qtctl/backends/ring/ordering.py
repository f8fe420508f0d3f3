"""Put the records of several processors in the order of their times."""

from __future__ import annotations

import numpy as np

from qtctl.records.batch import Batch, compacted, joined
from qtctl.records.items import Items, Loss


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
        whole = self._ordered(before_ns)
        if whole is None:
            return [*losses[:count]]
        out: Items = []
        begin = 0
        for loss in losses[:count]:
            end = int(np.searchsorted(whole.time_ns, loss.time_ns))
            if end > begin:
                out.append(whole.select(slice(begin, end)))
                begin = end
            out.append(loss)
        if begin < len(whole):
            out.append(whole.select(slice(begin, None)) if begin else whole)
        return out

    def _ordered(self, before_ns: int | None) -> Batch | None:
        """Return the records older than a time as one batch, and go on holding the others."""
        if not self._batches:
            return None
        due, self._batches = self._batches, []
        if before_ns is not None:
            self._batches = [one for one in due if one.time_ns.min() >= before_ns]
            due = [one for one in due if one.time_ns.min() < before_ns]
            if not due:
                return None
        whole = joined(due)
        if (whole.time_ns[1:] < whole.time_ns[:-1]).any():
            whole = whole.select(np.argsort(whole.time_ns, kind="stable"))
        if before_ns is None:
            return whole
        count = int(np.searchsorted(whole.time_ns, before_ns))
        if count < len(whole):
            rest = whole.select(slice(count, None))
            self._batches.insert(0, rest if len(due) == 1 else compacted(rest))
        return whole.select(slice(count))
