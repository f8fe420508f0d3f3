"""Facts about processes, read from ``/proc``; every function allows for a process that has ended.

Source: proc(5), checked on Linux 6.18. A caller that may have to do with a reused pid compares the
start time as well: :func:`same_process`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from qtctl.folders import inode_of

UNKNOWN_PROCESS = "an unknown process"

# Fields of /proc/PID/stat, counted from 1 as in proc(5).
PARENT, SESSION, STARTED = 4, 6, 22


def proc_bytes(pid: int | str, name: str) -> bytes:
    """Return the content of ``/proc/PID/NAME``; nothing where it cannot be read."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def pids() -> list[int]:
    """Return the pids of all processes, in ascending order."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208


def stat_number(pid: int, field: int) -> int | None:
    """Return a numeric field of ``/proc/PID/stat``; None where there is no such process."""
    # The command in field 2 may hold spaces and brackets.
    numbers = proc_bytes(pid, "stat").rpartition(b")")[2].split()
    return int(numbers[field - 3]) if numbers else None


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None where there is none."""
    return stat_number(pid, STARTED)


def same_process(pid: int, started: int) -> bool:
    """Return whether the process that started at ``started`` ticks lives; a zombie does not."""
    return start_ticks(pid) == started and not is_dead(pid)


def is_dead(pid: int) -> bool:
    """Return whether a process has ended; a zombie has."""
    return status_of(pid).get("State", "X")[:1] in ("Z", "X")


def status_of(pid: int) -> dict[str, str]:
    """Return the lines of ``/proc/PID/status`` by key; nothing where it cannot be read."""
    lines = os.fsdecode(proc_bytes(pid, "status")).split("\n")
    pairs = (line.partition(":") for line in lines)
    return {key: value.strip() for key, _, value in pairs}


def pid_inside(pid: int) -> int:
    """Return the pid of a process in its own pid namespace; ``pid`` where it cannot be read."""
    return int(status_of(pid).get("NSpid", str(pid)).split()[-1])


def argv_of(pid: int) -> tuple[str, ...]:
    """Return the command line of a process; nothing for a zombie, a kernel thread, or none."""
    text = os.fsdecode(proc_bytes(pid, "cmdline"))
    return tuple(text.removesuffix("\0").split("\0")) if text else ()


def link_of(path: str) -> str | None:
    """Return the target of a symbolic link in ``/proc``; None where it cannot be read."""
    try:
        return os.readlink(path)  # noqa: PTH115 - Path would normalise the kernel's text
    except OSError:
        return None


def fd_links(pid: int) -> list[str] | None:
    """Return where the open descriptors of a process lead; None where they may not be read."""
    links = []
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                try:
                    links.append(os.readlink(entry.path))  # noqa: PTH115 - Path is far slower
                except FileNotFoundError:
                    continue  # closed meanwhile
    except OSError:
        return None
    return links


def root_prefix(pid: int) -> str:
    """Return ``/proc/PID/root`` where a process has another root or other mounts than this one.

    Otherwise, and where they cannot be read, return an empty string.
    """
    prefix = f"/proc/{pid}/root"
    root, mounts = inode_of(f"{prefix}/"), link_of(f"/proc/{pid}/ns/mnt")
    same_mounts = mounts in (None, link_of("/proc/self/ns/mnt"))
    return "" if root is None or (root == inode_of("/") and same_mounts) else prefix


def in_other_user_namespace(pid: int) -> bool:
    """Return whether a process is in another user namespace, as in a rootless container."""
    return inode_of(f"/proc/{pid}/ns/user") not in (None, inode_of("/proc/self/ns/user"))


def process_name(pid: int) -> str:
    """Return the name of a process for messages: its script under Python, else ``comm``."""
    name, words = os.fsdecode(proc_bytes(pid, "comm")), argv_of(pid)
    if name.startswith("python") and len(words) > 1 and words[1] and not words[1].startswith("-"):
        return Path(words[1]).name
    return name.rstrip("\n") if name else UNKNOWN_PROCESS


def is_qtctl(pid: int) -> bool:
    """Return whether a process runs the ``qtctl`` script, by its command line."""
    return any(word.rpartition("/")[2] == "qtctl" for word in argv_of(pid)[:4])


def uid_of(pid: int) -> int | None:
    """Return the effective user of a process; None if it has ended."""
    uids = status_of(pid).get("Uid", "").split()
    return int(uids[1]) if len(uids) > 1 else None


def socket_inodes(pid: int) -> frozenset[int] | None:
    """Return the inodes of the sockets a process has open; None where it may not be read."""
    links = fd_links(pid)
    if links is None:
        return None
    return frozenset(int(link[8:-1]) for link in links if link.startswith("socket:["))


def socket_owners(inodes: Iterable[int]) -> dict[int, int]:
    """Return the pid of the process that has each socket open, by inode, as far as it is visible.

    The newest processes are searched first: a client mostly starts after its server.
    """
    wanted = {inode for inode in inodes if inode}
    owners: dict[int, int] = {}
    for pid in reversed(pids()) if wanted else ():
        for inode in wanted & (socket_inodes(pid) or frozenset()):
            owners[inode] = pid
        if len(owners) == len(wanted):
            break
    return owners
