"""Pointing a guest's trace file back to what it was before qtctl pointed it at a spool."""

from __future__ import annotations

from pathlib import Path

from qtctl.backends.simple.target import put_back
from qtctl.backends.spool.spool import remove_spool
from qtctl.leases.journal import Resource
from qtctl.model import Guest
from qtctl.monitor.client import Monitor

NEEDS = (frozenset({"spool", "undo", "on", "seen"}),)


async def end(resource: Resource, monitor: Monitor, guest: Guest | None) -> str:
    """Point the trace file back, then remove the spool; return what could not be done, else ''."""
    facts = resource.facts
    note = await put_back(monitor, facts["undo"], facts["on"] == "yes", facts["seen"])
    remove_spool(Path(facts["spool"]))
    return note


def discard(resource: Resource) -> None:
    """Remove the spool of a guest that has ended."""
    remove_spool(Path(resource.facts["spool"]))
