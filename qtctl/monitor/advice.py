"""What to do next, as it fits the process that asks and the one that runs the guest."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from qtctl.model import Guest, Holder
from qtctl.monitor.libvirt import is_libvirts
from qtctl.monitor.processes import is_qtctl, uid_of

_CONTAINER_MARKS = ("/.dockerenv", "/run/.containerenv")


def start_with(guest: Guest | None, options: str) -> str:
    """Return how to give a guest other options at its next start."""
    if guest is None or not is_libvirts(guest):
        return f"start QEMU with {options}"
    domain = shlex.quote(guest.name or "DOMAIN")
    return f"virsh edit {domain}: <qemu:commandline> with {options}"


def free_monitor(guest: Guest | None, held: Iterable[Holder]) -> str:
    """Return how to get at a guest whose monitor others hold."""
    for holder in held:
        if holder.pid is None:
            return f"{run_as(None, 'qtctl ps')} shows who holds it"
        if is_qtctl(holder.pid):
            uid = uid_of(holder.pid)
            if uid != os.geteuid():
                return f"{run_as(uid)}, for that user's qtctl shares the monitor with no other user"
            return f"end process {holder.pid}, a qtctl that does not share the monitor"
    if guest is not None and is_libvirts(guest):
        return f"qtctl -t {shlex.quote(f'libvirt:{guest.name}')}, which asks libvirtd"
    return (
        "end that client and start qtctl share, whose socket serves it too; "
        "or give QEMU a second -qmp socket"
    )


def run_as(uid: int | None, command: str = "qtctl ...") -> str:
    """Return how to run a command as a user; as root if None."""
    if uid is None or uid == 0:
        return command if os.geteuid() == 0 else f"sudo {command}"
    return command if uid == os.geteuid() else f"sudo -u {_user(uid)} {command}"


def run_beside(guest: Guest | None, owner: int | None = None) -> str:
    """Return where and as whom qtctl can see the guest's process, or a file of ``owner``'s."""
    if guest is not None:
        uid = guest.uid if owner is None else owner
        return run_as(None if uid == os.geteuid() else uid)
    if any(Path(mark).exists() for mark in _CONTAINER_MARKS):
        return "run qtctl on the host, outside of this container"
    return "run qtctl on the guest's own machine, as the user that runs it"


def _user(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"'#{uid}'"
