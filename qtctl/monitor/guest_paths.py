"""Where this process finds a guest's sockets and files, which the guest may see elsewhere.

A guest may run in a container, after ``chroot``, or as a daemon that has moved to ``/``; another
process may have taken over its address. Sources: proc(5) for ``/proc/PID/root``, ``cwd`` and
``environ``; ``os-posix.c`` and ``util/qemu-sockets.c`` of QEMU 7.2, 10.0 and 11.1.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from qtctl.folders import inode_of
from qtctl.model import Address, Guest
from qtctl.monitor.address import UNIX_PATH_MAX
from qtctl.monitor.cmdline import QemuOptions, parse_cmdline
from qtctl.monitor.kernel_sockets import (
    bound_to,
    tcp_listeners,
    tcp_sockets,
    unix_sockets,
    unix_sockets_of,
)
from qtctl.monitor.networks import same_network
from qtctl.monitor.processes import fd_links, link_of, proc_bytes, socket_inodes


def visible_path(guest: Guest, path: str) -> str:
    """Return where this process finds a file that the guest names ``path`` (for instance ``-D``).

    Relative paths start at the guest's working directory, or, where a daemonized guest has left it
    for ``/``, at the one it was likely started in. The first of these candidates that exists is
    returned, else the likeliest.
    """
    return _first_existing(_candidates(guest, path, parse_cmdline(guest.argv)), lambda _: True)


def listening_addresses(guest: Guest, options: QemuOptions) -> tuple[Address, ...]:
    """Return the guest's monitors as this process connects to them.

    An address at which another process listens now is left out.
    """
    own = socket_inodes(guest.pid)
    addresses = [*options.addresses]
    if options.descriptors:  # listening sockets that QEMU inherited
        rows = [row for row in unix_sockets_of(guest.pid) if row.listening and row.name]
        paths = {f"socket:[{row.inode}]": row.name for row in rows}
        links = [link_of(f"/proc/{guest.pid}/fd/{number}") or "" for number in options.descriptors]
        addresses += [Address(path=paths[link]) for link in links if link in paths]
    found = [_visible_address(guest, address, options, own) for address in addresses]
    kept = (a for a in dict.fromkeys(found) if own is None or not _taken_over(a, guest.pid, own))
    return tuple(kept)


def taken_addresses(guest: Guest, own: frozenset[int]) -> list[Address]:
    """Return the guest's addresses at which another process listens now.

    ``own`` are the inodes of the guest's sockets.
    """
    options = parse_cmdline(guest.argv)
    found = (_visible_address(guest, address, options, own) for address in options.addresses)
    return [address for address in found if _taken_over(address, guest.pid, own)]


def listeners_at(address: Address, pid: int | None = None) -> frozenset[int]:
    """Return the inodes of the sockets that listen at an address as a process sees it.

    The process is this one by default.
    """
    path = address.path
    if path is None:
        return frozenset(row.inode for row in tcp_listeners(tcp_sockets(pid) or [], address))
    if path.startswith("\0") and pid is not None and not same_network(pid):
        rows = (row for row in unix_sockets_of(pid) if row.listening)
        return frozenset(row.inode for row in rows if row.name == path)
    return frozenset(row.inode for row in bound_to(unix_sockets(listening=True) or (), path))


def same_file(one: str, other: str) -> bool:
    """Return whether two paths lead to one file; False where either cannot be read."""
    inode = inode_of(one)
    return inode is not None and inode == inode_of(other)


def _taken_over(address: Address, pid: int, own: frozenset[int]) -> bool:
    """Return whether another process listens there."""
    # QEMU replaces a socket that it finds in place, and takes the next port with ``to=``.
    inodes = listeners_at(address, pid)
    return bool(inodes) and not inodes & own


def _visible_address(
    guest: Guest, address: Address, options: QemuOptions, own: frozenset[int] | None
) -> Address:
    """Return the guest's address as this process connects to it: where the guest listens."""
    if address.path is None or address.path.startswith("\0"):
        return address
    candidates = _candidates(guest, address.path, options)
    first = Address(path=_first_existing(candidates, stat.S_ISSOCK))
    if own is None or not _taken_over(first, guest.pid, own):
        return first
    others = (Address(path=_first_existing([place], stat.S_ISSOCK)) for place in candidates)
    return next((a for a in others if listeners_at(a, guest.pid) & own), first)


def _candidates(guest: Guest, path: str, options: QemuOptions) -> list[str]:
    """Return the paths at which this process may find a file of the guest's, likeliest first."""
    at_cwd = f"/proc/{guest.pid}/cwd/"
    below = guest.cwd.rstrip("/") + "/"
    if path.startswith("/"):
        spellings = [path]
        # The guest's own view of the file; below its cwd also when the path is too long for us.
        sure = [guest.root + path] if guest.root else []
        sure += [at_cwd + path[len(below) :]] if path.startswith(below) else []
    else:
        folders = [guest.cwd, *(_earlier_folders(guest.pid) if options.daemonize else ())]
        spellings = [f"{folder.rstrip('/')}/{path}" for folder in folders]
        sure = [at_cwd + path]
        sure += [guest.root + spelling for spelling in spellings] if guest.root else []
    if guest.root and not options.chroot:  # QEMU with -chroot opens its files before it moves
        plain = [s for s in spellings if any(same_file(s, other) for other in sure)]
        return plain + sure
    return spellings + sure


def _earlier_folders(pid: int) -> Iterator[str]:
    """Guess where a process was started: its ``PWD`` then, and the folders of its open files.

    A daemonized QEMU has moved to ``/``, and keeps its ``-pidfile`` and ``-D`` file open.
    """
    words = os.fsdecode(proc_bytes(pid, "environ")).split("\0")
    yield from (word[4:] for word in words if word.startswith("PWD=/"))
    folders = {link.rpartition("/")[0] for link in fd_links(pid) or () if link.startswith("/")}
    yield from sorted(folders - {"/dev", ""})


def _first_existing(paths: Sequence[str], kind: Callable[[int], object]) -> str:
    """Return the first path that exists, has that kind and fits a socket, else the first of all."""
    for path in paths:
        try:
            if len(os.fsencode(path)) <= UNIX_PATH_MAX and kind(Path(path).stat().st_mode):
                return path
        except (OSError, ValueError):
            continue
    return paths[0]
