"""Searching the rows of a view in the background: for a text, for a filter that is typed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

from qtctl.ui.finder import Finder, Holds
from qtctl.ui.records import Records

_NOTHING_SOUGHT = "nothing is searched for: / searches"


class RowSearch:
    """Searches ``records``; ``changed`` is called when more was found, ``refuse`` with reasons.

    ``others`` returns what an opened record needs to be found.
    """

    def __init__(
        self,
        records: Records,
        changed: Callable[[], None],
        refuse: Callable[[str], None],
        others: Callable[[], Finder | None],
    ) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self._records = records
        self._changed, self._refuse, self._others = changed, refuse, others
        self._preview: Finder | None = None
        self._wanted = asyncio.Event()

    def finders(self) -> list[Finder]:
        """Return what is to be found, the most wanted first."""
        wanted = [self._preview, self._others(), *self._records.finders()]
        return [one for one in wanted if one is not None]

    async def run(self) -> None:
        """Search the rows for all that is searched for, until cancelled."""
        while True:
            self._wanted.clear()
            stretches = tuple(self._records.kept.stretches)
            began, found = time.monotonic(), False
            for finder in self.finders():
                if found := await asyncio.to_thread(finder.step, stretches):
                    self._changed()
                    break
            if not found:
                await self._wanted.wait()
            elif not self._records.kept.still:
                # While rows still come, a search must not take the time of a whole core.
                await asyncio.sleep(time.monotonic() - began)

    def drawn(self) -> None:
        """Go on searching: there may be other rows, or something else to search for."""
        if self.finders():
            self._wanted.set()

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Do something meanwhile."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """End what was begun."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def find(self, text: str) -> None:
        """Search for a text, or for the last one, and select the nearest hit above."""
        self._records.look_for(text or self._records.search)
        self.seek(up=True)

    def seek(self, *, up: bool) -> None:
        """Select the next hit, once it is found."""
        finder = self._records.finder
        if finder is None:
            self._refuse(_NOTHING_SOUGHT)
        else:
            self._records.hold_still()
            self.start(self._seek_hit(finder, up=up))

    async def _seek_hit(self, finder: Finder, *, up: bool) -> None:
        records = self._records
        stretches = tuple(records.kept.stretches)
        while finder is records.finder:
            if records.next_hit(up=up):
                break
            if not await asyncio.to_thread(finder.step, stretches):
                if not records.next_hit(up=up):
                    where = "above" if up else "below"
                    self._refuse(f"no other row {where} has {records.search!r}")
                break
        self._changed()

    def show_context(self) -> None:
        """Show only hits with the rows around them, or all rows again."""
        if not self._records.around_hits():
            self._refuse(_NOTHING_SOUGHT)

    def try_filter(self, holds: Holds | None) -> None:
        """Count how many of the kept records a filter would leave; None: there is none."""
        self._preview = None if holds is None else Finder(holds, lambda note: False)

    def filter_question(self) -> str:
        """Return what asks for a filter, with the number of records that would stay."""
        if self._preview is None:
            return "filter"
        count, searched = self._preview.count(self._records.kept.stretches)
        return f"filter ({count:,} of {searched:,} stay)"

    async def next_found(self, finder: Finder, number: int) -> int | None:
        """Return the next visible row that is found behind a row, or else the first one."""
        self._records.hold_still()
        stretches = tuple(self._records.kept.stretches)
        while await asyncio.to_thread(finder.step, stretches):
            pass
        rows = self._records.rows_of(finder)
        found = next(rows.down(number + 1), None)
        return next(rows.down(rows.first), None) if found is None else found
