"""Ending an LTTng session that qtctl made for a guest, with the daemons that it started for it."""

from __future__ import annotations

import asyncio

from qtctl.backends.ust.lttng import end_session
from qtctl.leases.journal import Resource
from qtctl.model import Guest
from qtctl.monitor.client import Monitor

NEEDS = (frozenset({"session", "folder"}),)


async def end(resource: Resource, monitor: Monitor, guest: Guest | None) -> str:
    """End the session, its relay daemon, and a session daemon of qtctl's that is left idle."""
    return await asyncio.to_thread(end_session, resource.facts)


def discard(resource: Resource) -> None:
    """Do the same for a guest that has ended."""
    end_session(resource.facts)
