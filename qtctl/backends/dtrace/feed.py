"""Following a guest through the dtrace backend: uprobes on the probes of the picked events."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Sequence

from qtctl.backends.base import FeedRequest
from qtctl.backends.dtrace import uprobes
from qtctl.backends.dtrace.decoder import ProbeDecoder
from qtctl.backends.dtrace.undo import Keeper
from qtctl.backends.dtrace.uprobes import Traced
from qtctl.backends.ring import instance as ring
from qtctl.backends.ring import tracefs
from qtctl.backends.ring.feed import RingFeed
from qtctl.backends.ring.reader import RingReader
from qtctl.errors import Unsupported
from qtctl.leases.journal import Resource
from qtctl.model import Backend
from qtctl.records.items import Items, Loss

KIND = "uprobes"
_NAMES = 5


class DtraceFeed(RingFeed):
    """Follows one guest's probes; :func:`open_feed` makes it.

    ``hits`` returns how often the kernel came to them, None if that cannot be known.
    """

    def __init__(
        self, keeper: Keeper, reader: RingReader, probes: int, hits: Callable[[], int | None]
    ) -> None:
        super().__init__(reader, f"{probes} USDT probe{'s' * (probes != 1)}", Backend.DTRACE)
        self._keeper = keeper
        self._count_hits = hits
        self._hits: int | None = None
        self._accounted = 0

    async def settle(self) -> None:
        """Stop recording; what is in the buffers can still be read."""
        with contextlib.suppress(OSError):  # somebody else removed what is in tracefs
            self._hits = await asyncio.to_thread(self._count_hits)
        await super().settle()

    def dropped(self) -> int:
        """Return how many records the kernel dropped without a mark.

        It also drops a record whose texts have more than about 4,000 bytes, and counts the hit.
        """
        known = super().dropped()
        return known if self._hits is None else max(known, self._hits - self._accounted)

    def _account(self, items: Items) -> Items:
        """Count records and losses; return them."""
        for item in items:
            count = item.count if isinstance(item, Loss) else len(item)
            if count is None:
                self._count_hits, self._hits = _unknown, None
            else:
                self._accounted += count
        return items

    async def close(self) -> None:
        """Stop recording; the keeper removes the probes, which takes the kernel a while."""
        self._keeper.end()


def _unknown() -> None:
    return None


async def open_feed(request: FeedRequest) -> DtraceFeed:
    """Enable uprobes on the picked events' probes, in an instance that is journalled before.

    Raises:
        Unsupported: the guest is not on this machine, none of the events is a probe, or the kernel
            refuses.
    """
    guest = ring.seen_guest(request.site)
    root = await ring.find("USDT probes are read")
    # By this path the file is found in a container, and also once it was deleted or replaced.
    binary = f"/proc/{guest.pid}/exe"
    chosen = await asyncio.to_thread(_plan, request, guest.pid, binary)
    group = "_".join(map(str, ("qtctl", *request.owner)))
    instance = root / "instances" / group
    facts = {"instance": str(instance), "group": group}
    await request.site.leasing.hold(request.owner, Resource(KIND, facts))
    try:
        keeper = await asyncio.to_thread(Keeper, instance, group)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unsupported(f"cannot start what removes the probes again: {error}") from error
    try:
        return await asyncio.to_thread(_open, request, guest.pid, binary, chosen, keeper, group)
    except BaseException:
        keeper.end()
        raise


def _open(
    request: FeedRequest,
    pid: int,
    binary: str,
    probes: Sequence[Traced],
    keeper: Keeper,
    group: str,
) -> DtraceFeed:
    """Make the instance, define the uprobes and enable them."""
    instance = keeper.instance
    root = instance.parent.parent
    places = uprobes.addresses(pid, binary, [probe.offset for probe in probes])
    uprobes.make_instance(instance, pid)
    uprobes.define(root, group, binary, probes)
    try:
        known = uprobes.formats(instance, group, probes)
        layout = tracefs.read_layout(instance, next(iter(known.values())))
        sites = uprobes.sites_of(probes, group, known, places)
        reader = RingReader(
            instance,
            layout.page_bytes,
            lambda: ProbeDecoder(request.table, layout, sites, pid=pid),
        )
        keeper.reader = reader
        alone = uprobes.is_alone(pid, binary)

        def hits() -> int | None:
            still = alone and uprobes.is_alone(pid, binary)
            return uprobes.hits(root, group) if still else None

        feed = DtraceFeed(keeper, reader, len(probes), hits)
        tracefs.write(instance / "events" / group / "enable", "1")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Unsupported(
            f"the kernel's USDT probes cannot be followed: {why}", hint=uprobes.HINT
        ) from error
    return feed


def _plan(request: FeedRequest, pid: int, binary: str) -> list[Traced]:
    """Choose the probes; report by name the picked events that are not followed."""
    wanted = {name: request.table.indices[name] for name in request.picked}
    chosen: list[Traced] = []
    absent = dict.fromkeys(wanted)
    refused: dict[str, None] = {}
    for probe in uprobes.probes_of(binary):
        if probe.name not in wanted:
            continue
        index = wanted[probe.name]
        one = uprobes.traced(index, probe, request.table.declaration(index))
        absent.pop(probe.name, None)
        if one is None:
            refused[probe.name] = None
        else:
            chosen.append(one)
    # An event that happens in several places is followed in all or not at all.
    skipped = {wanted[name] for name in refused}
    chosen = [one for one in chosen if one.number not in skipped]
    missing = [*absent, *refused]
    if not chosen:
        raise Unsupported(
            f"guest {pid} has no USDT probe that can be followed for {_some(missing)}",
            hint=uprobes.HINT,
        )
    if missing:
        request.site.notices.append(
            f"not followed, as they are no USDT probe that can be read: {_some(missing)}"
        )
    return chosen


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES])
    more = len(names) - _NAMES
    return f"{shown} and {more} more" if more > 0 else shown
