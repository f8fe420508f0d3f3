"""The journals of leases: one for each guest, in a folder of the user."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from qtctl.backends.table import Undoing
from qtctl.folders import state_folder
from qtctl.leases.journal import Journal, guest_key, guest_of_key
from qtctl.leases.leasing import forget
from qtctl.model import Guest
from qtctl.monitor.client import Monitor
from qtctl.monitor.guests import listening_process
from qtctl.monitor.networks import network_of
from qtctl.monitor.processes import same_process


def identify(monitor: Monitor, guest: Guest | None) -> tuple[Guest | None, Journal]:
    """Return the guest behind a monitor and its journal."""
    if guest is None:
        guest = listening_process(monitor.address, monitor.guest_pid)
    if guest is None:
        key = "remote-" + re.sub(r"[^\w.:-]", "_", str(monitor.address)) + _network_suffix()
    else:
        key = guest_key(guest.pid, guest.started)
    return guest, Journal(leases_folder() / key)


def _network_suffix() -> str:
    """Return a suffix for a network namespace that is not the machine's: addresses differ there."""
    ours, machines = network_of(), network_of(1)
    return f"-net{ours}" if None not in (ours, machines) and ours != machines else ""


def leases_folder() -> Path:
    """Return the folder of leases, with one folder per guest."""
    return state_folder() / "leases"


def prune(folder: Path) -> None:
    """Delete the journals of guests that have ended: there is nothing left to restore."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            guest = guest_of_key(entry.name)
            if guest is not None and not same_process(*guest):
                forget(Journal(entry), Undoing())
