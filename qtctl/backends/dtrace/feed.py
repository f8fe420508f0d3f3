"""Following a guest through the dtrace backend: uprobes on the probes of the picked events."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Callable, Sequence

from qtctl.backends.base import FeedRequest
from qtctl.backends.child_pipe import wait_readable
from qtctl.backends.dtrace import uprobes
from qtctl.backends.dtrace.decoder import ProbeDecoder
from qtctl.backends.dtrace.undo import Keeper
from qtctl.backends.dtrace.uprobes import Traced
from qtctl.backends.ring import tracefs
from qtctl.backends.ring.reader import RingReader
from qtctl.backends.unix_time import UnixOffset
from qtctl.errors import Unsupported
from qtctl.leases.journal import Resource
from qtctl.model import Backend
from qtctl.records.items import Items, Loss

KIND = "uprobes"
_NAMES = 5
_HELD_S = 0.001


class DtraceFeed:
    """Follows one guest's probes; :func:`open_feed` makes it.

    ``hits`` returns how often the kernel came to them, None if that cannot be known.
    """

    def __init__(
        self, keeper: Keeper, reader: RingReader, probes: int, hits: Callable[[], int | None]
    ) -> None:
        self.source = f"{probes} USDT probe{'s' * (probes != 1)}"
        self._keeper = keeper
        self._reader = reader
        self._count_hits = hits
        self._hits: int | None = None
        self._accounted = 0
        self._offset = UnixOffset()
        self._settling = self._settled = False
        self._behind = 0

    @property
    def taken(self) -> int:
        """Bytes read so far."""
        return self._reader.taken

    def behind(self) -> int:
        """Return how many bytes waited when :meth:`keep_up` looked."""
        return self._behind

    def read(self) -> Items:
        """Decode what came since the last call."""
        settling = self._settling
        items = self._account(self._reader.read(self._offset.ns()))
        self._behind = 0
        self._settled = settling and self._reader.dry
        return items

    def keep_up(self) -> None:
        """Measure how much waits; the kernel counts what it overwrites."""
        (self._behind,) = tracefs.stats(self._keeper.instance, "bytes")

    async def wait(self, timeout_s: float) -> Items:
        """Wait until the kernel has a record, for at most ``timeout_s``."""
        if self._reader.holds:
            timeout_s = min(timeout_s, _HELD_S)
        if self._reader.dry:
            await wait_readable(self._reader.fileno(), timeout_s)
        return []

    async def settle(self) -> None:
        """Stop recording; what is in the buffers can still be read."""
        with contextlib.suppress(OSError):  # somebody else removed what is in tracefs
            self._hits = await asyncio.to_thread(self._count_hits)
            tracefs.write(self._keeper.instance / "tracing_on", "0")
        self._settling = True

    def settled(self) -> bool:
        """Return whether the buffers have been read empty since."""
        return self._settled

    def finish(self) -> Items:
        """Return what was held back, and what the kernel dropped without a mark.

        It drops a record whose texts have more than about 4,000 bytes, and counts the hit.
        """
        items = self._account(self._reader.rest(self._offset.ns()))
        dropped = sum(tracefs.stats(self._keeper.instance, "commit overrun", "dropped events"))
        if self._hits is not None:
            dropped = max(dropped, self._hits - self._accounted)
        if dropped > 0:
            items.append(Loss(Backend.DTRACE, dropped, time.time_ns()))
        return items

    def _account(self, items: Items) -> Items:
        """Count records and losses; return them."""
        for item in items:
            count = item.count if isinstance(item, Loss) else len(item)
            if count is None:
                self._count_hits = _unknown
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
    guest = request.site.guest
    if guest is None:
        raise Unsupported(
            f"the process behind {request.site.where} is not on this machine",
            hint="run qtctl where QEMU runs",
        )
    root = await asyncio.to_thread(tracefs.find_tracefs, "USDT probes are read", "")
    tracefs.check_namespace()
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
        layout = uprobes.layout_of(instance, next(iter(known.values())))
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
