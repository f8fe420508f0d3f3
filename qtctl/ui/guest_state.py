"""What a console knows of its guest: states, its own leases, the rate of records."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from qtctl.errors import QtctlError
from qtctl.events.states import States
from qtctl.leases.journal import Owner
from qtctl.model import EventState
from qtctl.monitor.answers import run_state_of
from qtctl.session.session import Session
from qtctl.text.style import counted, escaped

_TICK_S = 1.0
_FRESH_S = 0.2


class GuestState:
    """The state of the guest of ``session``; ``leased`` are the events that ``owner`` switched.

    ``changed`` is called when :meth:`bar` may show something new.
    """

    def __init__(self, session: Session, owner: Owner, changed: Callable[[], None]) -> None:
        self.states: States = {}
        self.leased: dict[str, bool] = {}
        self._session = session
        self._owner = owner
        self._changed = changed
        self._run_state = ""
        self._rate: float | None = None
        self._stale = asyncio.Event()
        self._followed = asyncio.Event()

    def refresh(self) -> None:
        """Read the state anew soon: something may have changed it."""
        self._stale.set()

    def gone(self) -> None:
        """Forget the states of a guest that is gone."""
        self.states = {}
        self._changed()

    def streams_changed(self) -> None:
        """Start or stop the rate, as there are streams or not, and refresh."""
        (self._followed.set if self._session.streams else self._followed.clear)()
        self.refresh()
        self._changed()

    def on(self) -> list[str]:
        """Return the events that are on."""
        return [name for name, state in self.states.items() if state == EventState.ENABLED]

    async def keep_fresh(self, refreshed: Callable[[], None]) -> None:
        """Read the state after each :meth:`refresh`; call ``refreshed`` where it is up to date."""
        while True:
            self._stale.clear()
            with contextlib.suppress(QtctlError):
                self._run_state = await self._session.monitor.ask("query-status", run_state_of)
                self.states = await self._session.all_states()
                self.leased = await self._read_lease()
                if not self._stale.is_set():
                    refreshed()
            self._changed()
            await asyncio.sleep(_FRESH_S)
            await self._stale.wait()

    async def _read_lease(self) -> dict[str, bool]:
        leases = await self._session.leasing.leases()
        own = (lease for lease in leases if lease.owner == self._owner)
        return {name: change.wanted for lease in own for name, change in lease.events.items()}

    async def keep_rate(self) -> None:
        """Count the records of the last second while a stream reads them."""
        before, then = 0, time.monotonic()
        while True:
            await self._followed.wait()
            await asyncio.sleep(_TICK_S)
            # All streams of one guest read the same records.
            read = max((stream.counts.read for stream in self._session.streams), default=0)
            now = time.monotonic()
            self._rate = max(0, read - before) / (now - then)
            before, then = read, now
            self._changed()

    def bar(self, jobs: int) -> str:
        """Return the text of the bar as it is now; ``jobs`` is the number of running jobs."""
        guest, streams = self._session.guest, self._session.streams
        name = (guest.name or f"pid {guest.pid}") if guest else self._session.where
        return bar(
            guest=name,
            state="gone" if self._session.monitor.lost else self._run_state,
            on=len(self.on()) if self.states else None,
            rate=self._rate if streams else None,
            lost=sum(stream.counts.lost for stream in streams),
            more=any(stream.counts.unknown_losses for stream in streams),
            jobs=jobs,
        )


def bar(
    *, guest: str, state: str, on: int | None, rate: float | None, lost: int, more: bool, jobs: int
) -> str:
    """Return the bar's text, most important first: a narrow terminal cuts its end.

    ``on`` is the number of events that are on (None: unknown); ``rate`` is in records a second
    (None: no stream reads any); ``more``: an unknown number was lost beside ``lost``.
    """
    parts = [f"{escaped(guest)} {escaped(state)}".strip()]
    if on is not None:
        parts.append(f"{on:,} on")
    if rate is not None:
        parts.append(f"{rate:,.0f}/s")
        parts.append(f"{lost:,} lost" + (" and more" if more else ""))
    if jobs:
        parts.append(counted(jobs, "job"))
    return f" {' | '.join(parts)} "
