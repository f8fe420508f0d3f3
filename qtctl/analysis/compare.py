"""Comparing two runs of a guest: events, rates, order and latencies."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from qtctl.analysis.distribution import Statistics
from qtctl.analysis.latency import Latency, Question
from qtctl.analysis.spans import Span
from qtctl.errors import UsageError
from qtctl.model import Clock, Declaration
from qtctl.records.batch import Batch
from qtctl.records.columns import Int64Array
from qtctl.records.items import Item, Loss
from qtctl.records.origins import Origin

_SUFFIXES = (
    ("_submit", "_complete"),
    ("_start", "_complete"),
    ("_start", "_end"),
    ("_start", "_done"),
    ("_begin", "_end"),
    ("_enter", "_exit"),
    ("_enter", "_return"),
    ("_entry", "_exit"),
    ("_entry", "_return"),
    ("_issue", "_complete"),
)
_FEWEST = 10
"""An event must have occurred so often for its successors to be compared."""

Pair = tuple[str, str]


def pairs_among(names: Sequence[str], declared: Mapping[str, Declaration]) -> dict[Pair, Question]:
    """Return the pairs of START and END events that names and arguments make obvious."""
    have = set(names)
    found: dict[Pair, Question] = {}
    for begin, end in _SUFFIXES:
        for start in names:
            other = start.removesuffix(begin) + end
            if start.endswith(begin) and other in have:
                try:
                    found[start, other] = Question.ask(start, other, names, declared, "")
                except UsageError:
                    continue  # their common arguments do not identify a pair
    return found


@dataclass(slots=True)
class Profile:
    """Counts of one run, updated as it is read.

    ``follows[a * len(names) + b]`` is how often event ``names[b]`` came right after ``names[a]``,
    on one thread of one process where these are known. ``first`` is the position of each event's
    first record.
    """

    names: Sequence[str]
    latencies: dict[Pair, Latency]
    counts: Int64Array = field(init=False)
    first: dict[str, int] = field(default_factory=dict)
    follows: Counter[int] = field(default_factory=Counter)
    _spans: dict[Clock, Span] = field(default_factory=dict)
    _before: dict[tuple[Origin, int], int] = field(default_factory=dict)
    _read: int = 0

    def __post_init__(self) -> None:
        self.counts = np.zeros(len(self.names), np.int64)

    @property
    def seconds(self) -> float | None:
        """Length of the run; None where its records are not all on one clock."""
        if len(self._spans) != 1:
            return None
        [span] = self._spans.values()
        return span.length_ns / 1e9 or None

    @property
    def arrived(self) -> bool:
        """Whether ``seconds`` is by times at which qtctl read the records."""
        return set(self._spans) == {Clock.ARRIVAL}

    def take(self, item: Item) -> None:
        """Count an item."""
        if isinstance(item, Batch):
            events = item.select(item.event >= 0)
            if len(events):
                self._count(events)
                self._follow(events)
                present = {self.names[event] for event in events.groups()}
                for (start, end), latency in self.latencies.items():
                    if start in present or end in present:
                        latency.take(events)
        elif isinstance(item, Loss):
            self._before.clear()
            for latency in self.latencies.values():
                latency.take(item)

    def _count(self, batch: Batch) -> None:
        self.counts += np.bincount(batch.event, minlength=len(self.names))
        for event, rows in batch.groups().items():
            self.first.setdefault(self.names[event], self._read + int(rows[0]))
        self._read += len(batch)
        for late, clock in ((False, batch.clock), (True, Clock.ARRIVAL)):
            times = batch.time_ns[batch.arrived == late]
            if len(times):
                self._spans.setdefault(clock, Span()).take(times)

    def _follow(self, batch: Batch) -> None:
        """Count successions, thread by thread, continuing from the previous batch."""
        for process, rows in batch.by_process():
            self._follow_threads(process, rows)

    def _follow_threads(self, process: Origin, batch: Batch) -> None:
        order = np.argsort(batch.tid, kind="stable")
        tid, event = batch.tid[order], batch.event[order].astype(np.int64)
        size = len(self.names)
        same = tid[1:] == tid[:-1]
        self._add((event[:-1] * size + event[1:])[same])
        starts = np.flatnonzero(np.append(True, ~same))
        ends = np.append(starts[1:], len(tid)) - 1
        heads = zip(tid[starts].tolist(), event[starts].tolist(), event[ends].tolist(), strict=True)
        joints = []
        for thread, first, last in heads:
            before = self._before.get((process, thread))
            if before is not None:
                joints.append(before * size + first)
            self._before[process, thread] = last
        self._add(np.array(joints, np.int64))

    def _add(self, keys: NDArray[np.int64]) -> None:
        found, counts = np.unique(keys, return_counts=True)
        self.follows.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))

    def occurrences(self) -> Counter[str]:
        """Return how often each event occurred."""
        return Counter(dict(zip(self.names, self.counts.tolist(), strict=True)))


@dataclass(frozen=True, slots=True)
class EventChange:
    """An event in both runs: counts, and rates a second (None: unknown)."""

    name: str
    counts: tuple[int, int]
    rates: tuple[float, float] | None

    @property
    def change(self) -> float | None:
        """Ratio of the second run to the first, by rate if known; None if one has no record."""
        one, two = self.rates or self.counts
        return two / one if one and two else None


@dataclass(frozen=True, slots=True)
class Succession:
    """``after`` came right after ``before``: counts, and shares of all successors of ``before``."""

    before: str
    after: str
    counts: tuple[int, int]
    shares: tuple[float, float]

    @property
    def change(self) -> float:
        """The increase of the share, from -1 to 1."""
        return self.shares[1] - self.shares[0]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The differences of two runs; each list has the greatest change first.

    ``events`` are those of either run; ``order`` are successions of events of both; ``moved`` are
    events whose first occurrence changed its order; ``latencies`` are of pairs in both.
    """

    seconds: tuple[float | None, float | None]
    events: list[EventChange]
    moved: list[str]
    order: list[Succession]
    latencies: list[tuple[Question, tuple[Statistics, Statistics]]]


def compare(one: Profile, two: Profile) -> Comparison:
    """Compare two profiles."""
    occurred = one.occurrences(), two.occurrences()
    seconds = one.seconds, two.seconds
    events = []
    for name in dict.fromkeys(chain(one.first, two.first)):
        counts = occurred[0][name], occurred[1][name]
        rates = None
        if seconds[0] is not None and seconds[1] is not None:
            rates = counts[0] / seconds[0], counts[1] / seconds[1]
        events.append(EventChange(name, counts, rates))
    events.sort(key=_by_change)
    spreads = []
    for pair, latency in one.latencies.items():
        other = two.latencies.get(pair)
        if other is not None:
            both = latency.spans.statistics(), other.spans.statistics()
            if both[0].count and both[1].count:
                spreads.append((latency.question, both))
    spreads.sort(key=lambda found: -abs(_ratio(found[1])))
    common = [name for name in one.first if name in two.first]
    often = {name for name in common if min(counts[name] for counts in occurred) >= _FEWEST}
    return Comparison(seconds, events, _moved(common, one, two), _order(one, two, often), spreads)


def _by_change(both: EventChange) -> tuple[int, float]:
    """Return the sort key: events of one run only first, by count; then by change of rate."""
    change = both.change
    if change is None:
        return 0, -max(both.counts)
    return 1, -abs(float(np.log(change)))


def _ratio(both: tuple[Statistics, Statistics]) -> float:
    medians = [spread.percentiles([0.5])[0] for spread in both]
    return float(np.log((medians[1] + 1) / (medians[0] + 1)))


def _moved(common: list[str], one: Profile, two: Profile) -> list[str]:
    """Return the events whose first occurrences changed order: all but the longest common order."""
    first = sorted(common, key=lambda name: one.first[name])
    ranks = [two.first[name] for name in first]
    # The longest rising subsequence, by patience sorting: tails[k] ends one of k + 1.
    tails: list[int] = []
    links: list[int] = []
    for place, rank in enumerate(ranks):
        at = bisect_left(tails, rank, key=ranks.__getitem__)
        links.append(tails[at - 1] if at else -1)
        tails[at : at + 1] = [place]
    kept, place = set(), tails[-1] if tails else -1
    while place >= 0:
        kept.add(first[place])
        place = links[place]
    return [name for name in first if name not in kept]


def _order(one: Profile, two: Profile, wanted: set[str]) -> list[Succession]:
    """Compare the successions of events that occurred often enough in both runs."""
    shares = [_shares(profile, wanted) for profile in (one, two)]
    found = []
    for pair in dict.fromkeys(chain(*shares)):
        (n, share), (m, other) = (side.get(pair, (0, 0.0)) for side in shares)
        found.append(Succession(*pair, (n, m), (share, other)))
    return sorted(found, key=lambda f: -abs(f.change))


def _shares(profile: Profile, wanted: set[str]) -> dict[Pair, tuple[int, float]]:
    """Return the count of each succession, and its share of all successors of its first event."""
    size, names = len(profile.names), profile.names
    pairs = {
        (names[key // size], names[key % size]): count for key, count in profile.follows.items()
    }
    kept = {pair: count for pair, count in pairs.items() if wanted.issuperset(pair)}
    totals = Counter[str]()
    for (before, _), count in kept.items():
        totals[before] += count
    return {pair: (count, count / totals[pair[0]]) for pair, count in kept.items()}


def profile_of(
    names: Sequence[str],
    declared: Mapping[str, Declaration],
    asked: Iterable[tuple[str, str, tuple[str, ...] | None]],
    source: str,
) -> Profile:
    """Return an empty profile that measures the obvious pairs and those ``asked`` for.

    Raises:
        UsageError, NothingMatched: a pair that was asked for cannot be measured.
    """
    questions = pairs_among(names, declared)
    for start, end, key in asked:
        questions[start, end] = Question.ask(start, end, names, declared, source, key=key)
    return Profile(names, {pair: Latency(question) for pair, question in questions.items()})
