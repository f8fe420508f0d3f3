"""The watch of a console: a job that prints the events that are on and no other job prints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from qtctl.session.session import Session
from qtctl.ui.jobs import Job

_START_S = 5.0


class Watch:
    """Starts and stops the watch; ``start`` starts its job.

    It stays away (``allowed`` is false) where nothing can be printed, after it failed, and after
    the user stopped it; until events are switched on from here.
    """

    def __init__(self, session: Session, start: Callable[[], Job], *, allowed: bool) -> None:
        self.job: Job | None = None
        self.allowed = allowed
        self._possible = allowed
        self._session = session
        self._start = start

    def update(self, on: Collection[str], *, keep: bool) -> None:
        """Start or stop the watch, as events are on that no other job prints; ``keep``: or keep."""
        printed = self._printed_by_others()
        wanted = any(name not in printed for name in on)
        if self.job is not None and not wanted and not keep:
            self.job.context.stop.set()
        elif wanted and self.allowed and self.job is None and not self._follows_all():
            self.job = self._start()

    async def start_first(self) -> None:
        """Start the watch and wait for it: an event may happen once, right after its enabling."""
        self.allowed = self._possible
        if not self.allowed:
            return
        if self.job is not None and self.job.context.stop.is_set():
            await asyncio.wait({self.job.task})
        if self.job is None and not self._follows_all():
            self.job = self._start()
        deadline = time.monotonic() + _START_S
        while self.job is not None and not self._follows_all() and time.monotonic() < deadline:
            await asyncio.wait({self.job.task}, timeout=0.01)

    def ended(self) -> None:
        """Forget the watch's job, which has ended; if it failed, start no other."""
        assert self.job is not None
        task, self.job = self.job.task, None
        failed = task.cancelled() or task.result() != 0
        if failed and not self._session.monitor.lost:
            self.allowed = False

    def exclude_printed(self) -> None:
        """Let streams of all events exclude those that other streams print."""
        printed = self._printed_by_others()
        for stream in self._session.streams:
            if not stream.selection:
                stream.leave_out(printed)

    def _printed_by_others(self) -> set[str]:
        streams = (stream for stream in self._session.streams if stream.selection)
        return {name for stream in streams for name in stream.picked}

    def _follows_all(self) -> bool:
        return any(not stream.selection for stream in self._session.streams)
