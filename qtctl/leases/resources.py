"""Ending what a lease made beside its events: each kind by the feed that made it."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from qtctl.leases.journal import Resource
from qtctl.model import Guest
from qtctl.monitor.client import Monitor

# Loaded when needed only: most verbs end nothing.
_KINDS = {
    "log": "qtctl.backends.log.feed",
    "lttng": "qtctl.backends.ust.feed",
    "tracefs": "qtctl.backends.ftrace.feed",
    "simple": "qtctl.backends.simple.feed",
}


class _Ender(Protocol):
    async def end(self, resource: Resource, monitor: Monitor, guest: Guest | None) -> str: ...

    def discard(self, resource: Resource) -> None: ...


def _ender(kind: str) -> _Ender | None:
    place = _KINDS.get(kind)
    return cast(_Ender, importlib.import_module(place)) if place else None


async def end_resource(resource: Resource, monitor: Monitor, guest: Guest | None) -> str:
    """Undo a resource while its guest runs; return what could not be undone, in words, or ''."""
    ender = _ender(resource.kind)
    if ender is None:
        return f"a {resource.kind} that another version of qtctl made was not undone"
    return await ender.end(resource, monitor, guest)


def discard_resource(resource: Resource) -> None:
    """Remove what is left of a resource once its guest has ended."""
    ender = _ender(resource.kind)
    if ender is not None:
        ender.discard(resource)
