"""What a stream needs of a backend, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from qtctl.leases.journal import Owner
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items

if TYPE_CHECKING:
    from qtctl.session.session import Session


@dataclass(frozen=True, slots=True)
class Request:
    """What a feed is opened for.

    ``owner`` holds what is made for it. ``picked`` are the events wanted: where QEMU's own states
    do not matter (ust, dtrace), the feed's tracer attaches to them; elsewhere they are switched
    on once the feed is open. ``kernel`` are the kernel's (``kvm:kvm_exit``), for ftrace.
    """

    session: Session
    owner: Owner
    table: EventTable
    picked: Sequence[str]
    kernel: Sequence[str] = ()


class Feed(Protocol):
    """What one guest says through one backend.

    ``read``, ``keep_up`` and ``finish`` block shortly and are called in a thread, one at a time.
    """

    @property
    def source(self) -> str:
        """Where it reads, in words."""

    @property
    def taken(self) -> int:
        """Bytes read so far."""

    def behind(self) -> int:
        """Return how many bytes wait to be read, 0 where that cannot be seen."""

    def read(self) -> Items:
        """Return what came since the last call, decoded, losses at their place."""

    def keep_up(self) -> None:
        """Count what falls too far behind while the records are not taken."""

    async def wait(self, timeout_s: float) -> Items:
        """Wait until there is more to read, for at most ``timeout_s``; return what that showed."""

    async def settle(self) -> None:
        """Be told that the events are off: have what was said until now handed over."""

    def settled(self) -> bool:
        """Tell whether all that was said before :meth:`settle` has been read."""

    def finish(self) -> Items:
        """Return what was begun and never ended; nothing is read after this."""

    async def close(self) -> None:
        """Close what was opened here; what the lease holds is ended with the lease."""
