"""Connects to a guest's monitor: through a lender, else on its own socket.

QMP takes one client at a time: QEMU accepts and greets the next one when the first has left. A
qtctl that stays lends the monitor to all others (``lending``), so a lender is looked for first.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from qtctl.errors import ConnectionFailed, MonitorBusy, QtctlError
from qtctl.model import Address, Guest
from qtctl.monitor.answers import checked, guest_pid_of
from qtctl.monitor.guests import described
from qtctl.monitor.holders import unlent_holders
from qtctl.monitor.identity import (
    check_lent,
    is_another_guest,
    no_entry,
    verified_pid,
    wrong_guest,
)
from qtctl.monitor.lender_commands import HELLO
from qtctl.monitor.lending import Lender
from qtctl.monitor.libvirt import is_held, no_answer, open_bridge
from qtctl.monitor.link import COMMAND_TIMEOUT_S, Link, negotiate
from qtctl.monitor.networks import EntryRefused, is_elsewhere, open_network
from qtctl.monitor.news import EventQueue, news_of
from qtctl.monitor.rendezvous import rendezvous_of
from qtctl.monitor.sockets import open_socket, peer_of

_LENDER_GREETING_TIMEOUT_S = 4.0
_HELLO_TIMEOUT_S = 3.0
_LENDER_POLL_S = 0.03
"""How often a lender is looked for while QEMU does not greet."""
_BACKLOG_TIMEOUT_S = 30.0
_HOLDER_POLL_S = 0.5
"""How often qtctls ahead of us in the backlog are looked for."""


class Connection(NamedTuple):
    """A connection to a monitor: direct, through our own ``lender``, or ``borrowed`` from another.

    ``guest_pid`` is the process that serves the monitor; None where it is not visible.
    """

    link: Link
    guest_pid: int | None = None
    lender: Lender | None = None
    borrowed: bool = False

    async def close(self) -> None:
        """Close it; our own lender first finishes the requests of its clients."""
        await self.link.close()
        if self.lender is not None:
            await self.lender.leave()


@dataclass(eq=False)
class Connector:
    """Makes connections to one monitor; end it with :meth:`close`.

    ``queues`` get the QMP events of every connection; while there are any, this process shows news,
    which a lender counts. ``log`` gets a line when a client of our own lender connects or leaves.
    """

    address: Address
    guest: Guest | None
    lend: bool
    log: Callable[[str], None]
    queues: list[EventQueue]

    def __post_init__(self) -> None:
        self.elsewhere = is_elsewhere(self.address, self.guest)
        """Whether the address lies in another network namespace than ours."""
        self._network: int | None = None
        self._no_network = ""
        self.note = ""
        """What the user must know of how this process lends; empty if all is as usual."""
        if self.elsewhere and self.guest is not None:
            try:
                self._network = open_network(self.guest.pid)
            except EntryRefused as refused:
                self._no_network = str(refused)  # a lender may still be reached

    def close(self) -> None:
        """Release the network namespace; connections stay open."""
        network, self._network = self._network, None
        if network is not None:
            os.close(network)

    async def connect(self, timeout_s: float, guest: Guest | None) -> Connection:
        """Borrow the monitor where it is lent, else take it, and poll for a lender meanwhile.

        ``guest`` must be the one that answers, where it is given.

        Of several processes that start at once QEMU greets one. The others find that one lending,
        or wait in the backlog until it has left, behind others perhaps: then longer than
        ``timeout_s``, as long as the holder changes. One that stays and does not lend cannot.

        Raises:
            MonitorBusy, ConnectionFailed: see :func:`qtctl.monitor.client.connect`.
        """
        if (borrowed := await self._borrow(guest)) is not None:
            return borrowed
        began = time.monotonic()
        deadline = began + timeout_s
        check_at, seen = began + 2 * _HOLDER_POLL_S, None
        taking = asyncio.ensure_future(self._take(timeout_s, guest))
        try:
            while not taking.done():
                await asyncio.wait({taking}, timeout=_LENDER_POLL_S)
                if not taking.done() and (borrowed := await self._borrow(guest)) is not None:
                    return borrowed
                now = time.monotonic()
                if now > deadline and self.guest and is_held(self.address, self.guest):
                    raise no_answer(self.guest, timeout_s)
                if now > deadline:
                    raise MonitorBusy(
                        f"{self.address} took the connection but did not greet "
                        f"within {deadline - began:.3g} s"
                    )
                if check_at < now < began + _BACKLOG_TIMEOUT_S:
                    check_at = now + _HOLDER_POLL_S
                    found = await asyncio.to_thread(unlent_holders, self.address, self.guest)
                    if seen is not None and found - seen:
                        deadline = now + timeout_s
                    seen = found | (seen or frozenset())
            return taking.result()
        finally:
            taken = borrowed is None and taking.done()
            if not taken:
                taking.cancel()
                await asyncio.wait({taking})
            # An exception is retrieved: nobody awaits the task where we are cancelled.
            if not taking.cancelled() and taking.exception() is None and not taken:
                await taking.result().close()

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Put a QMP event of any connection into the queues."""
        if self.queues and (news := news_of(event)) is not None:
            for queue in self.queues:
                queue.put(news)

    async def introduce(self, link: Link) -> int | None:
        """Send a lender the hello of a qtctl, and whether it shows news; return the guest's pid."""
        answer = await link.execute(HELLO, {"listens": bool(self.queues)}, _HELLO_TIMEOUT_S)
        return checked(self.address, HELLO, answer, guest_pid_of)

    async def _borrow(self, guest: Guest | None) -> Connection | None:
        """Connect to the lender; None where there is none, or it has just left."""
        rendezvous = rendezvous_of(self.address, self.guest)
        sock = rendezvous.connect() if rendezvous is not None else None
        if sock is None:
            return None
        pid = peer_of(sock).pid
        try:
            link = await self._negotiate(sock, _LENDER_GREETING_TIMEOUT_S)
        except MonitorBusy as busy:
            raise MonitorBusy(
                f"{self.address} is lent by qtctl (pid {pid}), which does not answer",
                hint=f"kill -CONT {pid}, or end it",
            ) from busy
        except ConnectionFailed:
            return None
        try:
            served = await self.introduce(link)
        except QtctlError:
            await link.close()
            return None
        if guest is not None:
            try:
                await check_lent(link, served, self.address, guest)
            except BaseException:
                await link.close()
                raise
        return Connection(link, served, borrowed=True)

    async def _take(self, timeout_s: float, guest: Guest | None) -> Connection:
        """Connect to the guest's own socket once, and lend it where this process is to."""
        began = time.monotonic()
        only_queues = self.address.path is not None and not is_held(self.address, self.guest)
        sock = await self._open(_BACKLOG_TIMEOUT_S if only_queues else timeout_s)
        peer = peer_of(sock).pid
        if guest is not None and is_another_guest(peer, guest):
            sock.close()
            raise wrong_guest(self.address, guest, described(peer))
        if self.lend:
            made = await self._connect_lending(sock, guest)
        else:
            link = await self._negotiate(sock, _BACKLOG_TIMEOUT_S)
            try:
                made = Connection(link, await verified_pid(link, sock, self.address, guest))
            except BaseException:
                await link.close()
                raise
        made.link.timeout_cap_s = max(1.0, COMMAND_TIMEOUT_S - (time.monotonic() - began))
        return made

    async def _open(self, timeout_s: float) -> socket.socket:
        """Connect to the guest's own socket, in its network namespace, or through libvirtd."""
        if self.guest is not None and is_held(self.address, self.guest):
            return await open_bridge(self.guest, timeout_s)
        if not self.elsewhere:
            return await open_socket(self.address, timeout_s)
        assert self.guest is not None
        if self._network is None:
            raise no_entry(self.address, self.guest, self._no_network)
        try:
            return await open_socket(self.address, timeout_s, self._network)
        except EntryRefused as refused:
            raise no_entry(self.address, self.guest, str(refused)) from refused

    async def _negotiate(self, sock: socket.socket, timeout_s: float) -> Link:
        return await negotiate(self.address, sock, self.on_event, timeout_s=timeout_s)

    async def _connect_lending(self, qemu: socket.socket, guest: Guest | None) -> Connection:
        """Put a lender between QEMU and this process; admit others once QEMU has greeted."""
        ours, lenders = socket.socketpair()
        lender = Lender(self.log)
        try:
            await lender.begin(qemu, lenders)
            link = await self._negotiate(ours, _BACKLOG_TIMEOUT_S)
            guest_pid = await verified_pid(link, qemu, self.address, guest)
            lender.guest_pid = guest_pid
            await self.introduce(link)
        except BaseException:
            lender.end()
            raise
        rendezvous = rendezvous_of(self.address, self.guest)
        if rendezvous is not None:
            try:
                await lender.publish(rendezvous)
                if rendezvous.passed_over:
                    self.note = f"{rendezvous.passed_over}; lent at {rendezvous.path}"
            except OSError as error:
                self.note = f"cannot lend the monitor at {rendezvous.path}: {error.strerror}"
        return Connection(link, guest_pid, lender)
