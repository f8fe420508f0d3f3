"""Finds running QEMU guests and their monitors from what the kernel tells; connects to nothing.

Source: proc(5). QEMU's version is read from its binary, which holds the text that ``--version``
prints (``system/vl.c``: ``QEMU emulator version 7.2.22 (Debian ...)``). Checked on QEMU 7.2, 10.0
and 11.1.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from qtctl.errors import ConnectionFailed, UsageError
from qtctl.model import Address, Guest
from qtctl.monitor.address import UNIX_PATH_MAX, shown
from qtctl.monitor.cmdline import QemuOptions, parse_cmdline
from qtctl.monitor.holders import bound_to, socket_inodes, unix_sockets, unix_sockets_of
from qtctl.monitor.networks import (
    LOCALHOST,
    is_elsewhere,
    listeners,
    same_network,
    tcp_sockets,
)

_VERSION_TEXT = b"QEMU emulator version "
_SYSTEM_EMULATOR = re.compile(r"qemu-system-.+|qemu-kvm|kvm")
_OTHER_TOOLS = re.compile(r"qemu-(img|io|nbd|ga|edid|keymap|.*-helper|storage-daemon)")
_versions: dict[tuple[int, int, int, int], str | None] = {}


def running_guests() -> list[Guest]:
    """Return the QEMU system emulators that run now, by pid; ``holders`` is left empty.

    A process that goes away meanwhile, a zombie, what may not be read, and a QEMU that only stands
    beside its own guest (waiting for ``-daemonize``, or for ``async-teardown``) are passed over. An
    address that another process has taken over (two guests started with one path) is left out.
    Never raises.
    """
    found = {pid: guest for pid in _pids() if (guest := _guest(pid)) is not None}
    return [guest for guest in found.values() if not _is_bystander(guest, found)]


def guest_by_pid(pid: int) -> Guest:
    """Return the guest with this pid, reading nothing of other processes.

    Raises:
        ConnectionFailed: no such process runs, or it is not a QEMU system emulator.
    """
    guest = _guest(pid)
    if guest is not None:
        return guest
    if start_ticks(pid) is None or not _status(pid) or _is_dead(pid):
        raise ConnectionFailed(f"no process has pid {pid}", hint="qtctl ps")
    name = _status(pid).get("Name", "")
    raise ConnectionFailed(f"pid {pid} ({shown(name)}) is not a QEMU guest", hint="qtctl ps")


def find_guest(target: Address | int | str) -> Guest | None:
    """Return the guest that a parsed TARGET means, or None where no running one fits.

    An address belongs to the process that listens there, by the kernel's list of sockets where
    possible (which tells two guests started with one address apart), else by the command lines.
    A TCP port or an abstract name is looked for in our network namespace only. A pid that is no
    guest gives None.

    Raises:
        UsageError: two or more running guests have the name.
    """
    if isinstance(target, int):
        return _guest(target)
    guests = running_guests()
    if isinstance(target, Address):
        return _listener(target, guests)
    named = [guest for guest in guests if guest.name == target]
    if len(named) > 1:
        raise UsageError(
            f"{len(named)} guests are named {shown(target)}:{_listing(named)}", hint=_PICK
        )
    return named[0] if named else None


def the_only_guest() -> Guest:
    """Return the one guest that runs.

    Raises:
        ConnectionFailed: none runs that could be seen.
        UsageError: several run; the message lists pid, name and address of each.
    """
    guests = running_guests()
    if not guests:
        raise ConnectionFailed("no QEMU guest was found", hint="qtctl -t SOCKET, or qtctl demo")
    if len(guests) > 1:
        raise UsageError(f"{len(guests)} guests are running:{_listing(guests)}", hint=_PICK)
    return guests[0]


def listening_process(address: Address, peer_pid: int | None) -> Guest | None:
    """Return the process behind a monitor that was connected to; None where it is not seen.

    ``peer_pid`` is the process that answers, as far as the connection shows: QEMU itself, unless a
    manager such as libvirt made the socket for it. A server that is no QEMU is described too.
    Where the connection shows no process, none is guessed: one with the same address on its
    command line may be in another namespace.
    """
    if peer_pid is None:
        return None
    guest = _guest(peer_pid) or find_guest(address)
    if guest is not None:
        return guest
    started = start_ticks(peer_pid)
    return None if started is None else _described(peer_pid, started, _argv(peer_pid))


def is_guest(pid: int) -> bool:
    """Return whether a process is a living QEMU system emulator."""
    return _guest(pid) is not None


def described(pid: int | None) -> str:
    """Return how messages name a process: ``guest 123 ('vm')``, or what else it is."""
    if pid is None:
        return "another process"
    guest = _guest(pid)
    if guest is None:
        return f"process {pid} ({shown(_status(pid).get('Name', 'unknown'))})"
    return f"guest {pid}" if guest.name is None else f"guest {pid} ({shown(guest.name)})"


def lost_addresses(guest: Guest) -> list[tuple[Address, int | None]]:
    """Return the guest's addresses at which another process listens now, and its pid if seen."""
    own = socket_inodes(guest.pid)
    if own is None:
        return []
    options = parse_cmdline(guest.argv)
    found = (_seen_address(guest, address, options, own) for address in options.addresses)
    taken = [address for address in found if _taken_over(address, guest.pid, own)]
    holding = {guest.pid: socket_inodes(guest.pid) or frozenset() for guest in running_guests()}
    return [
        (address, next((pid for pid, inodes in holding.items() if inodes & listening), None))
        for address in taken
        for listening in [_listening_at(address, guest.pid)]
    ]


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None where there is none.

    Field 22 of ``/proc/PID/stat`` (proc(5)); the command in field 2 may hold spaces and brackets.
    """
    return _stat_number(pid, _STARTED)


def same_process(pid: int, started: int) -> bool:
    """Tell whether the process that had ``pid`` and began at ``started`` ticks still lives.

    A zombie is dead: it serves no monitor any more.
    """
    return start_ticks(pid) == started and not _is_dead(pid)


def seen_path(guest: Guest, path: str) -> str:
    """Return where this process finds a file that the guest spelled ``path`` (say for ``-D``).

    Relative paths start at the guest's working directory, or, where a daemonized guest has left it
    for ``/``, at the one it was likely started in. The first of these places that exists is given,
    else the likeliest.
    """
    return _existing(_places(guest, path, parse_cmdline(guest.argv)), lambda _: True)


_PICK = "qtctl -t PID"


# Fields of /proc/PID/stat, counted from 1 as in proc(5).
_PARENT, _SESSION, _STARTED = 4, 6, 22


def _stat_number(pid: int, field: int) -> int | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
        return int(line[line.rindex(b")") + 2 :].split()[field - 3])
    except (OSError, ValueError, IndexError):
        return None


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208


def _guest(pid: int) -> Guest | None:
    """Read one process; None for anything but a living QEMU system emulator."""
    argv = _argv(pid)
    if not argv:
        return None  # gone, a zombie, or a kernel thread
    exe = _link(f"/proc/{pid}/exe")
    if not _may_be_qemu(exe or argv[0], argv):
        return None
    version = _version(pid)
    if version is None and not _SYSTEM_EMULATOR.fullmatch(_base(exe or argv[0])):
        return None
    started = start_ticks(pid)
    if started is None or _is_dead(pid):
        return None
    options = parse_cmdline(argv)
    guest = _described(pid, started, argv)
    return _with_addresses(guest._replace(name=options.name, version=version), options)


def _described(pid: int, started: int, argv: tuple[str, ...]) -> Guest:
    """Return what the kernel tells of any process, QEMU or not."""
    uids = _status(pid).get("Uid", "").split()
    return Guest(
        pid=pid,
        started=started,
        exe=_link(f"/proc/{pid}/exe") or next(iter(argv), ""),
        argv=argv,
        cwd=_link(f"/proc/{pid}/cwd") or "/",
        root=_root_prefix(pid),
        uid=int(uids[1]) if len(uids) > 1 else 0,
    )


def _is_bystander(guest: Guest, guests: Mapping[int, Guest]) -> bool:
    parent = guests.get(_stat_number(guest.pid, _PARENT) or 0)
    if parent is not None and parent.argv == guest.argv:
        return True
    # os_daemonize() of os-posix.c: the guest's session leader has ended, the waiting one's has not.
    twins = any(other.argv == guest.argv for other in guests.values() if other is not guest)
    daemonizes = twins and parse_cmdline(guest.argv).daemonize
    return daemonizes and not _is_dead(_stat_number(guest.pid, _SESSION) or 0)


def _base(path: str) -> str:
    return path.removesuffix(" (deleted)").rpartition("/")[2]


def _may_be_qemu(exe: str, argv: Sequence[str]) -> bool:
    """Tell by names alone whether the binary is worth looking into."""
    base = _base(exe)
    if _OTHER_TOOLS.fullmatch(base):
        return False
    qemus_options = any(word.lstrip("-") in ("qmp", "chardev", "machine") for word in argv[1:])
    return "qemu" in base or base == "kvm" or qemus_options


def _version(pid: int) -> str | None:
    """Return the first word of the version text in a process's binary, remembered per file."""
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


def _argv(pid: int) -> tuple[str, ...]:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ()
    return (
        tuple(os.fsdecode(word) for word in text.removesuffix(b"\0").split(b"\0")) if text else ()
    )


def _status(pid: int) -> dict[str, str]:
    try:
        text = os.fsdecode(Path(f"/proc/{pid}/status").read_bytes())
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n"))
    return {key: value.strip() for key, _, value in pairs}


def _is_dead(pid: int) -> bool:
    return _status(pid).get("State", "X")[:1] in ("Z", "X")


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)  # noqa: PTH115 - Path would normalise what the kernel says
    except OSError:
        return None


def _root_prefix(pid: int) -> str:
    """Return ``/proc/PID/root`` where the process has another root or other mounts than we."""
    prefix = f"/proc/{pid}/root"
    try:
        ours, theirs = Path("/").stat(), Path(f"{prefix}/").stat()
    except OSError:
        return ""
    same_root = (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)
    mounts = _link(f"/proc/{pid}/ns/mnt")
    return "" if same_root and mounts in (None, _link("/proc/self/ns/mnt")) else prefix


def _with_addresses(guest: Guest, options: QemuOptions) -> Guest:
    own = socket_inodes(guest.pid)
    found = [_seen_address(guest, address, options, own) for address in options.addresses]
    if options.descriptors:
        found += _inherited(guest, options, own)
    kept = (a for a in dict.fromkeys(found) if own is None or not _taken_over(a, guest.pid, own))
    return guest._replace(addresses=tuple(kept))


def _taken_over(address: Address, pid: int, own: frozenset[int]) -> bool:
    """Return whether another process listens there.

    QEMU replaces a socket that it finds in place, and takes the next port with ``to=``.
    """
    inodes = _listening_at(address, pid)
    return bool(inodes) and not inodes & own


def _listening_at(address: Address, pid: int | None = None) -> frozenset[int]:
    """Return the sockets that listen at an address as a process sees it (ours by default)."""
    path = address.path
    if path is None:
        return frozenset(row.inode for row in listeners(tcp_sockets(pid) or [], address))
    if path.startswith("\0") and pid is not None and not same_network(pid):
        rows = (row for row in unix_sockets_of(pid) if row.listening)
        return frozenset(row.inode for row in rows if row.name == path)
    return frozenset(row.inode for row in bound_to(unix_sockets(listening=True) or (), path))


def _seen_address(
    guest: Guest, address: Address, options: QemuOptions, own: frozenset[int] | None
) -> Address:
    """Return the guest's address as this process connects to it.

    Of several places where a path may lie, that one where the guest itself listens.
    """
    if address.path is None or address.path.startswith("\0"):
        return address
    places = _places(guest, address.path, options)
    first = Address(path=_existing(places, stat.S_ISSOCK))
    if own is None or not _taken_over(first, guest.pid, own):
        return first
    others = (Address(path=_existing([place], stat.S_ISSOCK)) for place in places)
    return next((a for a in others if _listening_at(a, guest.pid) & own), first)


def _inherited(guest: Guest, options: QemuOptions, own: frozenset[int] | None) -> list[Address]:
    """Name the listening sockets that were passed to QEMU as open descriptors."""
    rows = {row.inode: row for row in unix_sockets_of(guest.pid) if row.listening and row.name}
    found = []
    for number in options.descriptors:
        link = _link(f"/proc/{guest.pid}/fd/{number}") or ""
        row = rows.get(int(link[8:-1])) if link.startswith("socket:[") else None
        if row is not None:
            found.append(_seen_address(guest, Address(path=row.name), options, own))
    return found


def _places(guest: Guest, path: str, options: QemuOptions) -> list[str]:
    """List the places where a path of the guest's may lie for us, the likeliest first."""
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
        plain = [s for s in spellings if any(_same_file(s, other) for other in sure)]
        return plain + sure
    return spellings + sure


def _same_file(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):
        return False


def _earlier_folders(pid: int) -> Iterator[str]:
    """Guess where a process was started: its ``PWD`` then, and where its open files lie.

    A daemonized QEMU has moved to ``/``, and keeps its ``-pidfile`` and ``-D`` file open.
    """
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        yield from (os.fsdecode(word[4:]) for word in words if word.startswith(b"PWD=/"))
        numbers = os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - names, not paths
    except OSError:
        return
    links = {_link(f"/proc/{pid}/fd/{number}") or "" for number in numbers}
    folders = {link.rpartition("/")[0] for link in links if link.startswith("/")}
    yield from sorted(folders - {"/dev", ""})


def _existing(places: Sequence[str], kind: Callable[[int], object]) -> str:
    """Return the first place that exists, is of that kind, and fits in a socket's address."""
    for place in places:
        try:
            if len(os.fsencode(place)) <= UNIX_PATH_MAX and kind(Path(place).stat().st_mode):
                return place
        except (OSError, ValueError):
            continue
    return places[0]


def _listener(address: Address, guests: Iterable[Guest]) -> Guest | None:
    inodes = _listening_at(address)
    unseen = []
    for guest in guests:
        own = socket_inodes(guest.pid)
        if own is None or not inodes:
            unseen.append(guest)
        elif own & inodes:
            return guest
    for guest in unseen:
        near = [one for one in guest.addresses if not is_elsewhere(one, guest)]
        if any(_same_address(address, one) for one in near):
            return guest
    return None


def _same_address(one: Address, other: Address) -> bool:
    if one.path is not None and other.path is not None:
        return one.path == other.path or _same_file(one.path, other.path)
    if one.path is not None or other.path is not None or one.port != other.port:
        return False
    return one.host == other.host or {one.host, other.host} <= LOCALHOST


def _listing(guests: Iterable[Guest]) -> str:
    lines = []
    for guest in guests:
        name = shown(guest.name) if guest.name is not None else "(no name)"
        where = ", ".join(_spelled(address, guest) for address in guest.addresses)
        lines.append(f"\n  {guest.pid}  {name}  {where or '(no monitor)'}")
    return "".join(lines)


def _spelled(address: Address, guest: Guest) -> str:
    elsewhere = " in another network namespace" if is_elsewhere(address, guest) else ""
    return shown(str(address).rstrip("\0"))[1:-1] + elsewhere
