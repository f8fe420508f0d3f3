"""Following a guest: events switched on for a while, and what it says, as batches of records."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from qtctl.backends.arrival import Arrival
from qtctl.backends.base import Feed, Request
from qtctl.backends.feeds import open_feed
from qtctl.backends.table import TABLE, candidates
from qtctl.errors import LinkLost, QtctlError, Unsupported, UsageError
from qtctl.events.patterns import Selection
from qtctl.events.states import States, SwitchReport
from qtctl.leases.leasing import new_owner, nothing_matched
from qtctl.model import Backend, Declaration, EventState
from qtctl.monitor.news import Ear
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Items, Loss
from qtctl.records.printf import hex_arguments
from qtctl.session.filter import Sieve
from qtctl.session.follow import Follow
from qtctl.session.guard import Guarding
from qtctl.session.warm_up import Edges

if TYPE_CHECKING:
    from qtctl.session.session import Session

SMALL_BYTES = 1 << 18
_SETTLE_S = 0.01
_SETTLE_LIMIT_S = 1.0
"""How long a feed may say nothing before what it still owes is given up."""
_WAIT_S = 1.0
_KEEP_UP_S = 0.05
_LOOK_S = 0.1


class Stream:
    """Follows a guest inside ``async with``; iterate it for batches, losses and news.

    Entering checks ``where`` against the declarations of the selected events, opens the backend's
    output and then switches the events on; leaving restores everything. :class:`Follow` explains
    the settings.
    """

    def __init__(self, session: Session, follow: Follow) -> None:
        self.session = session
        self.follow = follow
        self.backend = Backend.LOG
        self.choices = 0
        self.passed_over: dict[Backend, str] = {}
        self.picked: list[str] = []
        self.began_ns = 0
        self.report: SwitchReport | None = None
        self._sieve = Sieve(text=follow.text, limit=follow.limit)
        self.counts = self._sieve.counts
        self._kernel: list[str] = []
        self._edges: Edges | None = None
        self._guarding: Guarding | None = None
        self._pilot: asyncio.Task[None] | None = None
        self._heard = asyncio.Event()
        self._ear = Ear()
        self._owner = new_owner()
        self._feed: Feed | None = None
        self._arrival: Arrival | None = None
        self.on_silence: Callable[[str, bool], None] = lambda text, _: session.notices.append(text)
        """Called once if no record comes, with a text, and whether it is proven that none can."""
        self._stop = asyncio.Event()
        self._giving = asyncio.Lock()
        self._link_error = ""

    @property
    def selection(self) -> Selection:
        """The events that are switched on; empty where the stream switches none."""
        return self.follow.selection

    async def __aenter__(self) -> Self:
        """Check, open, switch; see the class.

        Raises:
            NothingMatched: the selection picks no event.
            UsageError: ``where`` is wrong or names no argument of the picked events.
            Unsupported: the backend's output cannot be followed.
        """
        states = await self.session.all_states()
        names = list(states)
        self.picked = self.selection.pick(names) if self.selection else names
        if not self.picked:
            raise nothing_matched(self.selection, names, self.session.where)
        if self.follow.kernel:
            self._kernel = await asyncio.to_thread(self._kernel_events)
        known = (await self.session.backends()).known
        named = bool(self.selection)
        asked = Backend.FTRACE if self.follow.kernel else self.follow.backend
        wanted = candidates(known, asked, self.session.where, named=named)
        self.choices = len(wanted)
        table = await asyncio.to_thread(self._prepare, names)
        picked = tuple(self.picked)
        opened_ns = time.time_ns()
        try:
            request = Request(self.session, self._owner, table, picked, self._kernel)
            self._feed = await self._open(wanted, request)
            self._watch_for_floods(self._feed, states)
            if not TABLE[self.backend].follows_qmp:
                picked = tuple(sorted(picked))
                self.report = SwitchReport(True, picked, picked, (), ())
            elif self.selection:
                self.report = await self.session.leasing.switch(self._owner, self.selection, True)
            self.began_ns = time.time_ns()
            if self.report is not None or EventState.ENABLED in states.values():
                self._arrival = Arrival(self.session, self._feed, self.backend)
            if self.follow.whole:
                self._edges = Edges(self._feed.taken + self._feed.behind(), opened_ns)
            self.session.following(self, True)
        except BaseException:
            await self._leave()
            raise
        return self

    def _watch_for_floods(self, feed: Feed, states: States) -> None:
        if self.follow.guard is not None and not TABLE[self.backend].follows_qmp:
            raise UsageError(
                f"--guard switches events over QMP, and {self.backend} does not look at that",
                hint="another --backend, or fewer patterns",
            )
        chosen = set(self.picked) if self.selection else set()
        idle = {n for n, s in states.items() if s != EventState.ENABLED and n not in chosen}
        self._guarding = Guarding(feed, self.follow.guard, list(states), idle)
        self._pilot = asyncio.create_task(self._look_out(self._guarding))

    async def _look_out(self, guarding: Guarding) -> None:
        """Tell of floods as they come, and switch off what is too loud for the guard."""
        while not self._stop.is_set():
            if guarding.quiet:
                await self._heard.wait()
            self._heard.clear()
            await asyncio.sleep(_LOOK_S)
            found = guarding.look(self.counts)
            if found is None:
                continue
            verdict, flood = found
            self._ear.put(flood)
            if verdict.guarded:
                with contextlib.suppress(QtctlError):  # a lost link is told where it is followed
                    await self._quiet([name for name, _ in verdict.loudest], flood.patterns)

    async def _quiet(self, names: list[str], patterns: tuple[str, ...]) -> None:
        async with self._giving:
            if self._stop.is_set():
                return
            quieter = Selection.of(*names)
            await self.session.leasing.switch(self._owner, quieter, False, told_as=patterns)

    async def _open(self, wanted: list[Backend], request: Request) -> Feed:
        """Open the first backend that can be; what stopped a cheaper one is kept to be told."""
        for backend in wanted:
            self.backend = backend
            try:
                return await open_feed(backend, request)
            except Unsupported as error:
                if backend is wanted[-1]:
                    raise
                self.passed_over[backend] = error.message
                await self.session.end(self._owner)
        raise AssertionError("no backend was wanted")

    def _kernel_events(self) -> list[str]:
        from qtctl.backends.ftrace.feed import kernel_names

        if self.follow.backend not in ("auto", Backend.FTRACE):
            raise UsageError(
                f"kernel events come with the ftrace backend, not with {self.follow.backend}",
                hint="--backend ftrace",
            )
        return kernel_names(self.follow.kernel)

    def _prepare(self, names: list[str]) -> EventTable:
        declared = self.session.facts.declarations.by_name
        table = EventTable.build([*names, *self._kernel], declared)
        self._sieve.pick(table, [*self.picked, *self._kernel], self.follow.where)
        return table

    @property
    def source(self) -> str:
        """Where the records are read, in words."""
        return self._feed.source if self._feed is not None else "nowhere"

    def undeclared(self) -> list[str]:
        """Return the picked events whose arguments stay text, for want of a declaration."""
        declared = self.session.facts.declarations.by_name
        return [name for name in self.picked if name not in declared]

    def events(self) -> tuple[list[str], Mapping[str, Declaration]]:
        """Return the names of the events that may come, and the declarations there are."""
        return [*self.picked, *self._kernel], self.session.facts.declarations.by_name

    def hex_arguments(self) -> dict[str, frozenset[str]]:
        """Return, by event, the arguments that QEMU prints in hex; pointers are among them."""
        declared = self.session.facts.declarations.by_name
        return {n: hex_arguments(declared[n]) for n in self.picked if n in declared}

    def leave_out(self, names: Collection[str]) -> None:
        """Show these events no more, and others again; they count as filtered."""
        self._sieve.leave_out(names)

    def stop(self) -> None:
        """Ask the stream to end: events go off, and what was logged until then is still read."""
        self._stop.set()

    async def release(self) -> None:
        """Put the events back now, also while nobody takes what the stream yields."""
        if self._edges is not None and self._feed is not None:
            self._edges.close(self._feed.taken + self._feed.behind())
        async with self._giving:  # or two of us would wait for the guest's own lock
            await self.session.leasing.release_events(self._owner)

    async def __aiter__(self) -> AsyncGenerator[Item]:
        """Yield what is shown, in order, until :meth:`stop`, the limit or the end of the guest.

        Raises:
            LinkLost: the monitor went away; what was logged until then has been yielded.
        """
        hears = self.session.monitor.listening(self._ear) if self.follow.news else nullcontext()
        async with hears, contextlib.aclosing(self._items()) as items:
            async for item in items:
                yield item

    async def _items(self) -> AsyncGenerator[Item]:
        assert self._feed is not None
        lost = asyncio.ensure_future(self.session.monitor.wait_lost())
        stopped = asyncio.ensure_future(self._stop.wait())
        tasks: list[asyncio.Future[Any]] = [lost, stopped]
        if self._arrival is not None:
            tasks.append(asyncio.ensure_future(self._arrival.watch(self.on_silence)))
        try:
            while not lost.done() and not stopped.done():
                before = self._feed.taken
                items = await asyncio.to_thread(self._step)
                if self._feed.taken > before:
                    self._heard.set()
                for item in [*items, *self._ear.take()]:
                    async with self._kept_up():
                        yield item
                    if self._sieve.full():
                        return
                if self._feed.taken - before >= SMALL_BYTES:
                    continue
                pause = _SETTLE_S if self._feed.taken > before else 0.0
                for item in await self._idle(lost, stopped, pause):
                    yield item
            if lost.done():
                self._link_error = lost.result()
            else:
                await self.release()
            async for item in self._rest():
                yield item
            for news in self._ear.take(last=True):
                yield news
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._link_error:
            raise LinkLost(
                f"lost {self.session.where}: {self._link_error}",
                hint="qtctl ps tells whether the guest still runs",
            )

    @contextlib.asynccontextmanager
    async def _kept_up(self) -> AsyncGenerator[None]:
        """Go on counting what falls too far behind, however long the block takes."""
        feed, done = self._feed, asyncio.Event()
        assert feed is not None

        async def keep_up() -> None:
            while not done.is_set():
                try:
                    await asyncio.wait_for(done.wait(), _KEEP_UP_S)
                except TimeoutError:
                    await asyncio.to_thread(feed.keep_up)

        task = asyncio.ensure_future(keep_up())
        try:
            yield
        finally:
            done.set()
            await task

    async def _rest(self) -> AsyncGenerator[Batch | Loss]:
        """Yield what was said before the events went off."""
        assert self._feed is not None
        await self._feed.settle()
        quiet_s = 0.0
        while not self._feed.settled() and not self._sieve.full() and quiet_s < _SETTLE_LIMIT_S:
            before = self._feed.taken
            for item in await asyncio.to_thread(self._step):
                yield item
                if self._sieve.full():
                    return
            if self._feed.taken == before:
                quiet_s += _SETTLE_S
                await asyncio.sleep(_SETTLE_S)
            else:
                quiet_s = 0.0
        for rest in self._sifted(self._feed.finish()):
            yield rest

    async def _idle(
        self, lost: asyncio.Future[str], stopped: asyncio.Future[Literal[True]], pause_s: float
    ) -> Items:
        """Wait for more to read, for the link to go, or to be stopped."""
        assert self._feed is not None
        ends: set[asyncio.Future[Any]] = {lost, stopped}
        if pause_s:
            await asyncio.wait(ends, timeout=pause_s, return_when="FIRST_COMPLETED")
            return []
        more = asyncio.ensure_future(self._feed.wait(_WAIT_S))
        told = asyncio.ensure_future(self._ear.wait())
        try:
            await asyncio.wait({*ends, more, told}, return_when="FIRST_COMPLETED")
            items = more.result() if more.done() else []
        finally:
            for task in (more, told):
                if not task.done():
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task
        return self._sift(items)

    def _step(self) -> Items:
        """Read, decode and filter once; runs in a thread."""
        assert self._feed is not None
        return self._sift(self._feed.read())

    def _sift(self, items: Items) -> Items:
        """Count what was read; return what of it is shown."""
        assert self._guarding is not None
        if items:
            self._guarding.take(items)
        return self._sifted(items)

    def _sifted(self, items: Items) -> Items:
        assert self._feed is not None
        edges, out = self._edges, []
        if self._arrival is not None:
            items = self._arrival.take(items)
        for item in items:
            inside = None
            if edges is not None and isinstance(item, Batch):
                inside = edges.inside(item, self._feed.taken)
            shown = self._sieve.take(item, inside)
            if shown is not None:
                out.append(shown)
        return out

    async def records(self) -> AsyncGenerator[Record]:
        """Yield the shown records one by one, and nothing else; :attr:`counts` has the losses."""
        async with contextlib.aclosing(self._items()) as items:
            async for item in items:
                if isinstance(item, Batch):
                    for record in item.records():
                        yield record

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give back the events and the log target."""
        await self._leave()

    async def _leave(self) -> None:
        self.session.following(self, False)
        if self._pilot is not None:
            self._pilot.cancel()
            await asyncio.gather(self._pilot, return_exceptions=True)
        try:
            async with self._giving:
                await self.session.end(self._owner)
        finally:
            if self._feed is not None:
                await self._feed.close()
                self._feed = None
