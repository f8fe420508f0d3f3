"""Network namespaces: which one a process is in, and sockets made inside another one.

A TCP port of a loopback address and an abstract name belong to one network namespace
(network_namespaces(7), unix(7)): the same spelling names another monitor in each. Sources:
proc(5) for ``/proc/PID/ns/net``, setns(2). Checked on Linux 6.18.
"""

from __future__ import annotations

import os
import socket

from qtctl.folders import inode_of
from qtctl.model import Address, Guest
from qtctl.monitor.kernel_sockets import is_loopback

_CLONE_NEWNET = 0x40000000


class EntryRefused(Exception):
    """This process may not enter a network namespace; the text is the kernel's reason."""


def network_of(pid: int | None = None) -> int | None:
    """Return the inode of a process's network namespace (ours by default), None if unreadable."""
    found = inode_of(f"/proc/{pid or 'self'}/ns/net")
    return None if found is None else found[1]


def same_network(pid: int) -> bool:
    """Return whether a process is in this network namespace (True where nothing can be read).

    The namespace of another user's process may not be read, but its list of sockets may; that
    file has a different inode in each namespace.
    """
    for file in ("ns/net", "net/tcp"):
        ours, theirs = inode_of(f"/proc/self/{file}"), inode_of(f"/proc/{pid}/{file}")
        if ours is not None and theirs is not None:
            return ours == theirs
    return True


def is_elsewhere(address: Address, guest: Guest | None) -> bool:
    """Return whether a guest's address means another socket here than in the guest's namespace."""
    if guest is None:
        return False
    path = address.path
    bound_to_network = is_loopback(address.host) if path is None else path.startswith("\0")
    return bound_to_network and not same_network(guest.pid)


def network_for(address: Address, guest: Guest | None) -> int | None:
    """Return the inode of the network namespace that a guest's address lies in.

    None where that is another namespace and unreadable; 0 where the kernel has no namespaces.
    """
    if guest is not None and is_elsewhere(address, guest):
        return network_of(guest.pid)
    return network_of() or 0


def open_network(pid: int) -> int:
    """Return a file descriptor of a process's network namespace, which keeps it alive.

    Raises:
        EntryRefused: the process has ended, or its namespace may not be opened.
    """
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EntryRefused(error.strerror) from error


def socket_in(network: int, family: int) -> socket.socket:
    """Return a new stream socket inside a network namespace, given by its file descriptor.

    A socket stays in the namespace of the thread that made it. That thread ends here, so nothing
    else of this process ever runs in the other namespace.

    Raises:
        EntryRefused: this process lacks the right to enter (``CAP_SYS_ADMIN``, setns(2)).
    """
    import ctypes
    from concurrent.futures import ThreadPoolExecutor

    def make() -> socket.socket:
        if ctypes.CDLL(None, use_errno=True).setns(network, _CLONE_NEWNET) != 0:
            raise EntryRefused(os.strerror(ctypes.get_errno()))
        return socket.socket(family, socket.SOCK_STREAM)

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(make).result()
