"""Following a guest: events switched on for a while, and their records in batches."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol, Self

from qtctl.backends.arrival import Arrival
from qtctl.backends.base import Feed, FeedRequest, Site
from qtctl.backends.table import TABLE, candidates
from qtctl.errors import LinkLost, Unsupported, UsageError
from qtctl.events.selection import Selection
from qtctl.events.states import States, SwitchReport
from qtctl.leases.leasing import new_owner, nothing_matched
from qtctl.model import Backend, Declaration, EventState
from qtctl.monitor.news import EventQueue
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item
from qtctl.records.printf import HexArguments
from qtctl.session.facts import Backends, Facts
from qtctl.session.filter import RecordFilter
from qtctl.session.follow import Follow
from qtctl.session.guard import FloodGuard, FloodWatch
from qtctl.session.own import OwnTraffic, is_traced
from qtctl.session.pump import Pump
from qtctl.session.warm_up import WarmUpWindow

if TYPE_CHECKING:
    from qtctl.backends.ftrace.events import KernelEvent

_LOST_S = 1.0
"""How long the monitor of a guest that ended may take to be lost."""


class Attached(Site, Protocol):
    """What a stream needs of the session that it belongs to."""

    facts: Facts
    """Declarations and backends of the guest."""

    async def all_states(self) -> States:
        """Return the state of every event of the guest, by name."""

    async def backends(self) -> Backends:
        """Return the guest's trace backends."""

    async def ends_soon(self) -> bool:
        """Return whether the guest ends now, after waiting a moment for it."""

    def following(self, stream: Stream, now: bool) -> None:
        """Register a stream that was entered, or unregister one that was left."""


class Stream:
    """Follows a guest inside ``async with``; iterate it for batches, losses and news.

    Entering checks ``where`` against the declarations of the selected events, opens the backend's
    output and then switches the events on; leaving restores everything. :class:`Follow` explains
    the settings.
    """

    on_interrupt = "gives back"
    """What Ctrl-C does, in words."""
    _checks_arrival = True

    def __init__(self, session: Attached, follow: Follow) -> None:
        self.session = session
        self.follow = follow
        self.backend = Backend.LOG
        self.choices = 0
        self.passed_over: dict[Backend, str] = {}
        self.picked: list[str] = []
        self.began_ns = 0
        self.report: SwitchReport | None = None
        self._filter = RecordFilter(text=follow.text, limit=follow.limit)
        self.counts = self._filter.counts
        self._switched = Selection()
        self._kernel: Mapping[str, KernelEvent] = {}
        self._declared: Mapping[str, Declaration] = {}
        self._window: WarmUpWindow | None = None
        self._floods: FloodWatch | None = None
        self._queue = EventQueue()
        self._owner = new_owner()
        self._feed: Feed | None = None
        self._arrival: Arrival | None = None
        self._own: OwnTraffic | None = None
        self.on_silence: Callable[[str, bool], None] = lambda text, _: session.notices.append(text)
        """Called once if no record comes, with a text, and whether it is proven that none can."""
        self._stop = asyncio.Event()
        self._switching = asyncio.Lock()

    @property
    def selection(self) -> Selection:
        """The events that are switched on; empty where the stream switches none."""
        return self.follow.selection

    @property
    def where(self) -> str | None:
        """The expression that filters the records."""
        return self.follow.where

    async def __aenter__(self) -> Self:
        """Check, open, switch; see the class.

        Raises:
            NothingMatched: the selection picks no event.
            UsageError: ``where`` is wrong or names no argument of the picked events.
            Unsupported: the backend cannot be followed, or this QEMU has none of the events.
        """
        states = await self.session.all_states()
        names = list(states)
        await self._pick(names, states)
        alone = bool(self.selection and not self._switched)
        wanted = [Backend.FTRACE] if alone else await self._candidates()
        self.choices = len(wanted)
        table = await asyncio.to_thread(self._prepare, names)
        picked = tuple(self.picked)
        opened_ns = time.time_ns()
        try:
            on = [name for name, state in states.items() if state == EventState.ENABLED]
            clock = self.follow.clock or ("auto" if self._kernel else "arrival")
            request = FeedRequest(self.session, self._owner, table, picked, on, clock)
            self._feed = await self._open_all(wanted, request, alone)
            self._floods = self._watch_for_floods(self._feed, states)
            self.report = await self._switch_on()
            self.began_ns = time.time_ns()
            awaited = self.report is not None or (on and not alone)
            if awaited and self._checks_arrival:
                self._arrival = Arrival(
                    self.session,
                    self._feed,
                    self.backend,
                    lambda text, proven: self.on_silence(text, proven),
                )
            if not alone:
                self._own = self._own_traffic(table, states, opened_ns)
            self._window = WarmUpWindow(self._feed.taken + self._feed.behind(), opened_ns)
            self.session.following(self, True)
        except BaseException:
            await self._leave()
            raise
        return self

    async def _switch_on(self) -> SwitchReport | None:
        """Switch the events on; return None if none are to be switched."""
        if not TABLE[self.backend].follows_qmp:
            picked = tuple(sorted(self.picked))
            return SwitchReport(True, picked, picked, (), ())
        if not self._switched:
            return None
        return await self.session.leasing.switch(self._owner, self._switched, True)

    async def _switch_back(self) -> None:
        """Switch the events back."""
        await self.session.leasing.release_events(self._owner)

    async def kernel_events(self) -> Mapping[str, KernelEvent]:
        """Return the kernel's events that are wanted, by name.

        Raises:
            NothingMatched: a pattern matches none.
            Unsupported: the kernel's trace cannot be read here.
        """
        from qtctl.backends.ftrace.events import kernel_events, split

        self._switched, of_kernel = split(self.selection)
        wanted = Selection.of(of_kernel, *self.follow.kernel)
        return self._kernel or await asyncio.to_thread(kernel_events, wanted)

    async def _pick(self, names: Sequence[str], states: States) -> None:
        """Pick the guest's events and the kernel's.

        Raises: as :meth:`__aenter__`.
        """
        self._kernel = await self.kernel_events()
        self.picked = self._switched.pick(names) if self.selection else list(names)
        if not self.picked and (self._switched or not self._kernel):
            raise nothing_matched(self._switched, list(names), self.session.where)
        if self._switched:
            self._check_available(states)

    async def _candidates(self) -> list[Backend]:
        known = (await self.session.backends()).known
        named = bool(self._switched)
        return candidates(known, self.follow.backend, self.session.where, named=named)

    def _check_available(self, states: States) -> None:
        """Raise Unsupported if no picked event can ever occur."""
        if all(states[name] == EventState.UNAVAILABLE for name in self.picked):
            first, *others = self.picked
            more = f" and {len(others)} more are" if others else " is"
            raise Unsupported(
                f"{first}{more} unavailable on {self.session.where}: this QEMU was built without",
                hint="qtctl list --state disabled",
            )

    def _own_traffic(self, table: EventTable, states: States, opened_ns: int) -> OwnTraffic | None:
        """Return what leaves own requests out; None if none can be traced, or all are wanted.

        Without a selection, others may switch on what traces them.
        """
        on = {name for name, state in states.items() if state == EventState.ENABLED}
        traced = on.union(self.picked) if self.selection else on
        if self.follow.own or not (is_traced(traced) or not self.selection):
            return None
        begun = bool(self._switched) and TABLE[self.backend].follows_qmp
        sent = self.session.monitor.sent
        edges = bool(self._switched)
        return OwnTraffic(
            table, traced, sent, self.counts, begun=begun, edges=edges, since_ns=opened_ns
        )

    def _watch_for_floods(self, feed: Feed, states: States) -> FloodWatch:
        if self.follow.guard is not None and not TABLE[self.backend].follows_qmp:
            raise UsageError(
                f"--guard switches events over QMP, which {self.backend} does not obey",
                hint="another --backend, or fewer patterns",
            )
        chosen = set(self.picked) if self.selection else set()
        idle = {n for n, s in states.items() if s != EventState.ENABLED and n not in chosen}
        guard = FloodGuard(feed, self.follow.guard, list(states), idle)
        return FloodWatch(guard, self.counts, self._queue, self._stop, self._switch_off)

    async def _switch_off(self, selection: Selection, patterns: tuple[str, ...]) -> None:
        """Switch the loudest events off; other consoles are sent the patterns."""
        async with self._switching:
            if not self._stop.is_set():
                leasing = self.session.leasing
                await leasing.switch(self._owner, selection, False, told_as=patterns)

    async def _open_all(self, wanted: list[Backend], request: FeedRequest, alone: bool) -> Feed:
        """Open the guest's feed, with the kernel's events beside it; those ``alone``."""
        if not self._kernel:
            return await self._open(wanted, request)
        from qtctl.backends.ftrace.beside import BesideFeed, open_kernel

        if alone:
            self.backend = Backend.FTRACE
            return await open_kernel(request, self._kernel)
        feed = await self._open(wanted, request)
        try:
            kernel = await open_kernel(request, self._kernel)
        except BaseException:
            await feed.close()
            raise
        return BesideFeed(feed, kernel, self.backend, self.session)

    async def _open(self, wanted: list[Backend], request: FeedRequest) -> Feed:
        """Open the first backend that can be followed; keep why cheaper ones could not."""
        for backend in wanted:
            self.backend = backend
            try:
                return await TABLE[backend].open_feed(request)
            except Unsupported as error:
                if backend is wanted[-1]:
                    if await self.session.ends_soon():  # QEMU closes its log before its monitor
                        cause = "the guest ended"
                        with contextlib.suppress(TimeoutError):
                            lost = self.session.monitor.wait_lost()
                            cause = await asyncio.wait_for(lost, _LOST_S)
                        raise LinkLost(f"lost {self.session.where}: {cause}") from error
                    raise
                self.passed_over[backend] = error.message
                await self.session.end(self._owner)
        raise AssertionError("no backend was wanted")

    def _prepare(self, names: list[str]) -> EventTable:
        declared = self.session.facts.declarations.by_name
        of_kernel = {name: one.declaration for name, one in self._kernel.items()}
        self._declared = {**declared, **of_kernel} if of_kernel else declared
        table = EventTable.build([*names, *self._kernel], self._declared)
        self._filter.pick(table, [*self.picked, *self._kernel], self.follow.where)
        return table

    @property
    def source(self) -> str:
        """Where the records are read, in words."""
        return self._feed.source if self._feed is not None else "nowhere"

    def undeclared(self) -> list[str]:
        """Return the picked events without a declaration, whose arguments stay text."""
        return [name for name in self.picked if name not in self._declared]

    def events(self) -> tuple[list[str], Mapping[str, Declaration]]:
        """Return the names of all events that may come, and the declarations."""
        return [*self.picked, *self._kernel], self._declared

    def hex_arguments(self) -> HexArguments:
        """Return, by event, the arguments that are printed in hex; pointers are among them."""
        names, declared = self.events()
        return HexArguments(declared[name] for name in names if name in declared)

    def leave_out(self, names: Collection[str]) -> None:
        """Filter these events from now on, and no others that were left out before."""
        self._filter.exclude(names)

    def stop(self) -> None:
        """End the stream: events go off, and what was logged until then is still read."""
        self._stop.set()

    async def release(self) -> None:
        """Switch the events back now, also while nobody iterates the stream."""
        if self._window is not None and self._feed is not None:
            self._window.close(self._feed.taken + self._feed.behind())
        async with self._switching:  # or two tasks would wait for the guest's own lock
            await self._switch_back()

    async def __aiter__(self) -> AsyncGenerator[Item]:
        """Yield the filtered items in order, until :meth:`stop`, the limit or the guest's end.

        Raises:
            LinkLost: the monitor went away; all that was logged until then has been yielded.
        """
        monitor = self.session.monitor
        listening = monitor.listening(self._queue) if self.follow.news else nullcontext()
        async with listening, contextlib.aclosing(self._items()) as items:
            async for item in items:
                yield item

    def _items(self) -> AsyncGenerator[Item]:
        assert self._feed is not None
        assert self._floods is not None
        assert self._window is not None
        pump = Pump(
            self._feed,
            self.session.monitor,
            self._queue,
            self._filter,
            self._floods,
            self._window,
            self.follow.whole,
            self._arrival,
            self._own,
            self.release,
            self.follow.guest,
        )
        return pump.items(self._stop)

    async def records(self) -> AsyncGenerator[Record]:
        """Yield only the filtered records, one by one; :attr:`counts` has the losses."""
        async with contextlib.aclosing(self._items()) as items:
            async for item in items:
                if isinstance(item, Batch):
                    for record in item.records():
                        yield record

    async def __aexit__(self, *_: object) -> None:
        """Restore the events and the log target."""
        await self._leave()

    async def _leave(self) -> None:
        self.session.following(self, False)
        if self._floods is not None:
            await self._floods.close()
        try:
            async with self._switching:
                await self.session.end(self._owner)
        finally:
            if self._feed is not None:
                await self._feed.close()
                self._feed = None
