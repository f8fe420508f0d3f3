"""Flood detection: when a stream is a flood, and which events to switch off. Pure.

More than 200,000 events or 50 MB a second for 2 seconds is reported. With a guard, the loudest
events are switched off within a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from qtctl.model import Budget

BUDGET_PER_S = 200_000
"""Events a second that are no flood yet."""
BUDGET_BYTES_PER_S = 50_000_000
"""Bytes a second that are no flood yet: they fill a disk of 1 TB in six hours."""
PATIENCE_S = 2.0
"""How long a flood must last before it is reported."""
_FORGET_S = 2.0
"""How long the rate of a switched-off event still counts records from before."""
_WINDOW_S = 1.0
_LEAST_S = 0.05


class EventRates(NamedTuple):
    """Events and bytes a second, each by the event's name."""

    per_s: Mapping[str, float]
    bytes_per_s: Mapping[str, float]

    def without(self, names: Container[str]) -> EventRates:
        """Return the rates of all but some events."""
        kept = [{n: r for n, r in one.items() if n not in names} for one in self]
        return EventRates(*kept)

    def times(self, factor: float) -> EventRates:
        """Return the rates multiplied by a factor."""
        return EventRates(*({n: r * factor for n, r in one.items()} for one in self))

    def over(self, budget: Budget) -> tuple[str, ...]:
        """Return the loudest events, without which the rest is within the budget."""
        found = dict.fromkeys(name for name, _ in loudest(self.per_s, budget.per_s))
        rest = self.without(found).bytes_per_s
        return (*found, *(name for name, _ in loudest(rest, budget.bytes_per_s)))

    def exceed(self, budget: Budget) -> bool:
        """Return whether this is more than the budget."""
        per_s, bytes_per_s = (sum(one.values()) for one in self)
        return per_s > budget.per_s or bytes_per_s > budget.bytes_per_s


@dataclass(frozen=True, slots=True)
class Verdict:
    """A flood: events and bytes a second in all, and the loudest events with their rates.

    Without the loudest, the rest is within the budget. ``guarded``: the budget is the guard's, so
    they are to be switched off.
    """

    per_s: float
    bytes_per_s: float
    loudest: tuple[tuple[str, float], ...]
    guarded: bool


def loudest(rates: Mapping[str, float], allowed: float) -> list[tuple[str, float]]:
    """Return the fewest events, loudest first, without which the rest is not over ``allowed``."""
    rest = sum(rates.values())
    found = []
    for name, per_s in sorted(rates.items(), key=lambda item: (-item[1], item[0])):
        if rest <= allowed or not per_s:
            break
        found.append((name, per_s))
        rest -= per_s
    return found


BUDGET = Budget(BUDGET_PER_S, BUDGET_BYTES_PER_S)


class FloodDetector:
    """Detects floods from rates. A flood is reported once until it ends; a guard acts at once.

    ``now_s`` is the time by one steady clock, in seconds.
    """

    def __init__(self, guard: Budget | None = None, budget: Budget = BUDGET) -> None:
        self._guard = guard
        self._budget = budget
        self._since_s: float | None = None
        self._reported = False
        self._quieted: dict[str, float] = {}

    def judge(self, now_s: float, rates: EventRates) -> Verdict | None:
        """Return the verdict if these rates are a flood to act on now, else None."""
        rates = rates.without({name for name, until in self._quieted.items() if until > now_s})
        if self._guard is not None and rates.exceed(self._guard):
            verdict = _verdict(rates, self._guard, guarded=True)
            self._quieted |= {name: now_s + _FORGET_S for name, _ in verdict.loudest}
            return verdict
        if not rates.exceed(self._budget):
            self._since_s, self._reported = None, False
        elif self._since_s is None:
            self._since_s = now_s
        elif not self._reported and now_s - self._since_s >= PATIENCE_S:
            self._reported = True
            return _verdict(rates, self._budget, guarded=False)
        return None


def _verdict(rates: EventRates, budget: Budget, *, guarded: bool) -> Verdict:
    loud = tuple((name, rates.per_s.get(name, 0.0)) for name in rates.over(budget))
    return Verdict(sum(rates.per_s.values()), sum(rates.bytes_per_s.values()), loud, guarded)


class Backlog:
    """The ratio of what is logged to what is read, over the last second.

    Rates are counted on what is read. The true ones are higher while the reader stalls or lines are
    skipped, and lower while it catches up. ``taken`` are bytes read so far, ``behind`` those that
    wait to be read.
    """

    def __init__(self, now_s: float, taken: int, behind: int) -> None:
        self._samples = deque([(now_s, taken, taken + behind, 0, 0)])
        self.logged_per_s = 0.0
        """Bytes a second that were logged, read or not, as of the last call of :meth:`factor`."""

    def factor(self, now_s: float, *, taken: int, behind: int, read: int, lost: int) -> float:
        """Return the factor from rates of read events to rates of logged events.

        ``read`` and ``lost`` are events so far.
        """
        self._samples.append((now_s, taken, taken + behind, read, lost))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - _WINDOW_S:
            self._samples.popleft()
        then_s, taken_before, logged_before, read_before, lost_before = self._samples[0]
        self.logged_per_s = max(0, taken + behind - logged_before) / max(now_s - then_s, _LEAST_S)
        new_read, new_taken = read - read_before, taken - taken_before
        if new_read <= 0 or new_taken <= 0:  # or the file was cut
            return 1.0
        skipped = (lost - lost_before) / new_read
        logged = max(0, taken + behind - logged_before) / new_taken
        return (1 + skipped) * logged
