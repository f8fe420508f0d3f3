"""Spools on a lease: journalled before they are made, and shared by all qtctls on a guest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from qtctl.backends.base import Site
from qtctl.backends.spool.spool import Spool, make_spool, remove_spool, start_keeper
from qtctl.errors import Unsupported
from qtctl.folders import inode_of
from qtctl.leases.journal import Owner, Resource
from qtctl.model import Guest


async def shared_spool(site: Site, owner: Owner, kind: str, inode: tuple[int, int]) -> Path | None:
    """Return another qtctl's spool that has ``inode``, leased by ``owner`` as well, or None."""
    for shared in await site.leasing.held(kind):
        path = Path(shared.facts["spool"])
        if inode_of(path) == inode:
            await site.leasing.hold(owner, shared)
            return path
    return None


async def leased_spool(
    site: Site,
    guest: Guest,
    owner: Owner,
    kind: str,
    facts: Callable[[Spool], Mapping[str, str]],
    point: Callable[[Spool], Awaitable[None]],
    *,
    head: int = 0,
) -> Spool:
    """Make a spool for a guest, start its keeper, and point QEMU at it.

    The lease is in the journal before. ``facts`` returns those of the leased resource of ``kind``,
    ``head`` is the keeper's. Where a folder cannot be used, or ``point`` raises Unsupported and has
    put back what it changed, the next folder is tried.

    Raises:
        Unsupported: no folder that the guest can see can be used; the message has the reasons.
    """
    loop = asyncio.get_running_loop()

    def journal(planned: Spool) -> None:
        resource = Resource(kind, {"spool": str(planned.path), **facts(planned)})
        held = site.leasing.hold(owner, resource)
        asyncio.run_coroutine_threadsafe(held, loop).result()

    refused: dict[Path, str] = {}
    while True:
        spool = await asyncio.to_thread(make_spool, guest, journal, refused)
        try:
            await asyncio.to_thread(start_keeper, spool.path, guest.pid, head=head)
            await point(spool)
        except (OSError, Unsupported) as error:
            remove_spool(spool.path)
            why = error.message if isinstance(error, Unsupported) else error.strerror or str(error)
            refused[spool.path.parent.parent] = why
        else:
            return spool
