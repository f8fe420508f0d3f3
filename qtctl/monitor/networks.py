"""Network namespaces: which one a process is in, its TCP sockets, and sockets made inside it.

A TCP port of a loopback address and an abstract name belong to one network namespace
(network_namespaces(7), unix(7)): spelled the same, they name another monitor in each. Sources:
proc(5) for ``/proc/PID/ns/net`` and ``/proc/PID/net/tcp``, setns(2). Checked on Linux 6.18.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from qtctl.model import Address, Guest

_CLONE_NEWNET = 0x40000000
_LISTEN = 0x0A
_ESTABLISHED = 0x01
LOCALHOST = frozenset(("127.0.0.1", "::1", "localhost"))
"""What ``localhost`` stands for."""

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound


class EntryRefused(Exception):
    """This process may not enter a network namespace; the text is the kernel's reason."""


class TcpSocket(NamedTuple):
    """A TCP socket as the kernel lists it; ``inode`` is 0 until a connection is accepted.

    An IPv4 address of an IPv6 socket is given as IPv4.
    """

    local: tuple[str, int]
    remote: tuple[str, int]
    listening: bool
    connected: bool
    uid: int
    inode: int


def network_of(pid: int | None = None) -> int | None:
    """Return the number of a process's network namespace (ours by default), None if unreadable."""
    try:
        return os.stat(f"/proc/{pid or 'self'}/ns/net").st_ino  # noqa: PTH116
    except OSError:
        return None


def same_network(pid: int) -> bool:
    """Return whether a process is in this network namespace (True where nothing can be read).

    The namespace of another user's process may not be read, but its list of sockets may; that
    file has a number of its own in each namespace.
    """
    ours, theirs = network_of(), network_of(pid)
    if ours is None or theirs is None:
        try:
            ours = os.stat("/proc/self/net/tcp").st_ino  # noqa: PTH116
            theirs = os.stat(f"/proc/{pid}/net/tcp").st_ino  # noqa: PTH116
        except OSError:
            return True
    return ours == theirs


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback interface, by its spelling."""
    return host in ("localhost", "::1") or host.startswith("127.")


def is_elsewhere(address: Address, guest: Guest | None) -> bool:
    """Return whether a guest's address means another socket here than in the guest's namespace."""
    if guest is None:
        return False
    path = address.path
    bound_to_network = is_loopback(address.host) if path is None else path.startswith("\0")
    return bound_to_network and not same_network(guest.pid)


def network_for(address: Address, guest: Guest | None) -> int | None:
    """Return the number of the network namespace that a guest's address lies in.

    None where that is not ours and may not be looked into; 0 where the kernel has no namespaces.
    """
    if guest is not None and is_elsewhere(address, guest):
        return network_of(guest.pid)
    return network_of() or 0


def tcp_sockets(pid: int | None = None) -> list[TcpSocket] | None:
    """List the TCP sockets of a process's network namespace (ours by default), of all processes.

    None where the list cannot be read.
    """
    try:
        found = list(_read(f"/proc/{pid or 'self'}/net/tcp"))
    except OSError:
        return None
    try:
        return [*found, *_read(f"/proc/{pid or 'self'}/net/tcp6")]
    except OSError:
        return found  # a kernel without IPv6


def listeners(rows: list[TcpSocket], address: Address) -> list[TcpSocket]:
    """Return the sockets that may accept a connection to a TCP address.

    A host that is a name matches every local address, and so does a wildcard.
    """
    return [
        row
        for row in rows
        if row.listening and row.local[1] == address.port and _may_be(address.host, row.local[0])
    ]


def _may_be(host: str, local: str) -> bool:
    if local in _WILDCARDS or host == local:
        return True
    if host == "localhost":
        return local in LOCALHOST
    return not any(_is_literal(host, family) for family in (socket.AF_INET, socket.AF_INET6))


def _is_literal(host: str, family: int) -> bool:
    try:
        socket.inet_pton(family, host.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def _read(path: str) -> Iterator[TcpSocket]:
    for line in Path(path).read_bytes().split(b"\n")[1:]:
        words = line.split(None, 10)
        if len(words) < 10:
            continue
        state = int(words[3], 16)
        yield TcpSocket(
            _end(words[1]),
            _end(words[2]),
            state == _LISTEN,
            state == _ESTABLISHED,
            int(words[7]),
            int(words[9]),
        )


def _end(word: bytes) -> tuple[str, int]:
    """Read ``0100007F:115C``: words of 32 bits in the byte order of the machine."""
    digits, _, port = word.partition(b":")
    raw = bytes.fromhex(digits.decode())
    packed = b"".join(
        struct.pack(">I", *struct.unpack_from("=I", raw, at)) for at in range(0, len(raw), 4)
    )
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed), int(port, 16)
    return plain_host(socket.inet_ntop(socket.AF_INET6, packed)), int(port, 16)


def plain_host(host: str) -> str:
    """Return an IPv4 address that is written as IPv6 (``::ffff:127.0.0.1``) as IPv4."""
    return host.removeprefix("::ffff:")


def open_network(pid: int) -> int:
    """Return a file descriptor of a process's network namespace, which lives as long as that.

    Raises:
        EntryRefused: the process has ended, or may not be looked into.
    """
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise EntryRefused(error.strerror) from error


def socket_in(network: int, family: int) -> socket.socket:
    """Return a new stream socket inside a network namespace, wherever this process is.

    A socket stays in the namespace of the thread that made it. That thread ends here, so nothing
    else of this process ever runs in the other namespace.

    Raises:
        EntryRefused: this process lacks the right to enter (``CAP_SYS_ADMIN``, setns(2)).
    """
    made: list[socket.socket | Exception] = []

    def make() -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(network, _CLONE_NEWNET) != 0:
            made.append(EntryRefused(os.strerror(ctypes.get_errno())))
            return
        try:
            made.append(socket.socket(family, socket.SOCK_STREAM))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    (found,) = made
    if isinstance(found, Exception):
        raise found
    return found
