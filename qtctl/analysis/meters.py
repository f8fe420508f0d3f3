"""Figures of a stream that only grow, for systems that collect metrics: by guest and event.

The number of series is bounded: by the events of a guest and, where records are counted apart by
an argument, by a limit of its values.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from qtctl.analysis.counts import check_argument
from qtctl.analysis.distribution import Statistics
from qtctl.analysis.groups import OWN, TID, Groups
from qtctl.analysis.latency import Latency, Question, Spans
from qtctl.analysis.pairs import PairCounts
from qtctl.errors import UsageError
from qtctl.model import Declaration, Kind
from qtctl.records.batch import Batch
from qtctl.records.items import Item, Loss
from qtctl.records.printf import hex_arguments

BOUNDS_NS = [(1 << power) - 1 for power in range(10, 37)]
"""Bounds of histograms, from 1 microsecond to 69 seconds.

They are a nanosecond below powers of two, so that counts are exact: latencies are whole
nanoseconds, and counted between powers of two.
"""
_NO_REASONS = ("paired", "in_flight")
_REASONS = ("disordered", "mixed", "arrived")


class Meter(NamedTuple):
    """Records, and their bytes as the backend wrote them, of an event and a value in words."""

    guest: str
    event: str
    value: str
    records: int
    size: int


class GuestLosses(NamedTuple):
    """Records of a guest that were lost, and the number of losses of unknown size."""

    guest: str
    records: int
    unknown: int


class Pair(NamedTuple):
    """A pair of events that is measured: as it was asked for, and checked."""

    start: str
    end: str
    question: Question


OnSpans: TypeAlias = Callable[[Pair, Spans], None]


class Measured(NamedTuple):
    """The latencies of a pair in a guest up to now, in ns; ``left_out`` are records, by reason."""

    guest: str
    pair: Pair
    spans: Statistics
    in_flight: int
    left_out: Mapping[str, int]

    def cumulated(self) -> list[int]:
        """Return how many latencies are at or below each of ``BOUNDS_NS``."""
        bars = iter(self.spans.log2())
        bar, total, found = next(bars, None), 0, []
        for bound in BOUNDS_NS:
            while bar is not None and bar.high <= bound + 1:
                total += bar.count
                bar = next(bars, None)
            found.append(total)
        return found


class Label(NamedTuple):
    """An argument, or ``tid``, by whose values records are counted apart.

    The first ``limit`` values are; later ones are counted together. ``in_hex``: QEMU prints them
    in hex.
    """

    name: str
    limit: int
    in_hex: bool = False

    @classmethod
    def ask(
        cls, name: str, limit: int, picked: Sequence[str], declared: Mapping[str, Declaration]
    ) -> Label:
        """Check that records of the events ``picked`` can be counted apart by ``name``.

        Raises:
            UsageError: no event has such an argument, or it is a pointer.
        """
        if name == TID:
            return cls(name, limit)
        if name in OWN:
            raise UsageError(
                f"--by {name}: guest and event are labels already, and there are no files",
                hint="--by ARG, an argument of the events",
            )
        check_argument(name, picked, declared, number=False)
        known = [declared[one] for one in picked if one in declared]
        if any((name, Kind.POINTER) == (a.name, a.kind) for one in known for a in one.arguments):
            raise UsageError(
                f"{name} is a pointer, and each of its values would be a series",
                hint=f"qtctl count --by {name}, or an argument with few values",
            )
        return cls(name, limit, any(name in hex_arguments(one) for one in known))

    def words(self, value: int | str | None) -> str:
        """Return a value as it stands in a label; empty for a record without one."""
        if value is None:
            return ""
        return f"{value:#x}" if self.in_hex and isinstance(value, int) else str(value)


class Meters:
    """Counts the records of a stream, and measures pairs in it.

    ``guest`` names the guest of records that name none; of several guests, all records do, and it
    is None. One thread may take items while others
    read the figures. ``on_spans`` gets the spans that are in the figures of a pair, once they are.
    """

    def __init__(
        self,
        guest: str | None,
        pairs: Sequence[Pair] = (),
        by: Label | None = None,
        on_spans: OnSpans | None = None,
    ) -> None:
        self.by = by
        self._on_spans = on_spans
        self._guest = guest or ""
        self._pairs = pairs
        self._values = Groups(by.limit if by is not None else 0)
        self._lock = threading.Lock()
        self._meters: dict[tuple[str, str, int], tuple[int, int]] = {}
        self._losses = {} if guest is None else {guest: (0, 0)}
        self._latencies: dict[str, list[Latency]] = {}

    def take(self, item: Item) -> None:
        """Count an item of the stream."""
        with self._lock:
            if isinstance(item, Batch):
                for origin, batch in item.by_process():
                    self._count(origin.guest or self._guest, batch)
            elif isinstance(item, Loss):
                guest = item.guest or self._guest
                lost, unknown = self._losses.get(guest, (0, 0))
                more = (lost, unknown + 1) if item.count is None else (lost + item.count, unknown)
                self._losses[guest] = more
                for latency in self._latencies.get(guest, ()):
                    latency.lose()

    def _count(self, guest: str, batch: Batch) -> None:
        """Count records of one process."""
        size = batch.stop - batch.start
        for event, rows in batch.groups().items():
            if event < 0:
                continue
            numbers = np.zeros(len(rows), np.int32)
            if self.by is not None:
                numbers = self._values.of_rows(batch, event, self.by.name)
            counts, sizes = np.bincount(numbers), np.bincount(numbers, size[rows])
            for number in np.flatnonzero(counts).tolist():
                key = guest, batch.names[event], number
                records, held = self._meters.get(key, (0, 0))
                more = records + int(counts[number]), held + int(sizes[number])
                self._meters[key] = more
        if self._pairs:
            if guest not in self._latencies:
                self._latencies[guest] = [self._latency(pair) for pair in self._pairs]
            for latency in self._latencies[guest]:
                latency.take(batch)

    def _latency(self, pair: Pair) -> Latency:
        told = None if self._on_spans is None else partial(self._on_spans, pair)
        return Latency(pair.question, on_spans=told)

    def settle(self) -> None:
        """Add what is measured to the figures: no later record takes it away."""
        with self._lock:
            for found in self._latencies.values():
                for latency in found:
                    latency.settle()

    def records(self) -> list[Meter]:
        """Return the records so far: a row for each guest, event and value that occurred."""
        with self._lock:
            words = [""]
            if self.by is not None:
                words = [self.by.words(value) for value in self._values.values]
            return [
                Meter(guest, event, words[number], *figures)
                for (guest, event, number), figures in self._meters.items()
            ]

    def losses(self) -> list[GuestLosses]:
        """Return the losses so far."""
        with self._lock:
            return [GuestLosses(guest, *figures) for guest, figures in self._losses.items()]

    def latencies(self) -> list[Measured]:
        """Return the latencies so far, of each pair in each guest of which a record came."""
        with self._lock:
            return [
                Measured(
                    guest,
                    pair,
                    latency.spans.statistics(),
                    latency.counts.in_flight,
                    _left_out(latency),
                )
                for guest, found in self._latencies.items()
                for pair, latency in zip(self._pairs, found, strict=True)
            ]


def _left_out(latency: Latency) -> dict[str, int]:
    counted = [one.name for one in fields(PairCounts) if one.name not in _NO_REASONS]
    found = {name: getattr(latency.counts, name) for name in counted}
    return found | {name: getattr(latency, name) for name in _REASONS}
