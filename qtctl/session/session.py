"""Attaching to a guest: which one, through which monitor, and the session that owns it all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qtctl.backends.table import Undoing
from qtctl.errors import ConnectionFailed, MonitorBusy, QtctlError, UsageError
from qtctl.events.selection import Selection
from qtctl.events.states import States, SwitchReport, read_selected
from qtctl.leases.journal import Journal, Owner, guest_key, guest_of_key
from qtctl.leases.leasing import GivenBack, Leasing, forget, new_owner, owner_alive
from qtctl.model import Address, Budget, EventState, Guest
from qtctl.monitor.address import parse_target
from qtctl.monitor.client import Monitor, connect
from qtctl.monitor.guests import (
    described,
    find_guest,
    listening_process,
    lost_addresses,
    the_only_guest,
)
from qtctl.monitor.holders import holders
from qtctl.monitor.networks import is_elsewhere, network_of
from qtctl.monitor.processes import same_process
from qtctl.monitor.rendezvous import is_lent
from qtctl.session.event_cache import remember
from qtctl.session.facts import Backends, Facts
from qtctl.session.follow import Follow

if TYPE_CHECKING:
    from qtctl.backends.log.target import LogTarget
    from qtctl.session.stream import Stream

TARGET_VARIABLES = ("QTCTL_TARGET", "QMP_SOCKET")
_ENDING_S = 0.5
_ENDING_POLL_S = 0.02
_RETURN_POLL_S = 0.25


class Session:
    """An attached guest. Make it with :func:`attach`, which restores what was leased at its end.

    ``streams`` are the entered ones; ``on_streams`` is called when a stream is entered or left.
    """

    def __init__(
        self, monitor: Monitor, guest: Guest | None, facts: Facts, journal: Journal
    ) -> None:
        self.monitor = monitor
        self.guest = guest
        self.facts = facts
        self.leasing = Leasing(monitor, guest, journal, Undoing())
        self.notices: list[str] = []
        self.streams: list[Stream] = []
        self.on_streams: Callable[[], None] = lambda: None
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
    ) -> Stream:
        """Return a stream of the guest's records, to enter with ``async with``.

        ``patterns`` are switched on while it is entered; without any it follows what is on. A
        :class:`Selection` can also exclude events. ``guard`` is in events a second, or a
        :class:`Budget`; the other settings are those of :class:`Follow`.
        """
        rules = [
            rule
            for pattern in patterns
            for rule in (Selection.of(pattern) if isinstance(pattern, str) else pattern).rules
        ]
        follow = Follow(
            Selection(tuple(rules)),
            where=where,
            backend=backend,
            text=text,
            limit=limit,
            kernel=tuple(kernel),
            guard=Budget(guard) if isinstance(guard, int) else guard,
            news=news,
            whole=whole,
        )
        return self.stream(follow)

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

        def begin() -> None:
            tasks.add(asyncio.ensure_future(recover()))

        self.monitor.on_reconnect = begin
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
        self.guest, journal = _identify(self.monitor, None)
        self.monitor.guest = self.guest
        self.facts = self.facts.about(self.guest)
        self.leasing = Leasing(self.monitor, self.guest, journal, Undoing())
        self._backends = None
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


@contextlib.asynccontextmanager
async def attach(
    target: str | None = None,
    *,
    events_all: Path | None = None,
    lend: bool = False,
    say: Callable[[str], None] = lambda text: None,
    told: Callable[[str], None] = lambda text: None,
) -> AsyncIterator[Session]:
    """Attach to a guest: find it, connect, and restore what a killed run left switched.

    ``target`` is any TARGET of the command line; without it ``$QTCTL_TARGET``, ``$QMP_SOCKET``,
    else the only guest running. ``say`` is called with a line for each thing restored. The monitor
    is borrowed where another qtctl lends it; with ``lend`` this process lends it to others, and
    ``told`` is called with a line for each client that comes and goes.

    Raises:
        UsageError: the target cannot be right, or several guests are running and none is named.
        ConnectionFailed: no guest or no monitor, or another guest than the one that ``target``
            names answers at its address; MonitorBusy where another client holds it.
    """
    address, guest = resolve(target)
    monitor = await _connect(address, guest, lend, told)
    guest, journal = _identify(monitor, guest)
    monitor.guest = guest
    session = Session(monitor, guest, Facts(guest, events_all), journal)
    try:
        _prune(state_folder())
        for notice in await session.leasing.recover():
            say(notice)
        with session.mending(say):
            yield session
    finally:
        await session.monitor.close()


def resolve(target: str | None) -> tuple[Address, Guest | None]:
    """Return the address of a TARGET, and the guest if the TARGET was resolved to one.

    Raises:
        UsageError: the target cannot be right, or several guests are running.
        ConnectionFailed: no such guest, or it has no QMP monitor.
    """
    chosen = _from_environment() if target is None else target
    parsed = None if chosen is None else parse_target(chosen)
    if isinstance(parsed, Address):
        return parsed, None
    guest = the_only_guest() if parsed is None else find_guest(parsed)
    if guest is None:
        raise ConnectionFailed(f"no running guest is {chosen!r}", hint="qtctl ps")
    if not guest.addresses:
        raise _no_monitor(guest)
    if len(guest.addresses) == 1:
        return guest.addresses[0], guest
    addresses = sorted(guest.addresses, key=lambda address: is_elsewhere(address, guest))
    lent = [address for address in addresses if is_lent(address, guest)]
    free = [address for address in addresses if not holders(address, guest)]
    return (lent or free or addresses)[0], guest


def _no_monitor(guest: Guest) -> ConnectionFailed:
    """Return the error for a guest that has no address to connect to."""
    lost = [f"{described(pid)} listens at {address}" for address, pid in lost_addresses(guest)]
    return ConnectionFailed(
        "; ".join(
            [f"{described(guest.pid)} has no QMP monitor that can be connected to", *lost],
        ),
        hint="start QEMU with -qmp unix:PATH,server=on,wait=off"
        + (", and a PATH that no other guest has" if lost else ""),
    )


def _from_environment() -> str | None:
    """Return the target in the environment, or None where there is none.

    Raises:
        UsageError: the variable is set and empty, as by a script whose own variable is unset.
    """
    for name in TARGET_VARIABLES:
        value = os.environ.get(name)
        if value is not None and not value.strip():
            raise UsageError(f"${name} is set, but empty", hint=f"unset {name}, or -t TARGET")
        if value is not None:
            return value
    return None


async def _connect(
    address: Address, guest: Guest | None, lend: bool, told: Callable[[str], None]
) -> Monitor:
    try:
        return await connect(address, guest, lend=lend, log=told)
    except MonitorBusy as busy:
        if busy.hint:
            raise  # a lender that does not answer
        raise _busy(address, guest or find_guest(address), busy) from busy


def _busy(address: Address, guest: Guest | None, busy: MonitorBusy) -> QtctlError:
    """Return the error for a monitor that does not answer: held, by whom; stopped; or hung."""
    if guest is not None and _is_stopped(guest.pid):
        return ConnectionFailed(
            f"guest {guest.pid} behind {address} is stopped (SIGSTOP or a debugger)",
            hint=f"kill -CONT {guest.pid}",
        )
    # Our own end, just closed, may still look like a connection without a process.
    held = [h for h in holders(address, guest) if h.pid not in (None, os.getpid())]
    if held:
        return MonitorBusy(
            f"{address} is in use by {', '.join(map(str, held))}; QMP takes one client at a time",
            hint="end that client and start qtctl share, whose socket serves it too; "
            "or give QEMU a second -qmp socket",
        )
    return MonitorBusy(
        f"{busy.message}: another client may hold it, or QEMU hangs",
        hint="end the other client, or give QEMU a second -qmp socket",
    )


def _is_stopped(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return text.rsplit(")", 1)[1].split()[0] in ("T", "t")
    return False


def _identify(monitor: Monitor, guest: Guest | None) -> tuple[Guest | None, Journal]:
    """Return the guest behind a monitor and its journal."""
    if guest is None:
        guest = listening_process(monitor.address, monitor.guest_pid)
    if guest is None:
        key = "remote-" + re.sub(r"[^\w.:-]", "_", str(monitor.address)) + _network_suffix()
    else:
        key = guest_key(guest.pid, guest.started)
    return guest, Journal(state_folder() / key, owner_alive)


def _network_suffix() -> str:
    """Return the suffix of a journal's name for a network namespace other than the machine's.

    The same address leads to another guest in each.
    """
    ours, machines = network_of(), network_of(1)
    return f"-net{ours}" if None not in (ours, machines) and ours != machines else ""


def state_folder() -> Path:
    """Return the folder of leases, with one folder per guest."""
    import platformdirs

    return platformdirs.user_state_path("qtctl") / "leases"


def _prune(folder: Path) -> None:
    """Delete the journals of guests that have ended: there is nothing left to restore."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            guest = guest_of_key(entry.name)
            if guest is not None and not same_process(*guest):
                forget(Journal(entry, owner_alive), Undoing())
