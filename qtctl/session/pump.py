"""Reading a feed until it ends: decoded and filtered in a thread, nothing late uncounted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.backends.arrival import Arrival
from qtctl.backends.base import Feed
from qtctl.errors import LinkLost
from qtctl.model import News
from qtctl.monitor.client import Monitor
from qtctl.monitor.news import EventQueue
from qtctl.records.batch import Batch
from qtctl.records.items import Item, Items, Loss, labelled
from qtctl.session.filter import RecordFilter
from qtctl.session.guard import FloodWatch
from qtctl.session.own import OwnTraffic
from qtctl.session.warm_up import WarmUpWindow

SMALL_BYTES = 1 << 18
"""What comes in smaller portions is waited for a moment, so that batches become larger."""
_SETTLE_S = 0.01
_SETTLE_LIMIT_S = 1.0
"""How long a feed may be silent before the rest of it is given up."""
_WAIT_S = 1.0
_KEEP_UP_S = 0.05


@dataclass(eq=False)
class Pump:
    """Yields the filtered items of ``feed`` and the news in ``queue``, in order.

    ``release`` switches the events off; it is called before the rest of the feed is read.
    ``whole``: only records come that are inside the window, while all events were on.
    """

    _feed: Feed
    _monitor: Monitor
    _queue: EventQueue
    _filter: RecordFilter
    _floods: FloodWatch
    _window: WarmUpWindow
    _whole: bool
    _arrival: Arrival | None
    _own: OwnTraffic | None
    _release: Callable[[], Awaitable[None]]
    _guest: str | None = None

    async def items(self, stop: asyncio.Event) -> AsyncGenerator[Item]:
        """Yield items until ``stop`` is set, the filter's limit is reached, or the link is lost.

        Raises:
            LinkLost: the monitor went away; all that was logged until then has been yielded.
        """
        feed = self._feed
        lost = asyncio.ensure_future(self._monitor.wait_lost())
        stopped = asyncio.ensure_future(stop.wait())
        ends: set[asyncio.Future[Any]] = {lost, stopped}
        tasks = [*ends]
        if self._arrival is not None:
            tasks.append(asyncio.ensure_future(self._arrival.watch()))
        cause = ""
        try:
            while not lost.done() and not stopped.done():
                before = feed.taken
                items = await asyncio.to_thread(self._step)
                if feed.taken > before:
                    self._floods.wake()
                for item in [*items, *self._news()]:
                    async with self._keeping_up():
                        yield item
                    if self._filter.full():
                        return
                if feed.taken - before >= SMALL_BYTES:
                    continue
                pause = _SETTLE_S if feed.taken > before else 0.0
                for item in await self._idle(ends, pause):
                    yield item
            if lost.done():
                cause = lost.result()
            else:
                await self._release()
            async for item in self._rest():
                yield item
            for news in self._news(last=True):
                yield news
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if cause:
            raise LinkLost(
                f"lost {self._monitor.address}: {cause}",
                hint="qtctl ps shows whether the guest still runs",
            )

    @contextlib.asynccontextmanager
    async def _keeping_up(self) -> AsyncGenerator[None]:
        """Go on counting the records that fall too far behind, however long the block takes."""
        done = asyncio.Event()

        async def keep_up() -> None:
            while not done.is_set():
                try:
                    await asyncio.wait_for(done.wait(), _KEEP_UP_S)
                except TimeoutError:
                    await asyncio.to_thread(self._feed.keep_up)

        task = asyncio.ensure_future(keep_up())
        try:
            yield
        finally:
            done.set()
            await task

    def _news(self, *, last: bool = False) -> list[News]:
        found = self._queue.take(last=last)
        return found if self._guest is None else [one._replace(guest=self._guest) for one in found]

    async def _rest(self) -> AsyncGenerator[Item]:
        """Yield what was logged before the events went off."""
        feed = self._feed
        await feed.settle()
        quiet_s = 0.0
        while not feed.settled() and not self._filter.full() and quiet_s < _SETTLE_LIMIT_S:
            before = feed.taken
            for item in await asyncio.to_thread(self._step):
                yield item
                if self._filter.full():
                    return
            if feed.taken == before:
                quiet_s += _SETTLE_S
                await asyncio.sleep(_SETTLE_S)
            else:
                quiet_s = 0.0
        for rest in self._filtered(feed.finish(), watched=False):
            yield rest

    async def _idle(self, ends: set[asyncio.Future[Any]], pause_s: float) -> Items:
        """Wait until there is more to read or report, or one of ``ends`` is done."""
        if pause_s:
            await asyncio.wait(ends, timeout=pause_s, return_when="FIRST_COMPLETED")
            return []
        more = asyncio.ensure_future(self._feed.wait(_WAIT_S))
        news = asyncio.ensure_future(self._queue.wait())
        try:
            await asyncio.wait({*ends, more, news}, return_when="FIRST_COMPLETED")
            items = more.result() if more.done() else []
        finally:
            for task in (more, news):
                if not task.done():
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
        return self._filtered(items)

    def _step(self) -> Items:
        """Read, decode and filter once; runs in a thread."""
        return self._filtered(self._feed.read())

    def _filtered(self, items: Items, *, watched: bool = True) -> Items:
        """Return what is not of own requests, and the filter lets through.

        ``watched``: items are counted for the flood guard, before the filter.
        """
        if self._arrival is not None:
            items = self._arrival.take(items)
        if self._guest is not None:
            items = [labelled(item, guest=self._guest) for item in items]
        others = [self._others(item) for item in items]
        others = [one for one in others if not isinstance(one[0], Batch) or len(one[0])]
        if watched and others:
            self._floods.guard.take(item for item, _ in others)
        shown = (self._filter.apply(*one) for one in others)
        return [item for item in shown if item is not None]

    def _others(self, item: Batch | Loss) -> tuple[Batch | Loss, NDArray[np.bool_] | None]:
        """Leave out the records of own requests; return the rows that the filter may let through.

        None: all of them.
        """
        if isinstance(item, Loss):
            return item, None
        inside = self._window.inside(item, self._feed.taken)
        if self._own is not None:
            item, inside = self._own.others(item, inside)
        return item, inside if self._whole else None
