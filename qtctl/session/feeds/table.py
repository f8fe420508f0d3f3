"""Which module feeds which backend."""

from __future__ import annotations

import importlib
from typing import Protocol, cast

from qtctl.model import Backend
from qtctl.session.feeds.base import Feed, Request

_MODULES = {
    Backend.LOG: "qtctl.session.feeds.log",
    Backend.SIMPLE: "qtctl.session.feeds.simple",
    Backend.FTRACE: "qtctl.session.feeds.ftrace",
    Backend.SYSLOG: "qtctl.session.feeds.syslog",
    Backend.UST: "qtctl.session.feeds.ust",
    Backend.DTRACE: "qtctl.session.feeds.dtrace",
}


class _Opener(Protocol):
    async def open_feed(self, request: Request) -> Feed: ...


async def open_feed(backend: Backend, request: Request) -> Feed:
    """Open what the guest says through ``backend``; what that takes is held by the owner."""
    module = cast(_Opener, importlib.import_module(_MODULES[backend]))
    return await module.open_feed(request)
