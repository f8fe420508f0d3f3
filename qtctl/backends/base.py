"""What a backend is made of, each part a module of its folder below ``qtctl.backends``.

``signs`` detects it in a QEMU, ``feed`` follows a guest through it, ``undo`` ends what its feed
leased, ``saved`` reads files that it wrote, ``arguments`` reads arguments of recorded rows. A
backend has the parts that it needs; ``table`` imports each when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from mmap import mmap

    from qtctl.backends.elf import Elf
    from qtctl.backends.log.target import LogTarget
    from qtctl.leases.journal import Owner, Resource
    from qtctl.leases.leasing import GivenBack, Leasing
    from qtctl.model import Guest
    from qtctl.monitor.client import Monitor
    from qtctl.records.batch import ArgumentReader
    from qtctl.records.event_table import EventTable
    from qtctl.records.items import Items


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


class Site(Protocol):
    """The guest that a feed follows, with its monitor and leases.

    Feeds append to ``notices`` what the user should know; ``where`` names the guest in errors.
    """

    @property
    def guest(self) -> Guest | None:
        """The guest's process; None where it cannot be seen from here."""

    @property
    def monitor(self) -> Monitor:
        """The guest's QMP monitor."""

    @property
    def leasing(self) -> Leasing:
        """The leases on the guest."""

    @property
    def notices(self) -> list[str]:
        """Sentences for the user that were not shown yet."""

    @property
    def where(self) -> str:
        """The monitor's address."""

    def guest_ended(self) -> bool:
        """Return whether the guest's process is gone; False where it cannot be seen."""

    async def log_target(self) -> LogTarget:
        """Return where the guest's log goes at this moment, as far as known without a check."""

    async def end(self, owner: Owner) -> GivenBack:
        """End the leases of an owner, over a new link if need be."""


class FeedRequest(NamedTuple):
    """What a feed is opened for.

    ``owner`` owns the leases of what is made for it. ``picked`` are the events wanted: where QEMU's
    own states do not matter (ust, dtrace), the feed's tracer attaches to them; elsewhere they are
    switched on once the feed is open. ``on`` are those that are on already. ``clock`` is that of a
    log without times: see ``Follow.clock``.
    """

    site: Site
    owner: Owner
    table: EventTable
    picked: Sequence[str]
    on: Sequence[str] = ()
    clock: str = "arrival"


class Feed(Protocol):
    """Reads and decodes what one guest emits through one backend.

    ``read``, ``keep_up`` and ``finish`` block shortly and are called in a thread, one at a time.
    """

    @property
    def source(self) -> str:
        """Where it reads, for the user."""

    @property
    def taken(self) -> int:
        """Bytes read so far."""

    def behind(self) -> int:
        """Return how many bytes wait to be read, 0 where that cannot be seen."""

    def read(self) -> Items:
        """Return what came since the last call, decoded, losses at their place."""

    def keep_up(self) -> None:
        """Count what falls too far behind while nobody takes the records."""

    async def wait(self, timeout_s: float) -> Items:
        """Wait until there is more to read, for at most ``timeout_s``; return losses found then."""

    async def settle(self) -> None:
        """Have QEMU or the tracer hand over what it still holds, once the events are off."""

    def settled(self) -> bool:
        """Return whether all that was emitted before :meth:`settle` has been read."""

    def finish(self) -> Items:
        """Return the rest of an unfinished record; nothing is read after this."""

    async def close(self) -> None:
        """Close what was opened here; leased resources end with the lease."""


class Process(NamedTuple):
    """What detection looks at in a QEMU; None where it could not be looked at.

    ``image`` is the executable, ``elf`` its headers, ``links`` the names of its open files.
    """

    image: bytes | mmap | None = None
    elf: Elf | None = None
    links: Sequence[str] | None = None


class SignsPart(Protocol):
    """``signs``: whether a QEMU has the backend."""

    def in_process(self, process: Process) -> bool | None:
        """Return whether the process shows it; None if what shows it could not be looked at.

        Raises:
            ValueError, IndexError, struct.error: the executable is damaged; taken for None.
        """


class AskingPart(SignsPart, Protocol):
    """``signs`` of a backend that the human monitor knows: its answer wins over the process."""

    QUESTION: str
    """The line whose answer decides."""

    def in_answer(self, answer: str) -> bool:
        """Return whether the answer shows the backend."""


class FeedPart(Protocol):
    """``feed``: following a guest."""

    async def open_feed(self, request: FeedRequest) -> Feed:
        """Begin to follow.

        What that makes or moves outside this process is leased for the request's owner first.

        Raises:
            Unsupported: the guest cannot be followed through this backend; it is as it was.
        """


class UndoPart(Protocol):
    """``undo``: ending what ``feed`` leased, possibly years later and by another version.

    A resource has at least the facts of one set of ``NEEDS``.
    """

    NEEDS: tuple[frozenset[str], ...]

    async def end(self, resource: Resource, monitor: Monitor, guest: Guest | None) -> str:
        """Undo a resource of a running guest; return what could not be undone, else ''."""

    def discard(self, resource: Resource) -> None:
        """Remove what is left of a resource once its guest has ended."""


class ArgumentsPart(Protocol):
    """``arguments``: reading the arguments of recorded rows, kept as the backend wrote them."""

    def reader(self, table: EventTable, facts: Mapping[str, object]) -> ArgumentReader:
        """Return the reader for rows with ``facts``, those of ``ArgumentReader.stored``.

        Raises:
            ValueError, KeyError, TypeError: the facts make no sense.
        """
