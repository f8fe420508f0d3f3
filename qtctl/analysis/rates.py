"""Rates of records by event, by thread or by the value of an argument: counts on columns.

A batch costs a few array operations and one look-up for each distinct value in it, at most
``GROUPS`` of them, so time and memory do not depend on the values that the guest logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from qtctl.analysis.groups import EVENT, GUEST, LONGEST, TID
from qtctl.records.batch import Batch
from qtctl.records.columns import Int64Array, StringColumn

OWN = (EVENT, TID, GUEST)
"""Group by a property of the record, not by an argument."""
GROUPS = 1024
"""At most so many values are counted separately; the rarest are counted together."""
HISTORY_S = 60
_STEPS = 5
"""Time slots of a quarter of the window each: four, and the current one."""

Key: TypeAlias = int | str | None
"""The value by which records are grouped: event name, thread id or argument; None: no value."""
Sort: TypeAlias = Literal["rate", "bytes", "name", "total"]
SORTS: tuple[Sort, ...] = get_args(Sort)


class _Others:
    """The key of all groups that are counted together."""

    def __repr__(self) -> str:
        return "OTHERS"


OTHERS = _Others()
_Group: TypeAlias = tuple[list[Key | _Others], Int64Array, Int64Array]
"""Keys, and the records and bytes of each."""


@dataclass(frozen=True, slots=True)
class Rate:
    """One group: records and bytes a second over the window, and in all since counting began.

    ``history`` has the records of each of the last ``HISTORY_S`` seconds, oldest first, up to the
    current second. Bytes are those of the records as the backend wrote them.
    """

    key: Key | _Others
    per_s: float
    bytes_per_s: float
    total: int
    total_bytes: int
    history: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The sorted groups, the rest as one group (None: no rest), and the sum of all."""

    rows: tuple[Rate, ...]
    others: Rate | None
    whole: Rate

    def keyed(self) -> Iterator[tuple[Key, Rate]]:
        """Yield the key of each row with the row."""
        for rate in self.rows:
            if not isinstance(rate.key, _Others):
                yield rate.key, rate

    def share(self, rate: Rate) -> float:
        """Return a group's share of the records of the window, 0 to 1."""
        return rate.per_s / self.whole.per_s if self.whole.per_s else 0.0


class _TimeSlots:
    """Records and bytes of groups in the last few time slots of ``step_s`` each."""

    def __init__(self, slots: int, step_s: float, now_s: float) -> None:
        self._step_s = step_s
        self._slots = slots
        self._now = int(now_s / step_s)
        self.values = np.zeros((slots, 2, GROUPS + 1), np.int64)

    def advance(self, now_s: float) -> None:
        """Move to the slot of ``now_s`` and clear slots that are too old. Time never goes back."""
        now = max(self._now, int(now_s / self._step_s))
        passed = min(now - self._now, self._slots)
        self.values[np.arange(now - passed + 1, now + 1) % self._slots] = 0
        self._now = now

    def add(self, values: Int64Array) -> None:
        """Add the records and bytes of each group to the current slot."""
        self.values[self._now % self._slots] += values

    def sums(self) -> Int64Array:
        """Return the records and bytes of each group, over all slots."""
        sums: Int64Array = self.values.sum(axis=0)
        return sums

    def history(self) -> Int64Array:
        """Return the records of each group in each slot, oldest first."""
        order = np.arange(self._now + 1, self._now + 1 + self._slots) % self._slots
        records: Int64Array = self.values[order, 0]
        return records

    def began_s(self) -> float:
        """Return the time at which the oldest slot began."""
        return (self._now - self._slots + 1) * self._step_s


class Rates:
    """Counts the batches given to :meth:`take`, grouped by one of ``OWN``, or an argument's name.

    Rates are over the last ``window_s`` seconds, or since the object was made if that is less.
    ``now_s`` is the time of one monotonic clock, in seconds, everywhere. A record without the
    argument has the key None. Lines of text are not counted, and texts are compared by their first
    200 characters.

    At most ``GROUPS`` keys are counted separately. When they become many, the rarest of the last
    minute are added to the others, and are counted from zero when they come again.
    """

    def __init__(self, now_s: float, by: str = "event", window_s: float = 1.0) -> None:
        self.by = by
        self._began_s = now_s
        self._places: dict[Key, int] = {}
        self._free = list(range(GROUPS))
        self._step_s = window_s / (_STEPS - 1)
        self._window = _TimeSlots(_STEPS, self._step_s, now_s)
        self._minute = _TimeSlots(HISTORY_S, 1.0, now_s)
        self._totals = np.zeros((2, GROUPS + 1), np.int64)

    def take(self, batch: Batch, now_s: float) -> None:
        """Count a batch that came at ``now_s``."""
        self._advance(now_s)
        if len(self._free) < GROUPS // 4:
            self._make_room()
        for keys, counts, sizes in self._groups(batch):
            places = [self._place(key) for key in keys]
            more = np.array([_sums(places, values, GROUPS + 1) for values in (counts, sizes)])
            self._window.add(more)
            self._minute.add(more)
            self._totals += more

    def _advance(self, now_s: float) -> None:
        self._window.advance(now_s)
        self._minute.advance(now_s)

    def _place(self, key: Key | _Others) -> int:
        if isinstance(key, _Others):
            return GROUPS
        if key not in self._places:
            if not self._free:
                return GROUPS
            self._places[key] = self._free.pop()
        return self._places[key]

    def _make_room(self) -> None:
        """Move the counts of the rarer half of the groups to the others."""
        recent = self._minute.sums()[0, :GROUPS]
        recent[self._free] = np.iinfo(np.int64).max
        gone = np.argsort(recent, kind="stable")[: GROUPS // 2]
        for values in (self._window.values, self._minute.values, self._totals):
            values[..., GROUPS] += values[..., gone].sum(axis=-1)
            values[..., gone] = 0
        dropped = set(gone.tolist())
        self._places = {key: at for key, at in self._places.items() if at not in dropped}
        self._free += dropped

    def _groups(self, batch: Batch) -> Iterator[_Group]:
        size = batch.stop - batch.start
        if self.by not in OWN:
            for event, rows in batch.groups().items():
                if event >= 0:
                    yield from _by_argument(batch, event, self.by, size[rows])
            return
        events = batch.event >= 0
        if self.by == EVENT:
            yield _by_code(batch.event[events], batch.names, size[events])
        elif self.by == GUEST:
            codes, processes = batch.processes()
            yield _by_code(codes[events], [one.words for one in processes], size[events])
        else:
            keys, counts, sizes = _by_number(batch.tid[events], size[events])
            yield [None if key == -1 else key for key in keys], counts, sizes

    def per_s(self, now_s: float) -> float:
        """Return the records a second of all groups together, at ``now_s``."""
        self._advance(now_s)
        return float(self._window.sums()[0].sum()) / self._span_s(now_s)

    def _span_s(self, now_s: float) -> float:
        """Return how many seconds the window covers."""
        return max(self._step_s / 5, now_s - max(self._began_s, self._window.began_s()))

    def snapshot(
        self,
        now_s: float,
        sort: Sort = "rate",
        limit: int | None = None,
        second: int | None = None,
    ) -> Snapshot:
        """Return the rates at ``now_s``: the first ``limit`` groups by ``sort``, and the rest.

        With ``second``, one of the last ``HISTORY_S``, they are the rates in that second.
        """
        self._advance(now_s)
        if second is None:
            per_s, bytes_per_s = self._window.sums() / self._span_s(now_s)
        else:
            per_s, bytes_per_s = self._minute.values[second % HISTORY_S].astype(np.float64)
        total, total_bytes = self._totals
        history = self._minute.history()

        def rate(key: Key | _Others, places: list[int]) -> Rate:
            return Rate(
                key,
                float(per_s[places].sum()),
                float(bytes_per_s[places].sum()),
                int(total[places].sum()),
                int(total_bytes[places].sum()),
                tuple(history[:, places].sum(axis=1).tolist()),
            )

        keys = sorted(self._places, key=_name_order)
        if sort != "name":
            first = {"rate": per_s, "bytes": bytes_per_s, "total": total}[sort].tolist()
            then = total.tolist()  # what is quiet now stays in an order, too
            keys.sort(key=lambda key: (-first[at := self._places[key]], -then[at]))
        shown = keys if limit is None else keys[:limit]
        rows = tuple(rate(key, [self._places[key]]) for key in shown)
        others = rate(OTHERS, [GROUPS, *(self._places[key] for key in keys[len(shown) :])])
        whole = rate(OTHERS, list(range(GROUPS + 1)))
        return Snapshot(rows, others if others.total else None, whole)


def _name_order(key: Key) -> tuple[int, int, str]:
    """Return the sort key: numbers, then texts, then None."""
    if key is None:
        return 2, 0, ""
    return (1, 0, key) if isinstance(key, str) else (0, key, "")


def _sums(places: Any, values: Int64Array, size: int) -> Int64Array:
    """Return the sums of values by place; exact, because no sum comes near 2^53."""
    return np.bincount(places, values, size).astype(np.int64)


def _by_argument(batch: Batch, event: int, name: str, size: Int64Array) -> Iterator[_Group]:
    """Group the rows of one event, ``size`` bytes each, by an argument."""
    declaration = batch.table.declaration(event)
    arguments = () if declaration is None else [one.name for one in declaration.arguments]
    # As in filters: event_ is the argument, event the record's name.
    name = name if name in arguments else name.removesuffix("_")
    columns = batch.arguments(event) if name in arguments else None
    column = None if columns is None else columns.values.get(name)
    if columns is None or column is None:
        yield [None], np.array([len(size)]), np.array([size.sum()])
        return
    good = columns.ok
    if not good.all():
        yield [None], np.array([len(size) - good.sum()]), np.array([size[~good].sum()])
    if isinstance(column, StringColumn):
        taken = column.take(good)
        yield _by_code(taken.codes, taken.uniques, size[good])
    else:
        yield _by_number(column[good], size[good])


def _by_code(codes: NDArray[np.int32], texts: Sequence[str | None], size: Int64Array) -> _Group:
    """Group rows by a text that a code stands for."""
    keys, counts, sizes = _most(np.arange(len(texts)), codes, size)
    shown = [None if text is None else text[:LONGEST] for text in texts]
    return [key if key is OTHERS else shown[key] for key in keys], counts, sizes


def _by_number(values: NDArray[Any], size: Int64Array) -> _Group:
    """Group rows by a number."""
    uniques = np.unique(values)
    return _most(uniques, np.searchsorted(uniques, values), size)


def _most(
    values: NDArray[Any], codes: NDArray[Any], size: Int64Array
) -> tuple[list[Any], Int64Array, Int64Array]:
    """Keep the most frequent values separate, which bounds the cost of a batch."""
    counts = np.bincount(codes, minlength=len(values))
    sizes = _sums(codes, size, len(values))
    seen = np.flatnonzero(counts)
    if len(seen) <= GROUPS:
        return values[seen].tolist(), counts[seen], sizes[seen]
    seen = seen[np.argsort(-counts[seen], kind="stable")]
    top, rest = seen[:GROUPS], seen[GROUPS:]
    return (
        [*values[top].tolist(), OTHERS],
        np.append(counts[top], counts[rest].sum()),
        np.append(sizes[top], sizes[rest].sum()),
    )
