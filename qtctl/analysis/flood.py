"""When a stream floods, and which events to quiet: decisions only, no clock, no guest.

Over 200,000 events or 50 MB a second for 2 seconds is said; with a guard, what is loudest goes off
within a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Mapping
from dataclasses import dataclass

from qtctl.model import Budget

BUDGET_PER_S = 200_000
"""Events a second that are still nobody's trouble."""
BUDGET_BYTES_PER_S = 50_000_000
"""Bytes a second that are: a disk of 1 TB would be full in six hours."""
PATIENCE_S = 2.0
"""How long a flood has to last before it is told."""
_FORGET_S = 2.0
"""How long the rate of an event that was switched off still counts what came before that."""
_WINDOW_S = 1.0
_LEAST_S = 0.05


@dataclass(frozen=True, slots=True)
class Heard:
    """Events and bytes a second, each by the event's name."""

    per_s: Mapping[str, float]
    bytes_per_s: Mapping[str, float]

    def without(self, names: Container[str]) -> Heard:
        """Return the same without some."""
        kept = [{n: r for n, r in one.items() if n not in names} for one in self._both()]
        return Heard(*kept)

    def times(self, factor: float) -> Heard:
        """Return so many times as much of each."""
        return Heard(*({n: r * factor for n, r in one.items()} for one in self._both()))

    def _both(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        return self.per_s, self.bytes_per_s

    def over(self, budget: Budget) -> tuple[str, ...]:
        """Return the loudest events, without which the rest is within the budget."""
        found = dict.fromkeys(name for name, _ in loudest(self.per_s, budget.per_s))
        rest = self.without(found).bytes_per_s
        return (*found, *(name for name, _ in loudest(rest, budget.bytes_per_s)))

    def passes(self, budget: Budget) -> bool:
        """Tell whether this is more than the budget has."""
        per_s, bytes_per_s = (sum(one.values()) for one in self._both())
        return per_s > budget.per_s or bytes_per_s > budget.bytes_per_s


@dataclass(frozen=True, slots=True)
class Verdict:
    """A flood: all events and bytes a second, the loudest first with their events a second.

    Without those the rest is no flood. ``guarded``: over what was asked not to be passed, so these
    are to be switched off.
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


class Pilot:
    """Watches rates. A flood is told once, and again only after it has ended; a guard acts at once.

    ``now_s`` is the time by one steady clock, in seconds.
    """

    def __init__(self, guard: Budget | None = None, budget: Budget = BUDGET) -> None:
        self._guard = guard
        self._budget = budget
        self._since_s: float | None = None
        self._told = False
        self._quieted: dict[str, float] = {}

    def judge(self, now_s: float, said: Heard) -> Verdict | None:
        """Say whether these rates are a flood to act on now."""
        heard = said.without({name for name, until in self._quieted.items() if until > now_s})
        if self._guard is not None and heard.passes(self._guard):
            verdict = _verdict(heard, self._guard, guarded=True)
            self._quieted |= {name: now_s + _FORGET_S for name, _ in verdict.loudest}
            return verdict
        if not heard.passes(self._budget):
            self._since_s, self._told = None, False
        elif self._since_s is None:
            self._since_s = now_s
        elif not self._told and now_s - self._since_s >= PATIENCE_S:
            self._told = True
            return _verdict(heard, self._budget, guarded=False)
        return None


def _verdict(heard: Heard, budget: Budget, *, guarded: bool) -> Verdict:
    loud = tuple((name, heard.per_s.get(name, 0.0)) for name in heard.over(budget))
    return Verdict(sum(heard.per_s.values()), sum(heard.bytes_per_s.values()), loud, guarded)


class Backlog:
    """How much more, or less, is said than is read, over the last second.

    What was read tells the rates. Where its reader stalls or lines are skipped, they are higher;
    where it catches up, they are lower.
    ``taken`` are bytes read so far, ``behind`` those that wait to be.
    """

    def __init__(self, now_s: float, taken: int, behind: int) -> None:
        self._samples = deque([(now_s, taken, taken + behind, 0, 0)])
        self.said_per_s = 0.0
        """Bytes a second that were said, read or not, as of the last call of :meth:`factor`."""

    def factor(self, now_s: float, *, taken: int, behind: int, read: int, lost: int) -> float:
        """Return what rates of read events are to be multiplied with.

        ``read`` and ``lost`` are events so far.
        """
        self._samples.append((now_s, taken, taken + behind, read, lost))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - _WINDOW_S:
            self._samples.popleft()
        then_s, taken_before, said_before, read_before, lost_before = self._samples[0]
        self.said_per_s = max(0, taken + behind - said_before) / max(now_s - then_s, _LEAST_S)
        new_read, new_taken = read - read_before, taken - taken_before
        if new_read <= 0 or new_taken <= 0:  # or the file was cut
            return 1.0
        skipped = (lost - lost_before) / new_read
        said = max(0, taken + behind - said_before) / new_taken
        return (1 + skipped) * said
