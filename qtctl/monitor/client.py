"""A guest's monitor as verbs use it: on the guest's own socket, or through a lender.

When a lender leaves, :class:`Monitor` connects again: to another lender, or to the guest itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

from qtctl.errors import ConnectionFailed, LinkLost, OutcomeUnknown, QtctlError, Refused
from qtctl.model import Address, Guest
from qtctl.monitor import answers
from qtctl.monitor.connector import Connection, Connector
from qtctl.monitor.identity import leads_through_ended
from qtctl.monitor.lender_commands import ANNOUNCE, HELLO, LENDER
from qtctl.monitor.link import COMMAND_TIMEOUT_S
from qtctl.monitor.news import EventQueue
from qtctl.monitor.sent import NEVER_NS, Sent

CONNECT_TIMEOUT_S = 5.0
T = TypeVar("T")


class Monitor:
    """One guest's monitor. Make it with :func:`connect`, end it with :meth:`close`."""

    def __init__(
        self, address: Address, guest: Guest | None, *, lend: bool, log: Callable[[str], None]
    ) -> None:
        self.address = address
        self.guest = guest
        """The guest that must answer; None where any guest will do."""
        self.on_reconnect: Callable[[], None] = lambda: None
        """Called after a lender left and another was found, or this process took its place."""
        self._queues: list[EventQueue] = []
        self._connector = Connector(address, guest, lend, log, self._queues)
        self.elsewhere = self._connector.elsewhere
        """Whether the address lies in another network namespace than ours."""
        self._lend = lend
        self._reconnecting = asyncio.Lock()
        self._given_up = False
        self._held = asyncio.Event()
        self._held.set()
        self._in_flight = 0
        self.sent = Sent()
        """The requests of this process, for what shows them in the guest's trace."""
        self._connection: Connection
        self._watch: asyncio.Task[str] | None = None

    async def open(self, timeout_s: float) -> None:
        """Connect; see :func:`connect`."""
        try:
            self._connection = await self._connector.connect(timeout_s, self.guest)
        except BaseException:
            self._connector.close()
            raise
        self._keep_watch()

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's version in its greeting: major, minor, micro."""
        return self._connection.link.version.numbers

    @property
    def package(self) -> str:
        """The distribution's version text in the greeting, or an empty string."""
        return self._connection.link.version.package

    @property
    def guest_pid(self) -> int | None:
        """The process that serves the monitor; None where it is not visible."""
        return self._connection.guest_pid

    @property
    def lending_note(self) -> str:
        """What the user must know of how this process lends; empty if all is as usual."""
        return self._connector.note

    @property
    def lent(self) -> bool:
        """Whether it is shared with others: borrowed, or lent by this process."""
        return self._connection.borrowed or self._connection.lender is not None

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> Any:
        """Send one QMP command and return its ``return`` value.

        Where a lender leaves meanwhile, a command that it did not begin is sent again, and so is
        one that changes nothing.

        Raises:
            Refused: QEMU answered with an error; it did nothing.
            OutcomeUnknown: no answer within ``timeout_s``, or the link broke after the command was
                sent; QEMU may still apply it.
            LinkLost: the link is down, and the command was not sent.
        """
        while True:
            await self.reacquire()
            if not self._connection.link.up and self._connection.borrowed:
                await self._replace(self._connection)
            connection = self._connection
            self._in_flight += 1
            sent = self.sent.add(command, arguments)
            try:
                return await connection.link.execute(command, arguments, timeout_s)
            except (OutcomeUnknown, LinkLost) as error:
                sent.answered_ns = NEVER_NS
                link = connection.link
                repeatable = (
                    isinstance(error, LinkLost) or link.lender_left or _is_query(command, arguments)
                )
                lost = connection.borrowed and not link.up
                if not lost or not repeatable or not await self._replace(connection):
                    raise
            finally:
                sent.answered_ns = sent.answered_ns or time.time_ns()
                self._in_flight -= 1

    async def ask(
        self,
        command: str,
        convert: Callable[[Any], T],
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> T:
        """Send one QMP command and return its value, converted by a function of ``answers``.

        Raises:
            BadAnswer: the answer has another shape.
            Refused, OutcomeUnknown, LinkLost: see :meth:`execute`.
        """
        answer = await self.execute(command, arguments, timeout_s=timeout_s)
        return answers.checked(self.address, command, answer, convert)

    async def hmp(self, line: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run one line of the human monitor; an empty string is success, errors are text.

        Raises:
            BadAnswer, Refused, OutcomeUnknown, LinkLost: see :meth:`ask`.
        """
        printed = await self.ask(
            "human-monitor-command",
            answers.output_of,
            {"command-line": line},
            timeout_s=timeout_s,
        )
        return printed.replace("\r\n", "\n")

    # -- the connection ----------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """Whether the connection is down for good."""
        standing = self._connection.link.up or not self._held.is_set()
        return not standing and (self._given_up or not self._connection.borrowed)

    async def wait_lost(self) -> str:
        """Wait until the connection is down for good and return the root cause in words."""
        while True:
            connection = self._connection
            cause = await connection.link.wait_down()
            if not self._held.is_set():
                await self._held.wait()
            elif self._connection is connection and not (
                connection.borrowed and await self._replace(connection)
            ):
                return cause

    async def reconnect(self, *, another_guest: bool = False) -> None:
        """Connect again after the connection was lost.

        With ``another_guest`` any guest that answers at the address now will do, if it is in the
        same network namespace and the path does not lead through a process that has ended.

        Raises:
            ConnectionFailed: nobody answers, or another guest does and ``another_guest`` is false.
        """
        before, pid = self._connection, self._connection.guest_pid
        if self.guest is not None and leads_through_ended(self.address, self.guest):
            raise ConnectionFailed(f"{self.address} is gone: guest {self.guest.pid} has ended")
        wanted = None if another_guest else self.guest
        fresh = await self._connector.connect(CONNECT_TIMEOUT_S, wanted)
        if not another_guest and None not in (pid, fresh.guest_pid) and pid != fresh.guest_pid:
            await fresh.close()
            raise ConnectionFailed(f"another guest answers at {self.address} now")
        self._connection, self._given_up = fresh, False
        self._keep_watch()
        await before.close()

    async def release(self) -> None:
        """Close a connection that is not shared, unless a command is in flight.

        It is opened again by :meth:`reacquire`, or by the next command.
        """
        if not self.lent and not self._in_flight and self._connection.link.up:
            self._held.clear()
            await self._connection.close()

    async def reacquire(self) -> None:
        """Connect again after :meth:`release`.

        Raises:
            ConnectionFailed: see :func:`connect`.
        """
        async with self._reconnecting:
            if not self._held.is_set():
                try:
                    await self.reconnect()
                finally:
                    self._held.set()  # or down for good

    async def close(self) -> None:
        """Close the connection within two seconds; never raises, events that are on stay on."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        await self._connection.close()
        self._connector.close()

    def _keep_watch(self) -> None:
        """Watch the connection of a console, so that it is replaced while the console is idle."""
        if self._lend and (self._watch is None or self._watch.done()):
            self._watch = asyncio.ensure_future(self.wait_lost())

    async def _replace(self, broken: Connection) -> bool:
        """Connect again after the lender left; return whether there is a connection now."""
        async with self._reconnecting:
            if self._connection is broken and not self._given_up:
                try:
                    await self.reconnect()
                except QtctlError:
                    self._given_up = True
                else:
                    self.on_reconnect()
            return self._connection is not broken

    # -- consoles ----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def listening(self, queue: EventQueue) -> AsyncIterator[None]:
        """Put news of the guest and of other consoles into ``queue`` during the block."""
        self._queues.append(queue)
        try:
            await self._send_hello()
            yield
        finally:
            self._queues.remove(queue)
            await self._send_hello()

    async def _send_hello(self) -> None:
        if self.lent and self._connection.link.up:
            with contextlib.suppress(QtctlError):
                await self._connector.introduce(self._connection.link)

    async def announce(self, event: str, data: Mapping[str, object]) -> int:
        """Send an event to all consoles on this guest, not to QEMU; return how many show news.

        Raises:
            LinkLost: the lender is gone, and nobody took over.
            OutcomeUnknown: the lender went while it sent the event.
        """
        arguments = {"event": event, "data": dict(data)}
        listeners = await self._ask_lender(ANNOUNCE, answers.count_of, arguments)
        if listeners is None:
            self._connector.on_event({"event": event, "data": data})
            return len(self._queues)
        return listeners

    async def lender(self) -> dict[str, Any] | None:
        """Return the lender's ``pid``, its socket's ``path`` and its ``clients``; None without."""
        return await self._ask_lender(LENDER, answers.lender_of)

    async def _ask_lender(
        self,
        command: str,
        convert: Callable[[Any], T],
        arguments: Mapping[str, object] | None = None,
    ) -> T | None:
        """Execute one of the lender's own commands; None where nobody lends, or no more."""
        if not self.lent:
            return None
        try:
            return await self.ask(command, convert, arguments)
        except Refused:  # by QEMU itself: the lender left, and we hold the monitor now
            return None


async def connect(
    address: Address,
    guest: Guest | None = None,
    *,
    lend: bool = False,
    log: Callable[[str], None] = lambda line: None,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Monitor:
    """Connect through a lender where there is one, else to the guest's own socket.

    ``guest`` must be the one that answers, where it is given; its network namespace is entered
    where the address lies in that. With ``lend`` this process lends the monitor to others while it
    holds it; ``log`` gets a line when one connects or leaves.

    Raises:
        MonitorBusy: the server took the connection and did not greet, as QEMU does while another
            client is connected, or its backlog is full.
        ConnectionFailed: nobody listens there, what listens does not speak QMP, or it is another
            guest than ``guest``.
    """
    monitor = Monitor(address, guest, lend=lend, log=log)
    await monitor.open(timeout_s)
    return monitor


_QUERIES = ("trace-event-get-state", "qom-get", "qom-list", "qom-list-types", HELLO, LENDER)
_HMP_QUERIES = ("help ", "info ", "trace-file flush")


def _is_query(command: str, arguments: Mapping[str, object] | None) -> bool:
    """Return whether a command changes nothing, so that it may be sent a second time."""
    if command == "human-monitor-command":
        line = str((arguments or {}).get("command-line", ""))
        return line == "trace-file" or line.startswith(_HMP_QUERIES)
    return command.startswith("query-") or command in _QUERIES
