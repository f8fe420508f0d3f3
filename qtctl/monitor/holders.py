"""Which processes are connected to a monitor, read from the kernel; QEMU's sockets are untouched.

An accepted Unix connection carries the listener's file (inode and device). One that still waits in
the listen backlog has no inode yet, and is no holder. Sources: see ``kernel_sockets``. Checked with
QEMU 7.2 and 11.1 on Linux 6.18.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from qtctl.model import Address, Guest, Holder
from qtctl.monitor.kernel_sockets import (
    bound_to,
    tcp_listeners,
    tcp_sockets,
    unix_sockets,
    unix_sockets_of,
)
from qtctl.monitor.networks import is_elsewhere, same_network
from qtctl.monitor.processes import (
    UNKNOWN_PROCESS,
    is_qtctl,
    process_name,
    socket_inodes,
    socket_owners,
)


def holders(address: Address, guest: Guest | None = None) -> tuple[Holder, ...]:
    """Return the processes whose connection to ``address`` was accepted, in order of pid.

    A holder whose process is not visible has pid None. Connections that wait in the listen backlog
    are left out. ``guest`` is the one whose address it is: a TCP port or an abstract name is looked
    up in its network namespace. Never raises.
    """
    return (_tcp_holders if address.path is None else _unix_holders)(address, guest)


def unlent_holders(address: Address, guest: Guest | None = None) -> frozenset[int]:
    """Return the qtctls that hold a monitor and do not lend it.

    Such a one will soon release it, or lend it, unless it cannot lend; until then a new connection
    waits in the backlog.
    """
    pids = {holder.pid for holder in holders(address, guest) if holder.pid} - {os.getpid()}
    listening = {one.inode for one in unix_sockets(listening=True) or ()}
    return frozenset(
        pid for pid in pids if is_qtctl(pid) and listening.isdisjoint(socket_inodes(pid) or ())
    )


def _unix_holders(address: Address, guest: Guest | None) -> tuple[Holder, ...]:
    path, listed = address.path or "", unix_sockets()
    here = () if is_elsewhere(address, guest) else listed or ()
    servers = bound_to((s for s in here if s.connected and s.inode), path)
    # An accepted socket lies in its client's network namespace, so a local client is found above.
    if not servers and guest is not None and (listed is None or not same_network(guest.pid)):
        own = socket_inodes(guest.pid) or frozenset()
        rows = [s for s in unix_sockets_of(guest.pid) if s.inode in own and s.connected]
        servers = [s for s in rows if s.name.rpartition("/")[2] == path.rpartition("/")[2]]
    client_of = {s.peer: s.inode for s in listed or () if s.peer}
    clients = [s.peer or client_of.get(s.inode, 0) for s in servers]
    return _named((client, UNKNOWN_PROCESS) for client in clients)


def _named(clients: Iterable[tuple[int, str]]) -> tuple[Holder, ...]:
    """Return the owners of sockets; each socket comes with a name for an owner not visible."""
    clients = list(clients)
    owners = socket_owners(inode for inode, _ in clients)
    found = set[Holder]()
    for inode, unknown in clients:
        pid = owners.get(inode)
        found.add(Holder(pid, unknown if pid is None else process_name(pid)))
    return tuple(sorted(found, key=lambda holder: (holder.pid or 0, holder.name)))


def _tcp_holders(address: Address, guest: Guest | None) -> tuple[Holder, ...]:
    rows = tcp_sockets(None if guest is None else guest.pid) or []
    if guest is None:
        servers = set(socket_owners(row.inode for row in tcp_listeners(rows, address)).values())
    else:
        servers = {guest.pid}
    own = frozenset[int]().union(*(socket_inodes(pid) or () for pid in servers))
    # Before it is accepted a connection belongs to no process.
    served = [row for row in rows if row.connected and row.inode in own]
    served = [row for row in served if row.local[1] == address.port]
    if not served:
        return ()
    # A client outside the guest's namespace is listed in ours, if at all.
    nearby = rows if guest is None or same_network(guest.pid) else rows + (tcp_sockets() or [])
    by_ends = {(row.local, row.remote): row.inode for row in nearby}
    return _named(
        (by_ends.get((row.remote, row.local), 0), f"a client at {row.remote[0]}") for row in served
    )
