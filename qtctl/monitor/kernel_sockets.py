"""The sockets of a network namespace, as the kernel lists them; none of them is touched.

Sources: sock_diag(7) and ``linux/unix_diag.h`` for Unix sockets and their peers, proc(5) for
``/proc/PID/net/unix``, ``/proc/PID/net/tcp`` and ``tcp6``. Checked on Linux 6.18.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from qtctl.folders import inode_of
from qtctl.model import Address
from qtctl.monitor.address import is_ip
from qtctl.monitor.processes import proc_bytes

_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SHOW_NAME_VFS_PEER = 0x1 | 0x2 | 0x4
_DIAG_NAME, _DIAG_VFS, _DIAG_PEER = 0, 1, 2
_ESTABLISHED, _LISTEN = 1, 10

LOCALHOST = frozenset(("127.0.0.1", "::1", "localhost"))
"""The hosts that ``localhost`` stands for."""

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound


class UnixSocket(NamedTuple):
    """A Unix socket as the kernel lists it.

    ``name`` is the path as it was bound (a leading NUL for an abstract name), ``file`` the inode
    and device of the bound file where known, ``peer`` the inode of the other end (0: unknown).
    """

    inode: int
    listening: bool
    connected: bool
    name: str = ""
    file: tuple[int, int] | None = None
    peer: int = 0


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


# -- Unix sockets ------------------------------------------------------------------------------


def unix_sockets(*, listening: bool = False) -> list[UnixSocket] | None:
    """List this network namespace's Unix sockets by sock_diag(7); None where that is missing.

    Either the connected ones or the ``listening`` ones: a busy host has thousands of the former.
    """
    states = 1 << (_LISTEN if listening else _ESTABLISHED)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as link:
            link.settimeout(1.0)
            request = struct.pack(
                "=IHHII BBHIIIII",
                *(40, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0),
                *(socket.AF_UNIX, 0, 0, states, 0, _SHOW_NAME_VFS_PEER, 0, 0),
            )
            link.send(request)
            return list(_dump(link))
    except (OSError, struct.error):
        return None


def unix_sockets_of(pid: int) -> list[UnixSocket]:
    """List the Unix sockets of a process's network namespace from ``/proc/PID/net/unix``."""
    found = []
    for line in proc_bytes(pid, "net/unix").split(b"\n")[1:]:
        words = line.split(None, 7)
        if len(words) < 7:
            continue
        name = os.fsdecode(words[7]) if len(words) > 7 else ""
        name = name.replace("@", "\0") if name.startswith("@") else name
        listening = int(words[3], 16) & 0x10000 != 0  # __SO_ACCEPTCON
        found.append(UnixSocket(int(words[6]), listening, words[5] == b"03", name))
    return found


def bound_to(sockets: Iterable[UnixSocket], path: str) -> list[UnixSocket]:
    """Return the sockets bound to (or accepted from) ``path``, as this process sees that path."""
    file = inode_of(path)
    return [one for one in sockets if _is_bound_to(one, path, file)]


def _is_bound_to(one: UnixSocket, path: str, file: tuple[int, int] | None) -> bool:
    if file is None or one.file is None:
        return one.name == path
    device, inode = file
    # On overlay file systems and btrfs the kernel's own device number is not the one stat gives.
    same_name = one.name.rpartition("/")[2] == path.rpartition("/")[2]
    return one.file[0] == inode & 0xFFFFFFFF and (one.file[1] == device or same_name)


def _dump(link: socket.socket) -> Iterator[UnixSocket]:
    while True:
        data = link.recv(1 << 17)
        at = 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR or length < 32:
                raise OSError("the kernel refused to list Unix sockets")
            yield _diag_message(data[at + 16 : at + length])
            at += (length + 3) & ~3


def _diag_message(body: bytes) -> UnixSocket:
    _, _, state, _, inode = struct.unpack_from("=BBBBI", body)
    name, file, peer, at = "", None, 0, 16
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if length < 4:
            break
        value = body[at + 4 : at + length]
        if kind == _DIAG_NAME:
            name = os.fsdecode(value if value.startswith(b"\0") else value.rstrip(b"\0"))
        elif kind == _DIAG_VFS:
            number, device = struct.unpack("=II", value)
            file = (number, os.makedev(device >> 20, device & 0xFFFFF))
        elif kind == _DIAG_PEER:
            (peer,) = struct.unpack("=I", value)
        at += (length + 3) & ~3
    return UnixSocket(inode, state == _LISTEN, state == _ESTABLISHED, name, file, peer)


# -- TCP sockets -------------------------------------------------------------------------------


def tcp_sockets(pid: int | None = None) -> list[TcpSocket] | None:
    """List the TCP sockets of a process's network namespace (ours by default), of all processes.

    None where the list cannot be read.
    """
    tables = [proc_bytes(pid or "self", name) for name in ("net/tcp", "net/tcp6")]
    return [row for table in tables for row in _tcp_rows(table)] if tables[0] else None


def tcp_listeners(sockets: list[TcpSocket], address: Address) -> list[TcpSocket]:
    """Return the sockets that may accept a connection to a TCP address.

    A host that is a name matches every local address, and so does a wildcard.
    """
    return [
        one
        for one in sockets
        if one.listening and one.local[1] == address.port and _may_be(address.host, one.local[0])
    ]


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback interface, by its spelling."""
    return host in ("localhost", "::1") or host.startswith("127.")


def plain_host(host: str) -> str:
    """Return an IPv4 address that is written as IPv6 (``::ffff:127.0.0.1``) as IPv4."""
    return host.removeprefix("::ffff:")


def _may_be(host: str, local: str) -> bool:
    if local in _WILDCARDS or host == local:
        return True
    if host == "localhost":
        return local in LOCALHOST
    return not any(is_ip(host, family) for family in (socket.AF_INET, socket.AF_INET6))


def _tcp_rows(table: bytes) -> Iterator[TcpSocket]:
    for line in table.split(b"\n")[1:]:
        words = line.split(None, 10)
        if len(words) < 10:
            continue
        state = int(words[3], 16)
        local, remote = map(_endpoint, words[1:3])
        uid, inode = int(words[7]), int(words[9])
        yield TcpSocket(local, remote, state == _LISTEN, state == _ESTABLISHED, uid, inode)


def _endpoint(word: bytes) -> tuple[str, int]:
    """Decode ``0100007F:115C``: words of 32 bits in the byte order of the machine."""
    digits, _, port = word.partition(b":")
    raw = bytes.fromhex(digits.decode())
    count = len(raw) // 4
    packed = struct.pack(f">{count}I", *struct.unpack(f"={count}I", raw))
    family = socket.AF_INET if count == 1 else socket.AF_INET6
    return plain_host(socket.inet_ntop(family, packed)), int(port, 16)
