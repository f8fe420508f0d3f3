"""When a stream floods, and which events to quiet: decisions only, no clock, no guest.

``PROMISES``: over 200,000 events a second for 2 seconds is said; with a guard, what is loudest goes
off within a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

BUDGET_PER_S = 200_000
"""Events a second that are still nobody's trouble."""
PATIENCE_S = 2.0
"""How long a flood has to last before it is told."""
_FORGET_S = 2.0
"""How long the rate of an event that was switched off still counts what came before that."""
_WINDOW_S = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """A flood: all events a second, the loudest first with theirs, enough of them to end it.

    ``guarded``: over what was asked not to be passed, so these are to be switched off.
    """

    per_s: float
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


class Pilot:
    """Watches rates. A flood is told once, and again only after it has ended; a guard acts at once.

    ``now_s`` is the time by one steady clock, in seconds.
    """

    def __init__(self, guard: int | None = None, budget: int = BUDGET_PER_S) -> None:
        self._guard = guard
        self._budget = budget
        self._since_s: float | None = None
        self._told = False
        self._quieted: dict[str, float] = {}

    def judge(self, now_s: float, rates: Mapping[str, float]) -> Verdict | None:
        """Say whether these rates, in events a second by name, are a flood to act on now."""
        heard = {
            name: per_s for name, per_s in rates.items() if self._quieted.get(name, now_s) <= now_s
        }
        total = sum(heard.values())
        if self._guard is not None and total > self._guard:
            found = loudest(heard, self._guard)
            self._quieted |= dict.fromkeys((name for name, _ in found), now_s + _FORGET_S)
            return Verdict(total, tuple(found), True)
        if total <= self._budget:
            self._since_s, self._told = None, False
        elif self._since_s is None:
            self._since_s = now_s
        elif not self._told and now_s - self._since_s >= PATIENCE_S:
            self._told = True
            return Verdict(total, tuple(loudest(heard, self._budget)), False)
        return None


class Backlog:
    """How much more, or less, is said than is read, over the last second.

    What was read tells the rates. Where its reader stalls or lines are skipped, they are higher;
    where it catches up, they are lower.
    ``taken`` are bytes read so far, ``behind`` those that wait to be.
    """

    def __init__(self, now_s: float, taken: int, behind: int) -> None:
        self._samples = deque([(now_s, taken, taken + behind, 0, 0)])

    def factor(self, now_s: float, *, taken: int, behind: int, read: int, lost: int) -> float:
        """Return what rates of read events are to be multiplied with.

        ``read`` and ``lost`` are events so far.
        """
        self._samples.append((now_s, taken, taken + behind, read, lost))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - _WINDOW_S:
            self._samples.popleft()
        _, taken_before, said_before, read_before, lost_before = self._samples[0]
        new_read, new_taken = read - read_before, taken - taken_before
        if new_read <= 0 or new_taken <= 0:  # or the file was cut
            return 1.0
        skipped = (lost - lost_before) / new_read
        said = max(0, taken + behind - said_before) / new_taken
        return (1 + skipped) * said
