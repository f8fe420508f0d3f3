"""Finds running QEMU guests and their monitors in ``/proc``; connects to nothing.

Source: proc(5). QEMU's version is read from its binary, which holds the text that ``--version``
prints (``system/vl.c``: ``QEMU emulator version 7.2.22 (Debian ...)``). Checked on QEMU 7.2, 10.0
and 11.1.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from qtctl.errors import ConnectionFailed, SeveralGuests, UsageError
from qtctl.model import Address, Guest
from qtctl.monitor.address import shown
from qtctl.monitor.cmdline import parse_cmdline
from qtctl.monitor.guest_paths import (
    listeners_at,
    listening_addresses,
    same_file,
    taken_addresses,
)
from qtctl.monitor.kernel_sockets import LOCALHOST
from qtctl.monitor.libvirt import SCHEME, is_libvirts
from qtctl.monitor.networks import is_elsewhere
from qtctl.monitor.processes import (
    PARENT,
    SESSION,
    argv_of,
    is_dead,
    link_of,
    pids,
    root_prefix,
    socket_inodes,
    start_ticks,
    stat_number,
    status_of,
    uid_of,
)

_VERSION_TEXT = b"QEMU emulator version "
_SYSTEM_EMULATOR = re.compile(r"qemu-system-.+|qemu-kvm|kvm")
_OTHER_TOOLS = re.compile(r"qemu-(img|io|nbd|ga|edid|keymap|.*-helper|storage-daemon)")
_versions: dict[tuple[int, int, int, int], str | None] = {}
_CHOOSE = "qtctl -t PID"


def running_guests() -> list[Guest]:
    """Return the QEMU system emulators that run now, by pid; ``holders`` is left empty.

    A process that ends meanwhile, a zombie, one that may not be read, and a QEMU that only helps
    another one (the parent that waits for ``-daemonize``, the child of ``async-teardown``) are
    skipped. An address that another process has taken over (two guests started with one path) is
    left out. Never raises.
    """
    found = {pid: guest for pid in pids() if (guest := _guest(pid)) is not None}
    return [guest for guest in found.values() if not _is_helper(guest, found)]


def find_guest(target: Address | int | str) -> Guest | None:
    """Return the guest that a parsed TARGET means, or None where no running one matches.

    An address belongs to the process that listens there: by the kernel's list of sockets where
    possible, which distinguishes two guests started with one address, else by the command lines.
    A TCP port or an abstract name is looked up in our network namespace only. A pid that is no
    guest gives None.

    Raises:
        UsageError: two or more running guests have the name.
    """
    if isinstance(target, int):
        return _guest(target)
    guests = running_guests()
    if isinstance(target, Address):
        return _listener(target, guests)
    named = [guest for guest in guests if _is_named(guest, target)]
    if len(named) > 1:
        raise UsageError(
            f"{len(named)} guests are named {shown(target)}:", hint=_CHOOSE, more=_listing(named)
        )
    return named[0] if named else None


def the_only_guest() -> Guest:
    """Return the one guest that runs.

    Raises:
        ConnectionFailed: no running guest was found.
        SeveralGuests: the message lists pid, name and address of each.
    """
    guests = running_guests()
    if not guests:
        raise ConnectionFailed("no QEMU guest was found", hint="qtctl -t SOCKET, or qtctl demo")
    if len(guests) > 1:
        raise SeveralGuests(
            f"{len(guests)} guests are running:", hint=_CHOOSE, more=_listing(guests)
        )
    return guests[0]


def listening_process(address: Address, peer_pid: int | None) -> Guest | None:
    """Return the process that serves a connected monitor; None where it is not visible.

    ``peer_pid`` is the process at the other end, as far as the connection shows it: QEMU itself,
    unless a manager such as libvirt made the socket for it. A server that is no QEMU is described
    too. Where the connection shows no process, none is guessed: one with the same address on its
    command line may be in another namespace.
    """
    if peer_pid is None:
        return None
    return _guest(peer_pid) or find_guest(address) or _as_guest(peer_pid)


def described(pid: int | None) -> str:
    """Return a process's name in messages: ``guest 123 ('vm')``, or ``process 123 ('bash')``."""
    if pid is None:
        return "another process"
    guest = _guest(pid)
    if guest is None:
        return f"process {pid} ({shown(status_of(pid).get('Name', 'unknown'))})"
    return f"guest {pid}" if guest.name is None else f"guest {pid} ({shown(guest.name)})"


def lost_addresses(guest: Guest) -> list[tuple[Address, int | None]]:
    """Return the guest's addresses at which another process listens now.

    Each comes with that process's pid, None where it is not visible.
    """
    own = socket_inodes(guest.pid)
    if own is None:
        return []
    open_in = {other.pid: socket_inodes(other.pid) or frozenset() for other in running_guests()}
    return [
        (address, next((pid for pid, inodes in open_in.items() if inodes & listening), None))
        for address in taken_addresses(guest, own)
        for listening in [listeners_at(address, guest.pid)]
    ]


def _guest(pid: int) -> Guest | None:
    """Read one process; None for anything but a living QEMU system emulator."""
    argv = argv_of(pid)
    if not argv:
        return None  # ended, a zombie, or a kernel thread
    exe = link_of(f"/proc/{pid}/exe")
    if not _may_be_qemu(exe or argv[0], argv):
        return None
    version = _version(pid)
    if version is None and not _SYSTEM_EMULATOR.fullmatch(_base(exe or argv[0])):
        return None
    guest = _as_guest(pid)
    if guest is None or is_dead(pid):
        return None
    options = parse_cmdline(guest.argv)
    guest = guest._replace(name=options.name, version=version)
    return guest._replace(addresses=listening_addresses(guest, options))


def _as_guest(pid: int) -> Guest | None:
    """Return the kernel's facts about any process, QEMU or not; None where there is none."""
    started, argv = start_ticks(pid), argv_of(pid)
    if started is None:
        return None
    return Guest(
        pid=pid,
        started=started,
        exe=link_of(f"/proc/{pid}/exe") or next(iter(argv), ""),
        argv=argv,
        cwd=link_of(f"/proc/{pid}/cwd") or "/",
        root=root_prefix(pid),
        uid=uid_of(pid) or 0,
    )


def _is_helper(guest: Guest, guests: Mapping[int, Guest]) -> bool:
    """Return whether a QEMU process only helps another: see :func:`running_guests`."""
    parent = guests.get(stat_number(guest.pid, PARENT) or 0)
    if parent is not None and parent.argv == guest.argv:
        return True
    # os_daemonize() of os-posix.c: the guest's session leader has ended, the waiting one's has not.
    twins = any(other.argv == guest.argv for other in guests.values() if other is not guest)
    daemonizes = twins and parse_cmdline(guest.argv).daemonize
    return daemonizes and not is_dead(stat_number(guest.pid, SESSION) or 0)


def _base(path: str) -> str:
    return path.removesuffix(" (deleted)").rpartition("/")[2]


def _may_be_qemu(exe: str, argv: Sequence[str]) -> bool:
    """Return whether the binary is worth searching for a version, by names alone."""
    base = _base(exe)
    if _OTHER_TOOLS.fullmatch(base):
        return False
    qemus_options = any(word.lstrip("-") in ("qmp", "chardev", "machine") for word in argv[1:])
    return "qemu" in base or base == "kvm" or qemus_options


def _version(pid: int) -> str | None:
    """Return the first word of the version text in a process's binary, cached per file."""
    try:
        with Path(f"/proc/{pid}/exe").open("rb") as file:
            facts = os.fstat(file.fileno())
            key = (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if key not in _versions:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
                    at = image.find(_VERSION_TEXT)
                    start = at + len(_VERSION_TEXT)
                    words = image[start : start + 80].split() if at >= 0 else []
                    _versions[key] = words[0].decode("ascii", "replace") if words else None
            return _versions[key]
    except (OSError, ValueError):
        return None


def _is_named(guest: Guest, target: str) -> bool:
    """Return whether a guest has a name, or is the domain ``libvirt:DOMAIN``."""
    domain = target.removeprefix(SCHEME)
    return guest.name == target or (
        domain != target and guest.name == domain and is_libvirts(guest)
    )


def _listener(address: Address, guests: Iterable[Guest]) -> Guest | None:
    """Return the guest that listens at an address; see :func:`find_guest`."""
    inodes = listeners_at(address)
    undecided = []
    for guest in guests:
        own = socket_inodes(guest.pid)
        if own is None or not inodes:
            undecided.append(guest)
        elif own & inodes:
            return guest
    for guest in undecided:
        near = [one for one in guest.addresses if not is_elsewhere(one, guest)]
        if any(_same_address(address, one) for one in near):
            return guest
    return None


def _same_address(one: Address, other: Address) -> bool:
    if one.path is not None and other.path is not None:
        return one.path == other.path or same_file(one.path, other.path)
    if one.path is not None or other.path is not None or one.port != other.port:
        return False
    return one.host == other.host or {one.host, other.host} <= LOCALHOST


def _listing(guests: Iterable[Guest]) -> list[str]:
    lines = []
    for guest in guests:
        name = shown(guest.name) if guest.name is not None else "(no name)"
        where = []
        for address in guest.addresses:
            elsewhere = " in another network namespace" if is_elsewhere(address, guest) else ""
            where.append(shown(str(address).rstrip("\0"))[1:-1] + elsewhere)
        lines.append(f"  {guest.pid}  {name}  {', '.join(where) or '(no monitor)'}")
    return lines
