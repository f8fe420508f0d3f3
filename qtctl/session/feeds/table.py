"""Which module feeds which backend."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol, cast

from qtctl.events.leases import Owner
from qtctl.model import Backend
from qtctl.records.table import EventTable
from qtctl.session.feeds.base import Feed

if TYPE_CHECKING:
    from qtctl.session.attach import Session

_MODULES = {Backend.LOG: "qtctl.session.feeds.log"}


class _Opener(Protocol):
    async def open_feed(self, session: Session, owner: Owner, table: EventTable) -> Feed: ...


async def open_feed(backend: Backend, session: Session, owner: Owner, table: EventTable) -> Feed:
    """Open what the guest says through ``backend``; what that takes is held by ``owner``."""
    module = cast(_Opener, importlib.import_module(_MODULES[backend]))
    return await module.open_feed(session, owner, table)
