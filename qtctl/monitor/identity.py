"""Which guest answers a connection, and whether it is the one that was meant.

An address may lead to another guest: a TCP port or an abstract name in another network namespace, a
path in another mount namespace, a path that a second QEMU has taken. Sources: ``SO_PEERCRED``
(unix(7)), sock_diag(7) and ``/proc/PID/fd`` for the owner of the other end, ``/proc/PID/net/tcp``
for TCP, QMP's ``query-name`` where the kernel shows too little.
"""

from __future__ import annotations

import contextlib
import os
import socket

from qtctl.errors import ConnectionFailed, Refused
from qtctl.model import Address, Guest
from qtctl.monitor.answers import checked, name_of
from qtctl.monitor.guests import described, find_guest, running_guests
from qtctl.monitor.kernel_sockets import is_loopback, plain_host, tcp_sockets, unix_sockets
from qtctl.monitor.libvirt import is_held
from qtctl.monitor.link import COMMAND_TIMEOUT_S, Link
from qtctl.monitor.networks import is_elsewhere
from qtctl.monitor.processes import in_other_user_namespace, same_process, socket_inodes
from qtctl.monitor.sockets import peer_of


async def verified_pid(
    link: Link, sock: socket.socket, address: Address, guest: Guest | None
) -> int | None:
    """Return the pid of the guest behind a negotiated connection; None where it is not visible.

    ``sock`` is the socket that leads to QEMU. Without ``guest`` any guest will do.

    Raises:
        ConnectionFailed: it is not ``guest``.
    """
    if guest is None:
        return _server_pid(sock)
    if is_held(address, guest):
        return guest.pid  # libvirtd was asked for the domain with the guest's UUID
    answers = is_answered_by(sock, guest)
    if answers is False:
        raise wrong_guest(address, guest, described(_server_pid(sock)))
    if answers is None:
        await _check_name(link, address, guest)
    return guest.pid


async def check_lent(link: Link, served: int | None, address: Address, guest: Guest) -> None:
    """Check that a lender serves the monitor of ``guest``; ``served`` is the pid that it gave.

    Raises:
        ConnectionFailed: it serves another guest's.
    """
    if served == guest.pid:
        return
    if is_another_guest(served, guest):
        raise wrong_guest(address, guest, described(served))
    await _check_name(link, address, guest)


def is_answered_by(sock: socket.socket, guest: Guest) -> bool | None:
    """Return whether a guest has the other end of a connection; None where that is not visible.

    Call it after the greeting: before that the connection may not be accepted yet.
    """
    if not same_process(guest.pid, guest.started):
        return False
    answers = _answers_unix if sock.family == socket.AF_UNIX else _answers_tcp
    return answers(sock, guest)


def is_another_guest(pid: int | None, guest: Guest) -> bool:
    """Return whether the process at the other end is a guest, but not this one.

    Any other process may have made the socket for the guest, as libvirt does.
    """
    return pid is not None and pid != guest.pid and find_guest(pid) is not None


def wrong_guest(address: Address, guest: Guest, other: str) -> ConnectionFailed:
    """Return the error for an address that ``other`` answers instead of the guest meant."""
    return ConnectionFailed(
        f"{address} leads to {other} from here, not to {described(guest.pid)}: nothing was done",
        hint=_way_to(address, guest),
    )


def no_entry(address: Address, guest: Guest, reason: str) -> ConnectionFailed:
    """Return the error for an address in a network namespace that may not be entered."""
    return ConnectionFailed(
        f"{address} of {described(guest.pid)} lies in another network namespace, and this process "
        f"may not enter that: {reason}",
        hint=_way_to(address, guest),
    )


def leads_through_ended(address: Address, guest: Guest) -> bool:
    """Return whether a path leads through ``/proc/PID`` of a guest that has ended.

    A process in another container may have that pid by now.
    """
    through = (address.path or "").startswith(f"/proc/{guest.pid}/")
    return through and not same_process(guest.pid, guest.started)


def _way_to(address: Address, guest: Guest) -> str:
    """Return the command that reaches a guest whose address leads elsewhere from here."""
    call = f"qtctl -t {guest.pid} ..."
    sudo = "" if os.geteuid() == 0 else "sudo "
    if not same_process(guest.pid, guest.started):
        return "qtctl ps"
    if is_elsewhere(address, guest) or address.path is None:
        if sudo and guest.uid == os.geteuid() and in_other_user_namespace(guest.pid):
            return f"nsenter -t {guest.pid} -U -n --preserve-credentials {call}"
        return f"{sudo}nsenter -t {guest.pid} -n {call}"
    return f"{sudo}{call}" if sudo else "qtctl ps, for its other addresses"


async def _check_name(link: Link, address: Address, guest: Guest) -> None:
    """Compare the name that QMP gives, where the kernel does not show which guest answers."""
    if guest.name is None:
        return
    with contextlib.suppress(Refused):
        answer = await link.execute("query-name", None, COMMAND_TIMEOUT_S)
        name = checked(address, "query-name", answer, name_of)
        if name != guest.name:
            named = "a guest without a name" if name is None else f"a guest named {name!r}"
            raise wrong_guest(address, guest, named)


def _server_pid(sock: socket.socket) -> int | None:
    """Return the pid of the process that answers a connection; None where it is not visible.

    For TCP, a guest of another user, whose sockets may not be listed, counts where it is the only
    candidate.
    """
    if sock.family == socket.AF_UNIX:
        return peer_of(sock).pid
    likely = []
    port = sock.getpeername()[1]
    for guest in running_guests():
        answers = is_answered_by(sock, guest)
        if answers:
            return guest.pid
        if answers is None and any(address.port == port for address in guest.addresses):
            likely.append(guest.pid)
    return likely[0] if len(likely) == 1 else None


def _answers_unix(sock: socket.socket, guest: Guest) -> bool | None:
    peer = peer_of(sock).pid
    if peer == guest.pid:
        return True
    if is_another_guest(peer, guest):
        return False
    ours = os.fstat(sock.fileno()).st_ino
    listed = unix_sockets() or ()
    end = next((entry.peer for entry in listed if entry.inode == ours), 0)
    own = socket_inodes(guest.pid)
    return None if own is None or not end else end in own


def _answers_tcp(sock: socket.socket, guest: Guest) -> bool | None:
    rows = tcp_sockets(guest.pid)
    if rows is None:
        return None
    ours, theirs = _endpoint(sock.getsockname()), _endpoint(sock.getpeername())
    if is_loopback(theirs[0]) and os.fstat(sock.fileno()).st_ino not in {row.inode for row in rows}:
        return False  # our end is in another namespace than the guest
    served = next((row for row in rows if (row.local, row.remote) == (theirs, ours)), None)
    if served is None:
        return False
    if not served.inode:
        return None
    own = socket_inodes(guest.pid)
    if own is None:
        return None if served.uid == guest.uid else False
    return served.inode in own


def _endpoint(name: tuple[str, int]) -> tuple[str, int]:
    return plain_host(name[0].partition("%")[0]), name[1]
