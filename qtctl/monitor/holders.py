"""Who is connected to a monitor now, read from the kernel; no socket of QEMU's is touched.

Sources: sock_diag(7) and ``linux/unix_diag.h`` (which client a server's socket is joined to),
proc(5) for ``/proc/PID/fd`` and ``/proc/net/unix``. An accepted Unix connection carries the
listener's file (inode and device); one that still waits in the backlog has no inode yet, and is
no holder. Checked with QEMU 7.2 and 11.1 on Linux 6.18.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from qtctl.model import Address, Guest, Holder
from qtctl.monitor.networks import is_elsewhere, listeners, same_network, tcp_sockets

UNKNOWN = Holder(None, "an unknown process")

_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SHOW_NAME_VFS_PEER = 0x1 | 0x2 | 0x4
_DIAG_NAME, _DIAG_VFS, _DIAG_PEER = 0, 1, 2
_ESTABLISHED, _LISTEN = 1, 10


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


def holders(address: Address, guest: Guest | None = None) -> tuple[Holder, ...]:
    """Return the processes whose connection to ``address`` was accepted, in order of pid.

    A holder whose process may not be seen has pid None. Connections that wait in the listen backlog
    are left out. ``guest`` is whose address it is: a TCP port or an abstract name is looked for in
    its network namespace. Never raises.
    """
    if address.path is not None:
        return _unix_holders(address.path, guest, elsewhere=is_elsewhere(address, guest))
    return _tcp_holders(address, guest)


def listens(path: str) -> bool:
    """Tell whether somebody listens on a Unix socket, without connecting to it."""
    return bool(bound_to(unix_sockets(listening=True) or (), path))


def stands_in_line(address: Address, guest: Guest | None = None) -> bool:
    """Return whether a qtctl has a monitor and does not lend it: it leaves, or lends it, soon."""
    pids = {holder.pid for holder in holders(address, guest)} - {None, os.getpid()}
    listening = {entry.inode for entry in unix_sockets(listening=True) or ()}
    return any(
        _is_qtctl(pid) and not listening & (socket_inodes(pid) or frozenset())
        for pid in pids
        if pid is not None
    )


def _is_qtctl(pid: int) -> bool:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return any(word.rpartition(b"/")[2] == b"qtctl" for word in words[:4])
    return False


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
    try:
        lines = Path(f"/proc/{pid}/net/unix").read_bytes().split(b"\n")[1:]
    except OSError:
        return []
    found = []
    for line in lines:
        words = line.split(None, 7)
        if len(words) < 7:
            continue
        name = os.fsdecode(words[7]) if len(words) > 7 else ""
        name = name.replace("@", "\0") if name.startswith("@") else name
        listening = int(words[3], 16) & 0x10000 != 0  # __SO_ACCEPTCON
        found.append(UnixSocket(int(words[6]), listening, words[5] == b"03", name))
    return found


def socket_inodes(pid: int) -> frozenset[int] | None:
    """Return the inodes of the sockets a process has open; None where that may not be read."""
    try:
        return frozenset(_inodes_of(f"/proc/{pid}/fd"))
    except OSError:
        return None


def bound_to(entries: Iterable[UnixSocket], path: str) -> list[UnixSocket]:
    """Keep the sockets bound to (or accepted from) ``path``, as this process sees that path."""
    try:
        status = None if path.startswith("\0") else Path(path).stat()
    except (OSError, ValueError):
        status = None
    return [entry for entry in entries if _is_bound_to(entry, path, status)]


def _is_bound_to(entry: UnixSocket, path: str, status: os.stat_result | None) -> bool:
    if status is None or entry.file is None:
        return entry.name == path
    if entry.file[0] != status.st_ino & 0xFFFFFFFF:
        return False
    # On overlay file systems and btrfs the kernel's own device number is not the one stat gives.
    same_name = entry.name.rpartition("/")[2] == path.rpartition("/")[2]
    return entry.file[1] == status.st_dev or same_name


def _unix_holders(path: str, guest: Guest | None, *, elsewhere: bool) -> tuple[Holder, ...]:
    listed = unix_sockets()
    here = () if elsewhere else listed or ()
    servers = bound_to((s for s in here if s.connected and s.inode), path)
    # An accepted socket lies in its client's network namespace, so a local client is found above.
    if not servers and guest is not None and (listed is None or not same_network(guest.pid)):
        own = socket_inodes(guest.pid) or frozenset()
        base = path.rpartition("/")[2]
        rows = unix_sockets_of(guest.pid)
        servers = [s for s in rows if s.inode in own and s.connected]
        servers = [s for s in servers if s.name.rpartition("/")[2] == base]
    client_of = {s.peer: s.inode for s in listed or () if s.peer}
    clients = [s.peer or client_of.get(s.inode, 0) for s in servers]
    return _named(owners_of(clients), clients)


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


def _inodes_of(folder: str) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                link = os.readlink(entry.path)  # noqa: PTH115 - a Path for each is ten times slower
            except FileNotFoundError:
                continue  # closed meanwhile
            if link.startswith("socket:["):
                yield int(link[8:-1])


def owners_of(inodes: Iterable[int]) -> dict[int, int]:
    """Return the pid of each socket's process, by inode, as far as it is seen.

    The newest are looked at first: a client mostly came after its server.
    """
    wanted = {inode for inode in inodes if inode}
    owners: dict[int, int] = {}
    pids = sorted((int(p) for p in os.listdir("/proc") if p.isdigit()), reverse=True)  # noqa: PTH208
    for pid in pids if wanted else ():
        for inode in wanted & (socket_inodes(pid) or frozenset()):
            owners[inode] = pid
        if len(owners) == len(wanted):
            break
    return owners


def _named(owners: dict[int, int], clients: Iterable[int]) -> tuple[Holder, ...]:
    found: dict[int | None, Holder] = {}
    for client in clients:
        pid = owners.get(client)
        found[pid] = UNKNOWN if pid is None else Holder(pid, process_name(pid))
    return tuple(found[pid] for pid in sorted(found, key=lambda pid: pid or 0))


def process_name(pid: int) -> str:
    """Return what people call a process: its script where an interpreter runs it, else ``comm``."""
    try:
        name = os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes().rstrip(b"\n"))
        words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
    except OSError:
        return UNKNOWN.name
    if name.startswith("python") and len(words) > 2 and words[1] and not words[1].startswith("-"):
        return Path(words[1]).name
    return name


def _tcp_holders(address: Address, guest: Guest | None) -> tuple[Holder, ...]:
    rows = tcp_sockets(None if guest is None else guest.pid) or []
    if guest is None:
        servers = set(owners_of(row.inode for row in listeners(rows, address)).values())
    else:
        servers = {guest.pid}
    own = frozenset[int]().union(*(socket_inodes(pid) or () for pid in servers))
    # Before it is accepted a connection belongs to no process.
    served = [row for row in rows if row.connected and row.inode in own]
    served = [row for row in served if row.local[1] == address.port]
    if not served:
        return ()
    # A client beyond the guest's own namespace is seen in ours, if at all.
    nearby = rows if guest is None or same_network(guest.pid) else rows + (tcp_sockets() or [])
    by_ends = {(row.local, row.remote): row.inode for row in nearby}
    clients = {row: by_ends.get((row.remote, row.local), 0) for row in served}
    owners = owners_of(clients.values())
    found = set[Holder]()
    for row, client in clients.items():
        pid = owners.get(client)
        name = f"a client at {row.remote[0]}" if pid is None else process_name(pid)
        found.add(Holder(pid, name))
    return tuple(sorted(found, key=lambda holder: (holder.pid or 0, holder.name)))
