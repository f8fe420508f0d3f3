"""Whether the guest that was meant answers a connection, and which one does.

An address may lead to another guest: a TCP port or an abstract name in another network namespace, a
path in another mount namespace, a path that a second QEMU has taken. Sources: ``SO_PEERCRED``
(unix(7)), sock_diag(7) and ``/proc/PID/fd`` for who holds the other end, ``/proc/PID/net/tcp``
for TCP, ``query-name`` of QMP where the kernel shows too little.
"""

from __future__ import annotations

import os
import re
import socket

from qtctl.errors import ConnectionFailed
from qtctl.model import Address, Guest
from qtctl.monitor.guests import described, is_guest, running_guests
from qtctl.monitor.kernel_sockets import is_loopback, plain_host, tcp_sockets, unix_sockets
from qtctl.monitor.networks import is_elsewhere
from qtctl.monitor.processes import in_other_user_namespace, same_process, socket_inodes
from qtctl.monitor.sockets import peer_of


def is_answered_by(sock: socket.socket, guest: Guest) -> bool | None:
    """Return whether a guest holds the other end of a connection; None where that is not seen.

    Ask after the greeting: before that the connection may not be accepted yet.
    """
    if not same_process(guest.pid, guest.started):
        return False
    return _unix(sock, guest) if sock.family == socket.AF_UNIX else _tcp(sock, guest)


def is_another_guest(pid: int | None, guest: Guest) -> bool:
    """Return whether the process at the other end is a guest, and not this one.

    Any other process may have made the socket for the guest, as libvirt does.
    """
    return pid is not None and pid != guest.pid and is_guest(pid)


def tcp_server(sock: socket.socket) -> int | None:
    """Return the pid of the running guest that answers a TCP connection; None where none is seen.

    A guest of another user, whose sockets may not be seen, counts where it is the only one that
    can be meant.
    """
    likely = []
    port = sock.getpeername()[1]
    for guest in running_guests():
        answers = is_answered_by(sock, guest)
        if answers:
            return guest.pid
        if answers is None and any(address.port == port for address in guest.addresses):
            likely.append(guest.pid)
    return likely[0] if len(likely) == 1 else None


def wrong_guest(address: Address, guest: Guest, other: str) -> ConnectionFailed:
    """Return the error for an address that ``other`` answers, and not the guest that was meant."""
    return ConnectionFailed(
        f"{address} leads to {other} from here, not to {described(guest.pid)}: nothing was done",
        hint=way_to(address, guest),
    )


def no_entry(address: Address, guest: Guest, reason: str) -> ConnectionFailed:
    """Return the error for an address in a network namespace that may not be entered."""
    return ConnectionFailed(
        f"{address} of {described(guest.pid)} lies in another network namespace, and this process "
        f"may not enter that: {reason}",
        hint=way_to(address, guest),
    )


def way_to(address: Address, guest: Guest) -> str:
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


def leads_nowhere(address: Address, guest: Guest) -> bool:
    """Return whether a path leads through the process of a guest that has ended.

    The pid in it may be that of a process in another container by now.
    """
    through = re.match(r"/proc/(\d+)/", address.path or "")
    return (
        through is not None
        and int(through[1]) == guest.pid
        and not same_process(guest.pid, guest.started)
    )


def _unix(sock: socket.socket, guest: Guest) -> bool | None:
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


def _tcp(sock: socket.socket, guest: Guest) -> bool | None:
    rows = tcp_sockets(guest.pid)
    if rows is None:
        return None
    ours, theirs = _end(sock.getsockname()), _end(sock.getpeername())
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


def _end(name: tuple[str, int]) -> tuple[str, int]:
    return plain_host(name[0].partition("%")[0]), name[1]
