"""The streams of several guests as one, merged by time, in batches."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import reduce
from itertools import chain
from operator import add
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from qtctl.errors import LinkLost, QtctlError, UsageError
from qtctl.events.selection import Selection
from qtctl.model import Clock, Control, Declaration
from qtctl.records.batch import Batch
from qtctl.records.columns import Int64Array
from qtctl.records.counts import Counts
from qtctl.records.items import Item
from qtctl.records.printf import HexArguments
from qtctl.records.rows_by_time import Row, divide, merged
from qtctl.session.follow import Follow
from qtctl.session.member import Member
from qtctl.session.stream import Stream

if TYPE_CHECKING:
    from qtctl.backends.ftrace.events import KernelEvent

_HOLD_NS = 50_000_000
"""How long a record waits for earlier ones of other guests, however long those take."""
_TICK_S = 0.01
_QUEUED = 16
"""So many items of a guest wait at most."""


class Attended(Protocol):
    """The guests that a stream is of, each of which a task attaches and follows."""

    members: list[Member]

    def into(self, into: MergedStream) -> None:
        """Follow all guests that are attached, and that will be, from now on."""

    async def settled(self, there: Callable[[Member], bool]) -> None:
        """Wait until a guest is ``there``, and for the others while they make progress."""

    async def next_change(self) -> None:
        """Wait until a guest attaches, begins or ends."""

    def may_come(self) -> bool:
        """Return whether a guest that is not followed yet may be."""

    def declared(self) -> Mapping[str, Declaration]:
        """Return the declarations of all guests."""


class MergedStream:
    """Follows several guests inside ``async with``, with the interface of :class:`Stream`.

    Records are in the order of their times as far as these are known: those without a time of
    their own stand where qtctl read them. One that comes over 50 ms after its time may stand too
    late; the ``late`` ones are counted. A guest that fails is left out, with a :class:`Failure` at
    its place. ``follow`` of None: only the guests' news. ``on_began`` is called for each guest that
    begins.
    """

    report = None
    """The switches are items of the stream, one for each guest."""

    def __init__(self, guests: Attended, follow: Follow | None) -> None:
        self.guests = guests
        self.settings = follow or Follow()
        self._limit = self.settings.limit
        self.follow = None if follow is None else follow._replace(limit=None)
        self.began_ns = 0
        self.stopped = asyncio.Event()
        self.on_began: Callable[[str, Stream], None] = lambda name, stream: None
        self.on_silence: Callable[[str, bool], None] = lambda text, proven: None
        self._shown = 0
        self._left = False
        self._came = asyncio.Event()
        self._emitted_ns = 0
        self._begin_ns = time.time_ns() - time.monotonic_ns()

    @property
    def _members(self) -> list[Member]:
        return self.guests.members

    @property
    def parts(self) -> dict[str, Stream]:
        """The streams that are entered now, by guest."""
        return {one.name: one.stream for one in self._members if one.stream is not None}

    @property
    def selection(self) -> Selection:
        """The events that are switched on; empty where the stream switches none."""
        return self.settings.selection

    @property
    def where(self) -> str | None:
        """The expression that filters the records."""
        return self.settings.where

    @property
    def late(self) -> int:
        """How many records came too late to stand in order among those of other guests."""
        return sum(one.late for one in self._members)

    @property
    def counts(self) -> Counts:
        """The sums, with those of each guest."""
        each = [(one.name, one.counts) for one in self._members]
        whole = reduce(add, (counts for _, counts in each), Counts())
        if self._limit is not None:
            whole.shown = self._shown
            whole.read = whole.shown + whole.filtered
        whole.guests = tuple(each)
        return whole

    @property
    def picked(self) -> list[str]:
        """The names of all events that may come."""
        return list(dict.fromkeys(chain(*(one.picked for one in self.parts.values()))))

    def events(self) -> tuple[list[str], Mapping[str, Declaration]]:
        """Return the names of all events that may come, and the declarations."""
        found = [one.events()[0] for one in self.parts.values()]
        return list(dict.fromkeys(chain(*found))), self.guests.declared()

    def hex_arguments(self) -> HexArguments:
        """Return, by event, the arguments that QEMU prints in hex; pointers are among them."""
        declared = {id(d): d for d in (one.events()[1] for one in self.parts.values())}.values()
        return HexArguments(d[name] for name in self.picked for d in declared if name in d)

    async def kernel_events(self) -> Mapping[str, KernelEvent]:
        """Return no events of the kernel, which are of all guests at once.

        Raises:
            UsageError: some are wanted.
        """
        from qtctl.backends.ftrace.events import split

        if self.settings.kernel or split(self.selection)[1]:
            raise UsageError("kernel events are followed with one guest", hint="-t GUEST")
        return {}

    async def __aenter__(self) -> Self:
        """Enter the stream of each guest; those that hang join later.

        Raises:
            QtctlError: all failed; the error of the first.
            UsageError: events of the kernel are wanted.
        """
        await self.kernel_events()
        self.began_ns = time.time_ns()
        self.guests.into(self)
        try:
            await self.guests.settled(lambda one: one.begun)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def began(self, one: Member) -> None:
        """Tell of a guest whose stream was entered."""
        stream, name = one.stream, one.name
        assert stream is not None
        stream.on_silence = lambda text, proven: self.on_silence(f"{name}: {text}", proven)
        if stream.report is not None:
            changed, patterns = len(stream.report.changed), tuple(self.selection.words())
            own = os.getpid()
            self.add(one, Control("enable", patterns, changed, stream.began_ns, own, name))
        self.on_began(name, stream)
        if self.stopped.is_set():  # while it was entered
            stream.stop()

    def stop(self) -> None:
        """End the stream: events go off, and what was logged until then is still read."""
        self.stopped.set()
        self.wake()
        for stream in self.parts.values():
            stream.stop()

    async def release(self) -> None:
        """Switch the events back now, also while nobody iterates the stream."""
        work = [stream.release() for stream in self.parts.values()]
        results = await asyncio.gather(*work, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, QtctlError):
                raise result

    async def __aexit__(self, *_: object) -> None:
        """Leave the stream of each guest, which restores it."""
        self._left = True
        self.stop()
        for one in self._members:
            one.room.set()
        while any(one.follows for one in self._members):
            await self.guests.next_change()

    # What the guests' tasks read, and its merging.

    def _now_ns(self) -> int:
        """Return the Unix time, by a clock that nobody sets."""
        return self._begin_ns + time.monotonic_ns()

    def wake(self) -> None:
        """Look again which guests are followed."""
        self._came.set()

    def add(self, one: Member, item: Item) -> None:
        """Take an item of a guest."""
        times = self._times(one, item)
        if isinstance(item, Batch):
            one.late += int(np.count_nonzero(times < self._emitted_ns))
        one.last_ns = int(times[-1])
        one.rows.append(Row(item, times))
        self._came.set()

    async def put(self, one: Member, item: Item) -> None:
        """Take an item of a guest, and wait while too many wait."""
        if self._left or (isinstance(item, Batch) and not len(item)):
            return
        self.add(one, item)
        while len(one.rows) >= _QUEUED and not self._left:
            one.room.clear()
            await one.room.wait()

    def _times(self, one: Member, item: Item) -> Int64Array:
        """Return the times of an item's rows for its place: they never fall, and are past."""
        now_ns = self._now_ns()
        if isinstance(item, Batch):
            own = item.arrived if item.clock is not Clock.REALTIME else np.bool_(True)
            times = np.where(own, item.time_ns, now_ns)
            times = np.where(item.event >= 0, times, one.last_ns)
            return np.maximum(np.maximum.accumulate(np.minimum(times, now_ns)), one.last_ns)
        return np.array([max(one.last_ns, min(item.time_ns, now_ns))])

    async def __aiter__(self) -> AsyncGenerator[Item]:
        """Yield the items in order, until :meth:`stop`, the limit, or the end of all guests.

        Raises:
            LinkLost: the last guest went away; all that was logged until then has been yielded.
        """
        while self._limit is None or self._shown < self._limit:
            live = [one for one in self._members if one.follows]
            if not any(one.rows for one in self._members):
                if not live and (self.stopped.is_set() or not self.guests.may_come()):
                    break
                self._came.clear()
                await self._came.wait()
                continue
            until_ns = self._now_ns() - _HOLD_NS
            until_ns = max(until_ns, min((one.last_ns for one in live), default=0))
            items = self._taken(until_ns if live else None)
            if not items:
                await asyncio.sleep(_TICK_S)
            for item in items:
                yield item
        errors = [one.error for one in self._members]
        if all(isinstance(error, LinkLost) for error in errors):
            raise LinkLost("all guests are gone", hint="qtctl ps")

    def _taken(self, until_ns: int | None) -> list[Item]:
        """Take what stands at a time or before it, and all of a guest of whom too much waits."""
        taken: list[Row] = []
        for one in self._members:
            full = len(one.rows) >= _QUEUED
            rows, one.rows = divide(one.rows, None if full else until_ns)
            taken += rows
            one.room.set()
        if taken:
            self._emitted_ns = max(self._emitted_ns, *(int(row.times[-1]) for row in taken))
        return self._limited(merged(taken))

    def _limited(self, items: list[Item]) -> list[Item]:
        if self._limit is None:
            return items
        shown: list[Item] = []
        for item in items:
            if isinstance(item, Batch):
                item = item.first(self._limit - self._shown)
                if not len(item):
                    continue
                self._shown += len(item)
            shown.append(item)
        return shown


Followed = Stream | MergedStream
"""The stream of a verb: of one guest, or of several."""
