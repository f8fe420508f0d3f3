"""What a backend is made of: a source of bytes, a decoder of them, and the feed that joins both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from qtctl.leases.journal import Owner
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items

if TYPE_CHECKING:
    from qtctl.session.session import Session


class Clocks(NamedTuple):
    """When bytes were read, and how far the clock of their records is from Unix time; both in ns.

    ``now_ns`` is the Unix time at which they were read: of records and losses without a time.
    ``offset_ns`` is added to the times that the bytes hold.
    """

    now_ns: int
    offset_ns: int = 0


class Decoder(Protocol):
    """Decodes the bytes of one backend; opens no files and awaits nothing.

    However the bytes are cut, the records are the same. No bytes make it raise, and what it cannot
    read is a line of text, a record with its raw arguments, or a counted :class:`Loss` at its
    place.
    """

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished record that is kept for the next call; bounded."""

    def feed(self, data: bytes, clocks: Clocks) -> Items:
        """Decode the next bytes; no batch of what it returns is empty."""

    def flush(self, clocks: Clocks) -> Items:
        """Decode what is kept as if the bytes ended here; the next bytes begin a new record."""


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
