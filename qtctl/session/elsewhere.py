"""A guest of another host, as a session with streams: the qtctl there does the work.

What it has of a :class:`Session` is what verbs need to follow a guest; what needs the monitor is
refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, NoReturn, Self, cast

import numpy as np

from qtctl.backends.ftrace.events import KernelEvent
from qtctl.errors import LinkLost, QtctlError, UsageError
from qtctl.events.declarations import Declarations
from qtctl.events.states import States
from qtctl.model import Backend, Clock, Declaration, EventState, Guest
from qtctl.monitor.client import Monitor
from qtctl.monitor.hosts import OtherHost
from qtctl.recordings.chunks import ChunkKind
from qtctl.recordings.store import DataReader, read_names
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss
from qtctl.session.clocks import Offset
from qtctl.session.facts import Facts
from qtctl.session.follow import Follow
from qtctl.session.link import HostLink
from qtctl.session.link_objects import follow_object, read_report, read_sums, texts
from qtctl.session.names import Names
from qtctl.session.session import Session
from qtctl.session.stream import Stream
from qtctl.shapes import Malformed, any_text, elements, member, members, parsed, whole

_LEAVE_S = 8.0
_TOLD_NS = 100_000_000
"""A clock that is further off is told of, also where only one host is followed."""


@contextlib.asynccontextmanager
async def attach_elsewhere(host: OtherHost, say: Callable[[str], None]) -> AsyncIterator[Session]:
    """Attach to a guest of another host; ``say`` is called with what its qtctl prints.

    Raises:
        QtctlError: the host cannot be reached; and what attaching raises there.
    """
    async with HostLink(host, say) as link:
        if link.other_version:
            say(link.other_version)
        link.send(type="attach", target=host.target, name=host.host)
        session = FarSession(link, say)
        told = await session.note("attached")
        with session.checked():
            session.attached(told)
        yield session


class _NoMonitor:
    """Stands for the monitor of a guest of another host, of which only this is known here."""

    def __init__(self, host: OtherHost, address: str, version: tuple[int, ...]) -> None:
        self.host = host
        self.address = address
        self.version = version
        self.elsewhere = True
        self.lost = False

    def __getattr__(self, name: str) -> NoReturn:
        raise UsageError(
            f"{self.address} is on another host, and this cannot be done from here",
            hint=f"{self.host.by_hand} -t qtctl -t {self.host.target} ...",
        )


class FarSession(Session):
    """A session on a guest of another host, over a link."""

    def __init__(self, link: HostLink, say: Callable[[str], None]) -> None:
        self.link = link
        self.say = say
        self.notices, self.streams, self.on_streams = [], [], lambda: None
        self.facts = Facts(None)
        self.table = EventTable.build((), {})
        self._names: list[str] = []
        self._declared: dict[str, Declaration] = {}
        self._states: States = {}
        self._data: DataReader | None = None

    def attached(self, told: dict[str, Any]) -> None:
        """Take what the other end tells of the guest.

        Raises:
            Malformed: it has another shape.
        """
        guest, host = members(member(told, "guest"), "the guest"), self.link.host
        version = tuple(
            whole(part, "the version") for part in elements(member(told, "version"), "the version")
        )
        address = f"{any_text(member(told, 'where'), 'the address')} on {host.host}"
        self.monitor = cast(Monitor, _NoMonitor(host, address, version))
        pid, name = guest.get("pid"), guest.get("name")
        self.guest = None
        if pid is not None:
            name = None if name is None else any_text(name, "the guest's name")
            self.guest = Guest(whole(pid, "the pid", 1), 0, "", (), name)
        states = members(member(told, "states"), "the states")
        self._states = {event: EventState(state) for event, state in states.items()}

    @contextlib.contextmanager
    def checked(self) -> Any:
        """Report that the other end tells what no qtctl does, if the block finds that."""
        try:
            yield
        except (Malformed, ValueError) as malformed:
            raise self.link.senseless(str(malformed)) from None

    async def next(self) -> tuple[int, bytes]:
        """Return the next chunk that holds no names; raise as the link does."""
        while True:
            kind, raw = await self.link.next()
            if kind != ChunkKind.NAMES:
                return kind, raw
            with self.checked():
                self._learn(raw)

    async def note(self, expected: str) -> dict[str, Any]:
        """Return the next object, which must be of a type."""
        return self.link.noted(*await self.next(), expected)

    def _learn(self, raw: bytes) -> None:
        for event in read_names(raw)[0]:
            self._names.append(event.name)
            if event.declaration is not None:
                self._declared[event.name] = event.declaration
        self.facts.declarations = Declarations(self._declared)
        self._data = None

    def items(self, raw: bytes) -> list[Item]:
        """Return the items of a chunk of data."""
        if self._data is None:
            self.table = EventTable.build(filter(None, self._names), self._declared)
            numbers = [self.table.indices.get(name, -1) for name in self._names]
            self._data = DataReader(self.table, np.array(numbers, np.int32))
        with self.checked():
            return self._data.read(raw)

    @property
    def target(self) -> str:
        """The TARGET of the guest."""
        host = self.link.host
        port = "" if host.port is None else f":{host.port}"
        return f"ssh://{host.destination}{port}/{host.target}"

    def guest_ended(self) -> bool:
        """Return False: its process cannot be seen."""
        return False

    async def states_of(self, selection: object) -> States:
        """Return the states of all events, as they were when it was attached to."""
        del selection
        return self._states

    async def names(self) -> Names:
        """Return no names: the threads are another host's."""
        return Names({}, (), None)

    def stream(self, follow: Follow) -> Stream:
        """Return the stream of these settings, to enter with ``async with``."""
        return FarStream(self, follow)


class FarStream(Stream):
    """Follows a guest of another host; one stream of a session at a time.

    Where several guests are followed, the times of a host whose clock is known to differ are put
    to the clock of this one.
    """

    def __init__(self, session: FarSession, follow: Follow) -> None:
        super().__init__(session, follow)
        self._far = session
        self._link = session.link
        self._source = "nowhere"
        self._besides: tuple[str, ...] = ()
        self._ended = True
        self._ahead_ns = 0

    @property
    def source(self) -> str:
        """Where the records are read, in words."""
        return f"{self._source} of {self._link.host.host}"

    async def __aenter__(self) -> Self:
        """Open and switch there.

        Raises:
            QtctlError: what entering a stream raises there, and LinkLost.
        """
        self._link.send(type="follow", follow=follow_object(self.follow))
        told = await self._far.note("began")
        self._ended = False
        with self._far.checked():
            self._began(told)
        self._link.on_beat = self._beat
        self._put_to_clock(self._link.offset)
        self._far.following(self, True)
        return self

    def _began(self, told: dict[str, Any]) -> None:
        self.backend = Backend(any_text(member(told, "backend"), "the backend"))
        self.picked = list(texts(member(told, "picked"), "an event"))
        self._besides = texts(member(told, "kernel"), "an event")
        self._declared = self._far.declared()
        self._source = any_text(member(told, "source"), "the source")
        self.choices = whole(member(told, "choices"), "the choices")
        passed = members(member(told, "passed_over"), "the backends")
        self.passed_over = {Backend(name): any_text(why, "why") for name, why in passed.items()}
        self.report = read_report(member(told, "report"))
        self.began_ns = time.time_ns()

    def _put_to_clock(self, offset: Offset | None) -> None:
        """Decide by how much times are put back, and tell of it."""
        host = self._link.host.host
        if offset is None:
            self._far.say(f"{host}: how its clock goes is not known")
            return
        differs = abs(offset.ahead_ns) > offset.bound_ns
        if self.follow.guest is not None:
            self._ahead_ns = offset.ahead_ns if differs else 0
            done = "its times are put to this one" if differs else "its times stay as they are"
            self._far.say(f"{host}: {offset.words}; {done}")
        elif differs and abs(offset.ahead_ns) > _TOLD_NS:
            self._far.say(f"{host}: {offset.words}; its times stay as they are")

    async def kernel_events(self) -> Mapping[str, KernelEvent]:
        """Return none: what the other kernel's events are is known once the stream is entered."""
        return {}

    def events(self) -> tuple[list[str], Mapping[str, Declaration]]:
        """Return the names of all events that may come, and the declarations."""
        return [*self.picked, *self._besides], self._far.declared()

    def leave_out(self, names: Collection[str]) -> None:
        """Filter these events from now on, there."""
        self._link.send(type="leave_out", names=list(names))

    def stop(self) -> None:
        """End the stream: events go off there, and what was logged until then still comes."""
        if not self._ended:
            self._link.send(type="stop")

    async def release(self) -> None:
        """Do nothing: the other end releases the events when it is told to stop."""

    async def __aiter__(self) -> AsyncGenerator[Item]:
        """Yield the items as they come, the guest's news among them.

        Raises:
            LinkLost: the link or the guest's monitor went away.
        """
        async with contextlib.aclosing(self._items()) as items:
            async for item in items:
                yield item

    async def _items(self) -> AsyncGenerator[Item]:
        try:
            while True:
                kind, raw = await self._far.next()
                if kind == ChunkKind.DATA:
                    for item in await asyncio.to_thread(self._far.items, raw):
                        self._count(item)
                        yield self._timed(item)
                elif kind == ChunkKind.NOTE and self._take(raw):
                    return
        except LinkLost:
            if not self._ended:
                self._ended = True
                self.counts.unknown_losses += 1
                yield Loss(self.backend, None, time.time_ns(), guest=self.follow.guest)
            raise

    def _take(self, raw: bytes) -> bool:
        """Take an object; return whether it ends the stream.

        Raises:
            QtctlError: the stream failed there.
        """
        with self._far.checked():
            note = members(parsed(raw), "an answer")
            if note.get("type") == "silent":
                text = any_text(member(note, "text"), "a text")
                self.on_silence(text, bool(note.get("proven")))
            if note.get("type") != "ended":
                return False
            self._ended = True
            read_sums(member(note, "sums"), self.counts)
            error = note.get("error")
            failed = None if error is None else self._link.error(members(error, "an error"))
        if failed is not None:
            raise failed
        return True

    def _count(self, item: Item) -> None:
        counts = self.counts
        if isinstance(item, Batch):
            counts.shown += len(item)
            counts.read = counts.shown + counts.filtered
        elif isinstance(item, Loss):
            counts.lost += item.count or 0
            counts.unknown_losses += item.count is None

    def _beat(self, beat: dict[str, Any]) -> None:
        """Take how many records were filtered there so far."""
        sums = beat.get("sums")
        if isinstance(sums, dict) and isinstance(filtered := sums.get("filtered"), int):
            self.counts.filtered = filtered
            self.counts.read = self.counts.shown + filtered

    def _timed(self, item: Item) -> Item:
        """Return an item with its time put to the clock of this host."""
        if not self._ahead_ns:
            return item
        if isinstance(item, Batch):
            if item.clock is Clock.MONOTONIC:
                return item
            return replace(item, time_ns=item.time_ns - self._ahead_ns)
        if isinstance(item, Loss):
            return replace(item, time_ns=item.time_ns - self._ahead_ns) if item.time_ns else item
        return item._replace(time_ns=item.time_ns - self._ahead_ns)

    async def _leave(self) -> None:
        self._far.following(self, False)
        self._link.on_beat = lambda beat: None
        with contextlib.suppress(QtctlError, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                self.stop()
                while not self._ended:
                    kind, raw = await self._far.next()
                    if kind == ChunkKind.NOTE:
                        self._take(raw)
