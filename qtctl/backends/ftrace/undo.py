"""Removing a tracefs instance that qtctl made, or restoring the settings of the shared buffer."""

from __future__ import annotations

import asyncio
from pathlib import Path

from qtctl.backends.ftrace import shared
from qtctl.backends.ring import instance as ring
from qtctl.backends.ring.tracefs import remove_instance
from qtctl.leases.journal import Resource
from qtctl.model import Guest
from qtctl.monitor.client import Monitor

NEEDS = (frozenset({"instance"}), frozenset({"shared"}))


async def end(resource: Resource, monitor: Monitor, guest: Guest | None) -> str:
    """Remove the instance or restore the settings; return what could not be done, else ''."""
    return await asyncio.to_thread(_end, resource)


def discard(resource: Resource) -> None:
    """Do the same for a guest that has ended."""
    _end(resource)


def _end(resource: Resource) -> str:
    place = resource.facts.get("instance") or resource.facts["shared"]
    ring.close(place)
    if "instance" in resource.facts:
        return remove_instance(Path(place))
    return shared.put_back(resource.facts)
