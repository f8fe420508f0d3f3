"""A session on one guest: its monitor, facts, leases and streams."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.backends.table import Undoing
from qtctl.errors import ConnectionFailed, QtctlError
from qtctl.events.selection import Selection
from qtctl.events.states import States, SwitchReport, read_selected
from qtctl.leases.journal import Owner
from qtctl.leases.leasing import GivenBack, Leasing, forget, new_owner
from qtctl.model import Budget, Declaration, EventState, Guest
from qtctl.monitor.client import Monitor
from qtctl.monitor.processes import same_process
from qtctl.session.event_cache import remember
from qtctl.session.facts import Backends, Facts
from qtctl.session.follow import Follow
from qtctl.session.journals import identify
from qtctl.session.names import Names

if TYPE_CHECKING:
    from qtctl.backends.log.target import LogTarget
    from qtctl.session.stream import Stream

_ENDING_S = 0.5
_ENDING_POLL_S = 0.02
_RETURN_POLL_S = 0.25


class Session:
    """An attached guest; :func:`qtctl.attach` makes it, and restores what it leased at the end.

    ``streams`` are the entered ones; ``on_streams`` is called when a stream is entered or left.
    """

    def __init__(self, monitor: Monitor, guest: Guest | None, events_all: Path | None) -> None:
        self.monitor = monitor
        self.notices: list[str] = []
        self.streams: list[Stream] = []
        self.on_streams: Callable[[], None] = lambda: None
        self._begin(guest, events_all)

    def _begin(self, guest: Guest | None, events_all: Path | None) -> None:
        """Begin with the guest that answers now; None where it is to be found out."""
        self.guest, journal = identify(self.monitor, guest)
        self.monitor.guest = self.guest
        self.facts = Facts(self.guest, events_all)
        self.leasing = Leasing(self.monitor, self.guest, journal, Undoing())
        self._backends: Backends | None = None

    @property
    def where(self) -> str:
        """The monitor's address, which names the guest in messages."""
        return str(self.monitor.address)

    @property
    def target(self) -> str:
        """The TARGET by which another qtctl of this machine reaches this guest, and no other."""
        if self.monitor.elsewhere and self.guest is not None:
            return str(self.guest.pid)
        return self.where

    async def list(self, *patterns: str) -> dict[str, EventState]:
        """Return the states of the events that ``patterns`` match (default: all), by name."""
        selection = Selection.of(*(patterns or ("*",)))
        states = await self.states_of(selection)
        return {name: states[name] for name in sorted(selection.pick(states))}

    async def enable(self, *patterns: str) -> SwitchReport:
        """Switch events on until they are changed again; see :meth:`Leasing.switch`."""
        return await self.leasing.switch(None, Selection.of(*patterns), True)

    async def disable(self, *patterns: str) -> SwitchReport:
        """Switch events off until they are changed again; see :meth:`Leasing.switch`."""
        return await self.leasing.switch(None, Selection.of(*patterns), False)

    @contextlib.asynccontextmanager
    async def switched(
        self, selection: Selection, enable: bool = True, *, agreed: bool = True
    ) -> AsyncIterator[SwitchReport]:
        """Switch events for the length of the block, then switch them back."""
        owner = new_owner()
        try:
            yield await self.leasing.switch(owner, selection, enable, agreed=agreed)
        finally:
            await self.end(owner)

    def follow(
        self,
        *patterns: str | Selection,
        where: str | None = None,
        backend: str = "auto",
        text: bool = False,
        limit: int | None = None,
        kernel: Sequence[str] = (),
        guard: int | Budget | None = None,
        news: bool = True,
        whole: bool = False,
        own: bool = False,
        clock: str | None = None,
    ) -> Stream:
        """Return a stream of the guest's records, to enter with ``async with``.

        ``patterns`` are switched on while it is entered; without any it follows what is on. A
        :class:`Selection` can also exclude events. ``guard`` is in events a second, or a
        :class:`Budget`; the other settings are those of :class:`Follow`.
        """
        chosen = Selection.of(*patterns)
        budget = Budget(guard) if isinstance(guard, int) else guard
        events = tuple(kernel)
        return self.stream(
            Follow(chosen, where, backend, text, limit, events, budget, news, whole, own, clock)
        )

    def stream(self, follow: Follow) -> Stream:
        """Return the stream of these settings, to enter with ``async with``."""
        from qtctl.session.stream import Stream

        return Stream(self, follow)

    def following(self, stream: Stream, now: bool) -> None:
        """Register a stream that was entered, or unregister one that was left."""
        if now != (stream in self.streams):
            (self.streams.append if now else self.streams.remove)(stream)
            self.on_streams()

    @contextlib.contextmanager
    def mending(self, say: Callable[[str], None]) -> Iterator[None]:
        """For the length of the block, restore what a killed lender left, and report it."""
        tasks: set[asyncio.Task[None]] = set()

        async def recover() -> None:
            with contextlib.suppress(QtctlError):
                for notice in await self.leasing.recover():
                    say(notice)

        self.monitor.on_reconnect = lambda: tasks.add(asyncio.ensure_future(recover()))
        try:
            yield
        finally:
            self.monitor.on_reconnect = lambda: None
            for task in tasks:
                task.cancel()

    def guest_ended(self) -> bool:
        """Return whether the guest's process is gone; False where the process cannot be seen."""
        return self.guest is not None and not same_process(self.guest.pid, self.guest.started)

    async def ends_soon(self) -> bool:
        """Return whether the guest ends within half a second: its monitor goes first."""
        deadline = time.monotonic() + _ENDING_S
        while not self.guest_ended():
            if self.guest is None or time.monotonic() > deadline:
                return False
            await asyncio.sleep(_ENDING_POLL_S)
        return True

    async def reconnect(self) -> None:
        """Connect once more after the link was lost, to restore the guest.

        Raises:
            ConnectionFailed: it does not answer; leases stay in the journal.
        """
        await self.monitor.reconnect()

    async def comes_back(self, timeout_s: float | None = None) -> bool:
        """Wait until a guest answers here again, and attach; return whether one did.

        For a console whose link is lost for good: QEMU ended and was started again, or its monitor
        was closed. Earlier streams must have been left; the new guest has none of their leases.
        ``timeout_s`` of None waits for ever, at almost no cost.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(ConnectionFailed):
                await self.monitor.reconnect(another_guest=True)
                break
            if deadline is not None and time.monotonic() > deadline:
                return False
            await asyncio.sleep(_RETURN_POLL_S)
        if self.guest_ended():
            forget(self.leasing.journal, Undoing())
        self._begin(None, self.facts.events_all)
        self.notices += await self.leasing.recover()
        return True

    async def end(self, owner: Owner) -> GivenBack:
        """End a lease: over the link, over a new link, or not at all if the guest has ended."""
        if self.guest_ended():
            forget(self.leasing.journal, Undoing())
            return GivenBack()
        try:
            if self.monitor.lost:
                await self.reconnect()
            given = await self.leasing.give_back(owner)
        except QtctlError as failure:
            if self.monitor.lost and await self.ends_soon():
                forget(self.leasing.journal, Undoing())
                return GivenBack()
            note = f"could not give the guest back: {failure.message}; the next qtctl run will"
            given = GivenBack(notes=(note,))
        self.notices += given.notes
        return given

    async def restore(self) -> GivenBack:
        """Restore everything that qtctl switched and no running qtctl still needs."""
        return await self.leasing.restore()

    def declared(self) -> Mapping[str, Declaration]:
        """Return the declarations of the guest's events, by name."""
        return self.facts.declarations.by_name

    async def names(self) -> Names:
        """Return the names of the guest's threads and pointers."""
        return await Names.ask(self.monitor, self.guest)

    async def backends(self) -> Backends:
        """Return the guest's trace backends; they are detected once a session."""
        if self._backends is None:
            self._backends = await self.facts.backends(self.monitor)
        return self._backends

    async def log_target(self) -> LogTarget:
        """Return where the log goes now, without a probe of the file."""
        spools = [one.facts["spool"] for one in await self.leasing.held("log")]
        return self.facts.log_target(await self.backends(), spools)

    async def all_states(self) -> States:
        """Return the state of every event of the guest, by name."""
        return await self.states_of(Selection.of("*"))

    async def states_of(self, selection: Selection) -> States:
        """Return the states of all events that ``selection`` picks, and perhaps of more."""
        states = await read_selected(self.monitor, selection)
        if not selection.plain:
            remember(states, self.facts.declarations_path)
        return states


def same_guest(one: Session, other: Session) -> bool:
    """Return whether two sessions are on one guest."""
    if one.guest is None or other.guest is None:
        return one.guest is other.guest and one.where == other.where
    return (one.guest.pid, one.guest.started) == (other.guest.pid, other.guest.started)
