"""The kernel's own events beside what a guest emits: an instance of their own, merged by time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from qtctl.backends.base import Clocks, Feed, FeedRequest
from qtctl.backends.ftrace.arguments import KernelArguments
from qtctl.backends.ftrace.events import KernelEvent
from qtctl.backends.ring import instance as ring
from qtctl.backends.ring import tracefs
from qtctl.backends.ring.decoder import RingDecoder
from qtctl.backends.ring.feed import RingFeed
from qtctl.backends.ring.layout import Layout
from qtctl.backends.ring.pages import RingRows
from qtctl.backends.ring.reader import RingReader
from qtctl.backends.splitting import as_batch
from qtctl.backends.table import TABLE
from qtctl.errors import Unsupported
from qtctl.model import Backend
from qtctl.records.batch import Batch, joined
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.event_table import EventTable
from qtctl.records.items import Items, Loss
from qtctl.records.rows_by_time import Row, divide

_BEGIN = -(1 << 62)
"""Before all times."""
_STAMPS_NS = {Backend.LOG: 1_000, Backend.SYSLOG: 1_000_000_000}
"""How coarse times are; those of other backends are nanoseconds of the kernel's own clock."""
_ARRIVED = (
    "QEMU's records have no times, but those at which qtctl read them: where they stand among the "
    "kernel's events is not exact, and no latency is measured between the two; "
    "--clock auto has the kernel tell their times, or start QEMU with -msg timestamp=on"
)


class KernelDecoder(RingDecoder):
    """Decodes kernel events of one processor's pages; ``events`` are by name, all in ``table``."""

    def __init__(
        self, table: EventTable, layout: Layout, events: Mapping[str, KernelEvent], pid: int
    ) -> None:
        super().__init__(layout, Backend.FTRACE)
        self._table = table
        self._pid = pid
        self._reader = KernelArguments(table, {name: one.places for name, one in events.items()})
        self._numbers = np.full(1 << 16, -1, np.int32)
        for name, one in events.items():
            self._numbers[one.number] = table.indices[name]

    def _batch(self, rows: RingRows, clocks: Clocks) -> tuple[Batch, BoolArray, Int64Array]:
        event = np.where(rows.kind >= 0, self._numbers[rows.kind], -1)
        columns = (event, rows.time_ns, rows.tid, rows.start, rows.start, rows.stop)
        whole = as_batch(
            self._table,
            rows.data,
            columns,
            clocks,
            Backend.FTRACE,
            pid=self._pid,
            reader=self._reader,
        )
        return whole, event >= 0, np.zeros(len(event), np.int64)


async def open_kernel(request: FeedRequest, events: Mapping[str, KernelEvent]) -> RingFeed:
    """Make an instance with kernel events of the guest's threads, also future ones; read it.

    Raises:
        Unsupported: tracefs cannot be reached, or the kernel refuses.
    """
    guest = ring.seen_guest(request.site)
    root = await ring.find("the kernel's events are read")
    folder = await ring.lease(request.site, request.owner, root, "-kernel")
    reader = await asyncio.to_thread(open_reader, request.table, folder, guest.pid, events)
    return RingFeed(reader, f"the tracefs instance {folder.name}", Backend.FTRACE)


def open_reader(
    table: EventTable, folder: Path, pid: int, events: Mapping[str, KernelEvent]
) -> RingReader:
    """Make the instance and read it; the events are on then.

    Raises:
        Unsupported: the kernel refuses; what was made is removed again.
    """
    with tracefs.making(folder, tracefs.per_cpu_kib()):
        tracefs.watch_threads(folder, pid)
        mark = tracefs.read_format(folder, next(iter(events)))
        try:
            layout = tracefs.read_layout(folder, mark)
        except ValueError as error:
            raise Unsupported(f"the kernel's trace cannot be read: {error}") from error
        reader = RingReader(
            folder, layout.page_bytes, lambda: KernelDecoder(table, layout, events, pid)
        )
        ring.close_at_end(reader)
        try:
            for name in events:
                tracefs.write(folder / "events" / name.replace(":", "/", 1) / "enable", "1")
            tracefs.write(folder / "tracing_on", "1")
        except OSError:
            reader.close()
            raise
    return reader


class _Notices(Protocol):
    """What a feed can tell the user."""

    @property
    def notices(self) -> list[str]:
        """Sentences that were not shown yet."""


def _arrived(batch: Batch) -> bool:
    """Return whether events of a batch have the time at which they were read."""
    return bool((batch.arrived & (batch.event >= 0)).any())


class _Timed:
    """Items of the guest that were read and are to come; each row has a time that does not fall."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.last_ns = _BEGIN

    def add(self, items: Items) -> None:
        for item in items:
            times = np.full(1, self.last_ns)
            if isinstance(item, Batch):
                stamped = item.time_ns
                if not _arrived(item):  # a line of text without a time stands where it was written
                    stamped = np.where(item.arrived, _BEGIN, stamped)
                times = np.maximum(np.maximum.accumulate(stamped), self.last_ns)
                self.last_ns = int(times[-1])
            self.rows.append(Row(item, times))

    def take(self, before_ns: int | None) -> list[tuple[Batch | Loss, Int64Array]]:
        """Return what is older than a time, or all."""
        taken, self.rows = divide(self.rows, None if before_ns is None else before_ns - 1)
        return cast(list[tuple[Batch | Loss, Int64Array]], taken)  # nothing else was added


class BesideFeed:
    """A guest's feed with the kernel's events between its records, all by their times.

    A record is held back until none that is older can come.
    """

    def __init__(self, feed: Feed, kernel: RingFeed, backend: Backend, site: _Notices) -> None:
        self._feed = feed
        self._kernel = kernel
        self._site = site
        self._late_ns = round(TABLE[backend].late_s * 1e9)
        self._late_s = TABLE[backend].late_s
        self._backend = backend
        self._guests, self._events = _Timed(), _Timed()
        self._told = False

    @property
    def source(self) -> str:
        """Where it reads, for the user."""
        return f"{self._feed.source}, {self._kernel.source}"

    @property
    def taken(self) -> int:
        """Bytes read of the guest's own records."""
        return self._feed.taken

    def behind(self) -> int:
        """Return how many bytes of them wait to be read."""
        return self._feed.behind()

    def read(self) -> Items:
        """Return what came since the last call, and can be followed by nothing that is older."""
        before_ns = time.time_ns()
        items = self._feed.read()
        behind = self._feed.behind() > 0
        self._guests.add(items)
        self._events.add(self._kernel.read())
        self._tell_clocks(items)
        if any(isinstance(item, Batch) and _arrived(item) for item in items):
            return self._merged(None)
        until_ns = before_ns - self._late_ns
        if behind:  # what comes is not older than what came
            until_ns = min(until_ns, self._guests.last_ns)
        until_ns = min(until_ns, self._kernel.reader.until_ns or until_ns)
        return self._merged(until_ns)

    def _tell_clocks(self, items: Items) -> None:
        """Report once how well the times of both compare."""
        events = [item for item in items if isinstance(item, Batch) and (item.event >= 0).any()]
        if self._told or not events:
            return
        self._told = True
        if _arrived(events[0]):
            self._site.notices.append(_ARRIVED)
            return
        error_us = (self._kernel.error_ns + _STAMPS_NS.get(self._backend, 0)) / 1000
        self._site.notices.append(
            f"the times of kernel events and of QEMU's records in {self._backend} compare to "
            f"within {error_us:,.1f} us"
        )

    def _merged(self, until_ns: int | None) -> Items:
        out: Items = []
        for item, times in self._guests.take(until_ns):
            if isinstance(item, Loss):
                out += [one for one, _ in self._events.take(int(times[0]))]
                out.append(item)
            else:
                out += self._mixed(item, times)
        return out + [one for one, _ in self._events.take(until_ns)]

    def _mixed(self, guest: Batch, times: Int64Array) -> Items:
        """Return a batch of the guest with the kernel's events that are older than its last row."""
        out: Items = []
        at = 0
        for item, own in self._events.take(int(times[-1])):
            count = int(np.searchsorted(times, own[-1]))
            part = guest.select(slice(at, count))
            if isinstance(item, Loss):
                out += [part] if count > at else []
                out.append(item)
            elif count > at:
                out.append(self._woven(part, times[at:count], item, own))
            else:
                out.append(item)
            at = max(at, count)
        return [*out, guest.select(slice(at, None)) if at else guest]

    def _woven(self, guest: Batch, times: Int64Array, kernel: Batch, own: Int64Array) -> Batch:
        """Return the rows of both as one batch, by their times."""
        assert isinstance(kernel.reader, KernelArguments)
        reader = kernel.reader.beside(guest.reader)
        both = joined(
            [replace(guest, reader=reader), replace(kernel, reader=reader, backend=guest.backend)]
        )
        return both.select(np.argsort(np.concatenate((times, own)), kind="stable"))

    def keep_up(self) -> None:
        """Count what falls too far behind."""
        self._feed.keep_up()

    async def wait(self, timeout_s: float) -> Items:
        """Wait until there is more to read, for at most ``timeout_s``."""
        if self._guests.rows or self._events.rows:
            timeout_s = min(timeout_s, max(self._late_s, 0.001))
        waits = [asyncio.ensure_future(feed.wait(timeout_s)) for feed in (self._feed, self._kernel)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            found = [item for one in waits if one.done() for item in one.result()]
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        self._guests.add(found)
        return []

    async def settle(self) -> None:
        """Have all handed over that was emitted."""
        await self._feed.settle()
        await self._kernel.settle()

    def settled(self) -> bool:
        """Return whether all that was emitted before :meth:`settle` has been read."""
        return self._feed.settled() and self._kernel.settled()

    def finish(self) -> Items:
        """Return the rest, and what was held back."""
        self._guests.add(self._feed.finish())
        self._events.add(self._kernel.finish())
        return self._merged(None)

    async def close(self) -> None:
        """Close both."""
        await self._kernel.close()
        await self._feed.close()
