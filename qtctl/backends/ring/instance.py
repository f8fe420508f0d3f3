"""A tracefs instance that is leased, and closing what reads it before the lease removes it."""

from __future__ import annotations

import asyncio
import weakref
from pathlib import Path

from qtctl.backends.base import Site
from qtctl.backends.ring import tracefs
from qtctl.backends.ring.reader import RingReader
from qtctl.errors import Unsupported
from qtctl.leases.journal import Owner, Resource
from qtctl.model import Guest

KIND = "tracefs"
# An instance cannot be removed while it is read, and a lease ends before its feed is closed.
_readers: weakref.WeakValueDictionary[str, RingReader] = weakref.WeakValueDictionary()


def seen_guest(site: Site) -> Guest:
    """Return the guest's process.

    Raises:
        Unsupported: it is not seen from here.
    """
    if site.guest is None:
        raise Unsupported(
            f"the kernel's trace is read on the guest's own machine, and the process behind "
            f"{site.where} is not on this one",
            hint="run qtctl where QEMU runs",
        )
    return site.guest


async def lease(site: Site, owner: Owner, root: Path, suffix: str = "") -> Path:
    """Return the folder of an instance of an owner; it is journalled, and not made yet.

    ``root`` is where tracefs is. Each instance of an owner has another ``suffix`` (``-kernel``).
    """
    folder = root / "instances" / f"qtctl-{owner.pid}-{owner.serial}{suffix}"
    await site.leasing.hold(owner, Resource(KIND + suffix, {"instance": str(folder)}))
    return folder


def close_at_end(reader: RingReader) -> None:
    """Have a reader closed when the resource of its folder ends."""
    _readers[str(reader.folder)] = reader


def close(folder: str) -> None:
    """Close the reader of a folder."""
    reader = _readers.pop(folder, None)
    if reader is not None:
        reader.close()


async def find(use: str, then: str = "") -> Path:
    """Return where tracefs is; see :func:`tracefs.find_tracefs`.

    Raises:
        Unsupported: it cannot be read, or threads have other ids here than in the kernel's trace.
    """
    root = await asyncio.to_thread(tracefs.find_tracefs, use, then)
    tracefs.check_namespace()
    return root
