"""Pointing a guest's log back to where it went before qtctl pointed it at a spool."""

from __future__ import annotations

from pathlib import Path

from qtctl.backends.log.target import put_back
from qtctl.backends.spool.spool import remove_spool
from qtctl.leases.journal import Resource
from qtctl.model import Guest
from qtctl.monitor.client import Monitor

NEEDS = (frozenset({"spool", "undo"}),)


async def end(resource: Resource, monitor: Monitor, guest: Guest | None) -> str:
    """Point the log back, then remove the spool; return what could not be put back, else ''."""
    spool = Path(resource.facts["spool"])
    note = await put_back(monitor, guest, resource.facts["undo"], spool)
    remove_spool(spool)
    return note


def discard(resource: Resource) -> None:
    """Remove the spool of a guest that has ended."""
    remove_spool(Path(resource.facts["spool"]))
