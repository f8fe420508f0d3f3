"""The price of events: each is switched on for a moment, its records are counted, all is restored.

Events are sampled together as long as their sum is low, for then one does not slow another down;
loud ones are sampled alone. A sample ends early once the price is known, so that a flood lasts no
longer than it takes to count it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from qtctl.analysis.flood import loudest
from qtctl.errors import NothingMatched
from qtctl.events.selection import Selection
from qtctl.leases.leasing import new_owner, nothing_matched
from qtctl.model import EventState
from qtctl.records.batch import Batch
from qtctl.session.follow import Follow
from qtctl.session.session import Session
from qtctl.session.stream import Stream

QUIET_PER_S = 10_000
"""Up to so many events a second in sum, tracing costs the guest a few per cent."""
ENOUGH = 20_000
"""After so many records, the rate is known to within a per cent."""
_POLL_S = 0.01
_SILENCE_S = 0.25
"""Longer than a backend holds records back: simple is made to flush 5 times a second."""
_SETTLE_LIMIT_S = 3.0


@dataclass(frozen=True, slots=True)
class Price:
    """The price of an event: records and bytes a second, counted over ``seconds``.

    ``alone``: no other event of the probe was on. Bytes are those of the records as the backend
    wrote them.
    """

    name: str
    per_s: float
    bytes_per_s: float
    seconds: float
    alone: bool


class Probe:
    """Samples what ``selection`` picks for ``each_s`` seconds each; see :meth:`run`.

    ``prices`` has the prices so far, by event, also after an early end. Events that were on before
    are counted too, and stay on.
    """

    def __init__(
        self,
        session: Session,
        selection: Selection,
        *,
        each_s: float,
        backend: str = "auto",
        own: bool = False,
    ) -> None:
        self._session = session
        self._selection = selection
        self._each_s = each_s
        self._owner = new_owner()
        self.stream: Stream = session.stream(Follow(backend=backend, own=own))
        self.prices: dict[str, Price] = {}
        self.picked: tuple[str, ...] = ()
        self.unavailable: tuple[str, ...] = ()
        self._tally = _EventCounts()
        self._ended = asyncio.Event()

    def stop(self) -> None:
        """End :meth:`run` with the prices so far."""
        self._ended.set()

    async def run(self) -> AsyncGenerator[int]:
        """Sample until all prices are known; yield the number of missing prices after each sample.

        However it ends, all events are as they were before.

        Raises:
            NothingMatched: no event is picked, or none that can be switched on.
            Unsupported: no backend can be followed whose events QMP switches.
            LinkLost: the guest or its monitor went away.
        """
        states = await self._session.all_states()
        self.picked = tuple(sorted(self._selection.pick(states)))
        if not self.picked:
            raise nothing_matched(self._selection, list(states), self._session.where)
        by_state = {state: [n for n in self.picked if states[n] == state] for state in EventState}
        self.unavailable = tuple(by_state[EventState.UNAVAILABLE])
        if len(self.unavailable) == len(self.picked):
            raise NothingMatched(f"QEMU cannot switch on {', '.join(self.picked)}")
        async with self.stream:
            counting = asyncio.ensure_future(self._tally.listen(self.stream))
            counting.add_done_callback(lambda _: self.stop())
            try:
                already, names = by_state[EventState.ENABLED], by_state[EventState.DISABLED]
                async with contextlib.aclosing(self._sample_all(already, names)) as samples:
                    async for left in samples:
                        yield left
            finally:
                await self._session.end(self._owner)
                self.stream.stop()
                await asyncio.gather(counting, return_exceptions=True)
            await counting

    async def _sample_all(
        self, already: Sequence[str], names: Sequence[str]
    ) -> AsyncGenerator[int]:
        if already:
            before, began = self._tally.copy(), time.monotonic()
            await self._pass(self._each_s)
            self._price(already, before, time.monotonic() - began, alone=False)
            yield len(names)
        group, alone = list(names), list[str]()
        while (group or alone) and not self._ended.is_set():
            together = group if group else [alone.pop()]
            rates = await self._sample(together)
            loud = [name for name, _ in loudest(rates, QUIET_PER_S)] if len(together) > 1 else []
            alone += loud
            group = [name for name in group if name not in set(loud)] if loud else []
            yield len(group) + len(alone)

    async def _pass(self, seconds: float) -> None:
        """Sleep, but not past the end of the probe."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    async def _sample(self, names: Sequence[str]) -> dict[str, float]:
        """Switch events on for a moment and price them; return their rates."""
        leasing = self._session.leasing
        before = self._tally.copy()
        await leasing.switch(self._owner, Selection.of(*names), True, told_as=())
        began = leasing.acted_s
        while (left := began + self._each_s - time.monotonic()) > 0 and not self._ended.is_set():
            if self._tally.total(names) - before.total(names) >= ENOUGH:
                break
            await self._pass(min(left, _POLL_S))
        await leasing.release_events(self._owner)
        seconds = leasing.acted_s - began
        await self._settle(names)
        return self._price(names, before, seconds, alone=len(names) == 1)

    async def _settle(self, names: Sequence[str]) -> None:
        """Wait until all records of the time while the events were on have come."""
        deadline = time.monotonic() + _SETTLE_LIMIT_S
        total_before, silent_since = -1, 0.0
        while (now := time.monotonic()) < deadline and not self._ended.is_set():
            if (total := self._tally.total(names)) != total_before:
                total_before, silent_since = total, now
            elif now - silent_since >= _SILENCE_S:
                return
            await self._pass(_POLL_S)

    def _price(
        self, names: Iterable[str], before: _EventCounts, seconds: float, *, alone: bool
    ) -> dict[str, float]:
        now = self._tally
        for name in names:
            per_s = (now.counts[name] - before.counts[name]) / seconds
            bytes_per_s = (now.sizes[name] - before.sizes[name]) / seconds
            self.prices[name] = Price(name, per_s, bytes_per_s, seconds, alone)
        return {name: self.prices[name].per_s for name in names}


@dataclass(frozen=True, slots=True)
class _EventCounts:
    """Records and bytes of each event so far."""

    counts: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)

    async def listen(self, stream: Stream) -> None:
        """Count the records of a stream."""
        async for item in stream:
            if isinstance(item, Batch):
                counts = np.bincount(item.event + 1)
                sizes = np.bincount(item.event + 1, weights=item.stop - item.start)
                for place in np.flatnonzero(counts[1:]).tolist():
                    self.counts[item.names[place]] += int(counts[place + 1])
                    self.sizes[item.names[place]] += int(sizes[place + 1])

    def total(self, names: Iterable[str]) -> int:
        """Return the number of records of some events."""
        return sum(map(self.counts.__getitem__, names))

    def copy(self) -> _EventCounts:
        """Return the counts at this moment."""
        return _EventCounts(self.counts.copy(), self.sizes.copy())
