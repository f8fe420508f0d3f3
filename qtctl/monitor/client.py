"""A guest's monitor as verbs use it: its own socket, or through whoever lends it.

QMP takes one client at a time. A qtctl that stays lends the monitor to all others (``lending``), so
the lender is looked for first. One that goes is survived: another is found, or this process takes
the monitor itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qtctl.errors import (
    ConnectionFailed,
    LinkLost,
    MonitorBusy,
    OutcomeUnknown,
    QtctlError,
    Refused,
)
from qtctl.model import Address, Guest
from qtctl.monitor.answering import (
    is_another_guest,
    is_answered_by,
    leads_nowhere,
    no_entry,
    tcp_server,
    wrong_guest,
)
from qtctl.monitor.guests import described
from qtctl.monitor.holders import qtctl_holds_unlent
from qtctl.monitor.lending import ANNOUNCE, HELLO, LENDER, Lender
from qtctl.monitor.link import COMMAND_TIMEOUT_S, Link, negotiate
from qtctl.monitor.networks import EntryRefused, is_elsewhere, open_network
from qtctl.monitor.news import EventQueue, news_of
from qtctl.monitor.rendezvous import meeting_of
from qtctl.monitor.sockets import open_socket, peer_of

CONNECT_TIMEOUT_S = 5.0
_BORROW_TIMEOUT_S = 4.0
_HELLO_TIMEOUT_S = 3.0
_LOOK_S = 0.03
"""How often a lender is looked for while the guest's own socket keeps us waiting."""
_LINE_TIMEOUT_S = 30.0
_LINE_LOOK_S = 0.5
"""How often it is looked for other qtctls in front of us, when the deadline is near."""


@dataclass(slots=True)
class _Way:
    """How the monitor is reached: straight, through our own ``lender``, or ``borrowed``.

    ``guest_pid`` is who serves the monitor.
    """

    link: Link
    guest_pid: int | None = None
    lender: Lender | None = None
    borrowed: bool = False

    async def close(self) -> None:
        """Hang up; a lender finishes what it was asked first."""
        await self.link.close()
        if self.lender is not None:
            await self.lender.leave()


class Monitor:
    """One guest's monitor. Make it with :func:`connect`, end it with :meth:`close`."""

    def __init__(
        self, address: Address, guest: Guest | None, *, lend: bool, told: Callable[[str], None]
    ) -> None:
        self.address = address
        self.guest = guest
        """The guest that must answer; whoever does where it is None."""
        self.elsewhere = is_elsewhere(address, guest)
        """Whether the address is one of another network namespace than ours."""
        self._network: int | None = None
        self._no_network = ""
        self._lend = lend
        self._told = told
        self._queues: list[EventQueue] = []
        self._mending = asyncio.Lock()
        self._gone = False
        self._here = asyncio.Event()
        self._here.set()
        self._asking = 0
        self._way: _Way
        self._watch: asyncio.Task[str] | None = None
        self.mended: Callable[[], None] = lambda: None
        """Called when the lender went, and another was found or this process took its place."""

    async def open(self, timeout_s: float) -> None:
        """Connect; see :func:`connect`."""
        if self.elsewhere and self.guest is not None:
            try:
                self._network = open_network(self.guest.pid)
            except EntryRefused as refused:
                self._no_network = str(refused)  # a lender may still be reached
        try:
            self._way = await self._find_way(timeout_s, self.guest)
        except BaseException:
            self._leave_network()
            raise
        self._keep_watch()

    def _leave_network(self) -> None:
        network, self._network = self._network, None
        if network is not None:
            os.close(network)

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's version as it greeted: major, minor, micro."""
        qemu = self._way.link.greeted_version["qemu"]
        return qemu["major"], qemu["minor"], qemu["micro"]

    @property
    def package(self) -> str:
        """The distribution's own version text from the greeting, or an empty string."""
        return str(self._way.link.greeted_version.get("package") or "")

    @property
    def guest_pid(self) -> int | None:
        """The process that serves the monitor; None where it is not seen."""
        return self._way.guest_pid

    @property
    def lent(self) -> bool:
        """Whether others can be on it: it is borrowed, or this process lends it."""
        return self._way.borrowed or self._way.lender is not None

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> Any:
        """Send one QMP command and return its ``return`` value.

        Where a lender goes meanwhile, what it did not begin and what only asks is sent once more.

        Raises:
            Refused: QEMU answered with an error; it did nothing.
            OutcomeUnknown: no answer within ``timeout_s``, or the link broke after the command was
                sent; QEMU may still apply it.
            LinkLost: the link is gone, and the command was not sent.
        """
        while True:
            way = await self._standing_way()
            self._asking += 1
            try:
                return await way.link.execute(command, arguments, timeout_s)
            except (OutcomeUnknown, LinkLost) as error:
                harmless = (
                    isinstance(error, LinkLost)
                    or way.link.said_goodbye
                    or _asks(command, arguments)
                )
                if way.link.up or not way.borrowed or not harmless or not await self._mend(way):
                    raise
            finally:
                self._asking -= 1

    async def hmp(self, line: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run one line of the human monitor; an empty string is success, errors are text."""
        answer = await self.execute(
            "human-monitor-command", {"command-line": line}, timeout_s=timeout_s
        )
        return str(answer).replace("\r\n", "\n")

    @property
    def lost(self) -> bool:
        """Whether the link is gone for good."""
        standing = self._way.link.up or not self._here.is_set()
        return not standing and (self._gone or not self._way.borrowed)

    async def wait_lost(self) -> str:
        """Wait until the link is gone for good and return the root cause in words."""
        while True:
            way = self._way
            cause = await way.link.wait_down()
            if not self._here.is_set():
                await self._here.wait()
            elif self._way is way and not (way.borrowed and await self._mend(way)):
                return cause

    async def reconnect(self, *, another_guest: bool = False) -> None:
        """Connect once more after the link was lost.

        ``another_guest`` takes whoever answers at the address now; one in the same network
        namespace, and not through the files of a process that has ended.

        Raises:
            ConnectionFailed: nobody answers, or another guest does and that is not wanted.
        """
        before, pid = self._way, self._way.guest_pid
        if self.guest is not None and leads_nowhere(self.address, self.guest):
            raise ConnectionFailed(f"{self.address} is gone: guest {self.guest.pid} has ended")
        fresh = await self._find_way(CONNECT_TIMEOUT_S, None if another_guest else self.guest)
        if not another_guest and None not in (pid, fresh.guest_pid) and pid != fresh.guest_pid:
            await fresh.close()
            raise ConnectionFailed(f"another guest answers at {self.address} now")
        self._way, self._gone = fresh, False
        self._keep_watch()
        await before.close()

    async def step_aside(self) -> None:
        """Let go of a monitor that nobody else can reach meanwhile, unless it is being asked.

        It is taken again with :meth:`step_back`, or when it is asked next.
        """
        if not self.lent and not self._asking and self._way.link.up:
            self._here.clear()
            await self._way.close()

    async def step_back(self) -> None:
        """Take the monitor again after :meth:`step_aside`.

        Raises:
            ConnectionFailed: see :func:`connect`.
        """
        async with self._mending:
            if not self._here.is_set():
                try:
                    await self.reconnect()
                finally:
                    self._here.set()  # or gone for good

    def _keep_watch(self) -> None:
        """See to it that a console mends its way, or lends the monitor, also while it is idle."""
        if self._lend and (self._watch is None or self._watch.done()):
            self._watch = asyncio.ensure_future(self.wait_lost())

    async def _standing_way(self) -> _Way:
        """Return the way; a borrowed one that is down is mended first, where that can be."""
        await self.step_back()
        if not self._way.link.up and self._way.borrowed:
            await self._mend(self._way)
        return self._way

    async def _mend(self, broken: _Way) -> bool:
        """Find another way after the lender went; tell whether there is one now."""
        async with self._mending:
            if self._way is broken and not self._gone:
                try:
                    await self.reconnect()
                except QtctlError:
                    self._gone = True
                else:
                    self.mended()
            return self._way is not broken

    async def close(self) -> None:
        """Hang up, within a second or two; never raises, events that are on stay on."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        await self._way.close()
        self._leave_network()

    # -- consoles ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def listening(self, ear: EventQueue) -> AsyncIterator[None]:
        """Put what the guest and other consoles tell into ``ear`` for the length of the block."""
        self._queues.append(ear)
        try:
            await self._say_hello()
            yield
        finally:
            self._queues.remove(ear)
            await self._say_hello()

    def _heard(self, event: Mapping[str, Any]) -> None:
        if self._queues and (news := news_of(event)) is not None:
            for ear in self._queues:
                ear.put(news)

    async def _say_hello(self) -> None:
        if self.lent and self._way.link.up:
            with contextlib.suppress(QtctlError):
                await self._introduce(self._way.link)

    async def _introduce(self, link: Link) -> int | None:
        """Tell a lender that this is qtctl, and whether it listens; return the guest's pid."""
        told = await link.execute(HELLO, {"listens": bool(self._queues)}, _HELLO_TIMEOUT_S)
        return told.get("guest_pid") if isinstance(told, dict) else None

    async def announce(self, event: str, data: Mapping[str, object]) -> int:
        """Tell the consoles on this guest something, without QEMU; return how many listen.

        Raises:
            LinkLost: whoever lent the monitor is gone, and nobody took over.
            OutcomeUnknown: it went in the middle.
        """
        listeners = await self._ask_lender(ANNOUNCE, {"event": event, "data": dict(data)})
        if listeners is None:
            self._heard({"event": event, "data": data})
            return len(self._queues)
        return int(listeners)

    async def lender(self) -> dict[str, Any] | None:
        """Return who lends the monitor (``pid``), where (``path``) and to whom (``clients``)."""
        found: dict[str, Any] | None = await self._ask_lender(LENDER)
        return found

    async def _ask_lender(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Ask whoever lends the monitor; None where nobody does, or no more."""
        if not self.lent:
            return None
        try:
            return await self.execute(command, arguments)
        except Refused:  # by QEMU itself: the lender went, and we have the monitor now
            return None

    # -- finding a way -----------------------------------------------------------------------

    async def _find_way(self, timeout_s: float, guest: Guest | None) -> _Way:
        """Borrow the monitor where it is lent, else take it, and look out for a lender meanwhile.

        ``guest`` must be the one that answers, where it is given.

        Of several that start at once QEMU greets one. The others find that one lending, or wait
        until it has left, which may be their turn only after others': then longer than the rest.
        """
        if (borrowed := await self._borrow(guest)) is not None:
            return borrowed
        began = time.monotonic()
        deadline = began + timeout_s
        look_at = deadline - 4 * _LINE_LOOK_S
        taking = asyncio.ensure_future(self._take(timeout_s, guest))
        try:
            while not taking.done():
                await asyncio.wait({taking}, timeout=_LOOK_S)
                if not taking.done() and (borrowed := await self._borrow(guest)) is not None:
                    return borrowed
                now = time.monotonic()
                if now > deadline:
                    raise MonitorBusy(
                        f"{self.address} took the connection but did not greet "
                        f"within {deadline - began:.3g} s"
                    )
                if look_at < now < began + _LINE_TIMEOUT_S:
                    look_at = now + _LINE_LOOK_S
                    if await asyncio.to_thread(qtctl_holds_unlent, self.address, self.guest):
                        deadline = max(deadline, now + timeout_s)
            return taking.result()
        finally:
            if borrowed is not None or not taking.done():
                await _abandon(taking)
            elif not taking.cancelled():
                taking.exception()  # told to whoever waits; nobody does where we are cancelled

    async def _borrow(self, guest: Guest | None) -> _Way | None:
        """Connect to whoever lends the monitor; None where nobody does, or has just left.

        Raises:
            ConnectionFailed: another guest's monitor is lent there.
        """
        meeting = meeting_of(self.address, self.guest)
        sock = meeting.call() if meeting is not None else None
        if sock is None:
            return None
        pid = peer_of(sock).pid
        try:
            link = await self._negotiated(sock, _BORROW_TIMEOUT_S)
        except MonitorBusy as busy:
            raise MonitorBusy(
                f"{self.address} is lent by qtctl (pid {pid}), which does not answer",
                hint=f"kill -CONT {pid}, or end it",
            ) from busy
        except ConnectionFailed:
            return None
        try:
            served = await self._introduce(link)
        except QtctlError:
            await link.close()
            return None
        if guest is not None and served != guest.pid:
            try:
                if is_another_guest(served, guest):
                    raise wrong_guest(self.address, guest, described(served))
                await self._check_name(link, guest)
            except BaseException:
                await link.close()
                raise
        return _Way(link, served, borrowed=True)

    async def _take(self, timeout_s: float, guest: Guest | None) -> _Way:
        """Connect to the guest's own socket, and lend it where this process is to.

        One attempt, which :meth:`_find_way` ends when it takes too long.
        """
        began = time.monotonic()
        only_queues = self.address.path is not None
        sock = await self._opened(_LINE_TIMEOUT_S if only_queues else timeout_s)
        peer = peer_of(sock).pid
        if guest is not None and is_another_guest(peer, guest):
            sock.close()
            raise wrong_guest(self.address, guest, described(peer))
        if self._lend:
            way = await self._lent(sock, guest)
        else:
            link = await self._negotiated(sock, _LINE_TIMEOUT_S)
            try:
                way = _Way(link, await self._answerer(sock, link, guest))
            except BaseException:
                await link.close()
                raise
        way.link.patience_s = max(1.0, COMMAND_TIMEOUT_S - (time.monotonic() - began))
        return way

    async def _opened(self, timeout_s: float) -> socket.socket:
        """Connect to the guest's own socket, in its network namespace.

        Raises:
            ConnectionFailed: see :func:`open_socket`; or that namespace may not be entered.
        """
        if not self.elsewhere:
            return await open_socket(self.address, timeout_s)
        assert self.guest is not None
        if self._network is None:
            raise no_entry(self.address, self.guest, self._no_network)
        try:
            return await open_socket(self.address, timeout_s, self._network)
        except EntryRefused as refused:
            raise no_entry(self.address, self.guest, str(refused)) from refused

    async def _answerer(self, sock: socket.socket, link: Link, guest: Guest | None) -> int | None:
        """Return the pid of the process that answers, None where it is not seen.

        Raises:
            ConnectionFailed: it is not ``guest``.
        """
        if guest is None:
            return peer_of(sock).pid if sock.family == socket.AF_UNIX else tcp_server(sock)
        answers = is_answered_by(sock, guest)
        if answers is False:
            other = peer_of(sock).pid if sock.family == socket.AF_UNIX else tcp_server(sock)
            raise wrong_guest(self.address, guest, described(other))
        if answers is None:
            await self._check_name(link, guest)
        return guest.pid

    async def _check_name(self, link: Link, guest: Guest) -> None:
        """Ask a guest for its name, where the kernel does not show who answers.

        Raises:
            ConnectionFailed: it has another name than ``guest``.
        """
        if guest.name is None:
            return
        with contextlib.suppress(Refused):
            answer = await link.execute("query-name", None, COMMAND_TIMEOUT_S)
            name = answer.get("name") if isinstance(answer, dict) else None
            if name != guest.name:
                named = "a guest without a name" if name is None else f"a guest named {name!r}"
                raise wrong_guest(self.address, guest, named)

    async def _negotiated(self, sock: socket.socket, timeout_s: float) -> Link:
        return await negotiate(self.address, sock, self._heard, timeout_s=timeout_s)

    async def _lent(self, qemu: socket.socket, guest: Guest | None) -> _Way:
        """Put a lender between QEMU and this process, and let others in once QEMU has greeted."""
        ours, lenders = socket.socketpair()
        lender = Lender(self._told)
        try:
            await lender.begin(qemu, lenders)
            link = await self._negotiated(ours, _LINE_TIMEOUT_S)
            lender.guest_pid = guest_pid = await self._answerer(qemu, link, guest)
            await self._introduce(link)
        except BaseException:
            lender.end()
            raise
        meeting = meeting_of(self.address, self.guest)
        if meeting is not None:
            try:
                await lender.publish(meeting)
            except OSError as error:
                self._told(f"cannot lend the monitor at {meeting.path}: {error.strerror}")
        return _Way(link, guest_pid, lender)


async def connect(
    address: Address,
    guest: Guest | None = None,
    *,
    lend: bool = False,
    told: Callable[[str], None] = lambda text: None,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Monitor:
    """Connect through whoever lends the monitor, else to the guest's own socket.

    ``guest`` must be the one that answers, where it is given; its network namespace is entered
    where the address lies in that. With ``lend`` this process lends the monitor to others while it
    holds it; ``told`` is called when one comes or goes.

    Raises:
        MonitorBusy: the server took the connection and did not greet, as QEMU does while another
            client is connected, or its backlog is full.
        ConnectionFailed: nobody listens there, what listens does not speak QMP, or it is another
            guest than ``guest``.
    """
    monitor = Monitor(address, guest, lend=lend, told=told)
    await monitor.open(timeout_s)
    return monitor


_QUERIES = ("trace-event-get-state", "qom-get", "qom-list", "qom-list-types", HELLO, LENDER)
_HMP_QUERIES = ("help ", "info ", "trace-file flush")


def _asks(command: str, arguments: Mapping[str, object] | None) -> bool:
    """Tell whether a command changes nothing, so that it may be sent a second time."""
    if command == "human-monitor-command":
        line = str((arguments or {}).get("command-line", ""))
        return line == "trace-file" or line.startswith(_HMP_QUERIES)
    return command.startswith("query-") or command in _QUERIES


async def _abandon(taking: asyncio.Task[_Way]) -> None:
    """Give up taking the monitor; where that had just succeeded, give it back."""
    taking.cancel()
    await asyncio.wait({taking})
    if not taking.cancelled() and taking.exception() is None:
        await taking.result().close()
