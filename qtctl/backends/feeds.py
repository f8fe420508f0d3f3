"""Which module feeds which backend."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from qtctl.backends.base import Feed, Request
from qtctl.model import Backend

_MODULES = {
    Backend.LOG: "qtctl.backends.log.feed",
    Backend.SIMPLE: "qtctl.backends.simple.feed",
    Backend.FTRACE: "qtctl.backends.ftrace.feed",
    Backend.SYSLOG: "qtctl.backends.syslog.feed",
    Backend.UST: "qtctl.backends.ust.feed",
    Backend.DTRACE: "qtctl.backends.dtrace.feed",
}


class _Opener(Protocol):
    async def open_feed(self, request: Request) -> Feed: ...


async def open_feed(backend: Backend, request: Request) -> Feed:
    """Open what the guest says through ``backend``; what that takes is held by the owner."""
    module = cast(_Opener, importlib.import_module(_MODULES[backend]))
    return await module.open_feed(request)
