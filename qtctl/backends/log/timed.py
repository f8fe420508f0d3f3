"""Following a guest's log with the kernel's times of its lines."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np

from qtctl.backends.base import Feed, FeedRequest, Site
from qtctl.backends.log.clock import KernelClock, open_clock
from qtctl.backends.log.ledger import Ledger
from qtctl.backends.spool.growing import GrowingFile
from qtctl.errors import Unsupported
from qtctl.records.batch import Batch
from qtctl.records.items import Items, Loss

_HELD_S = 0.001
_PATIENCE_S = 0.1
_PATIENCE_READS = 30
"""How long a record waits at least for its time, before it keeps the one at which it was read."""
_MOST_HELD = 8
"""How many items wait at most; a chunk of the log has 2 MiB."""
_RECHECK_S = 0.5
_LAST_READS = 20
_NEWLINE = ord("\n")


class FileFeed(Feed, Protocol):
    """A feed that reads a file."""

    file: GrowingFile


class _Held(NamedTuple):
    """An item that waits; ``place`` is the offset of a batch's data in the file, None: unknown.

    It waits for its time at least until ``due_s``, and ``due_reads`` reads.
    """

    item: Batch | Loss
    place: int | None
    due_s: float
    due_reads: int


class TimedFeed:
    """Gives the records of a log their times by a :class:`KernelClock`; they wait for it.

    ``every``: also records that have a time of QEMU's own get the kernel's.
    """

    def __init__(self, site: Site, feed: FileFeed, clock: KernelClock, *, every: bool) -> None:
        self._site = site
        self._feed = feed
        self._clock = clock
        self._every = every
        self._held: deque[_Held] = deque()
        self._read = self._late = 0
        self._reads = 0
        self._checked_s = time.monotonic()
        self._taken = feed.taken

    @property
    def source(self) -> str:
        """Where it reads, for the user."""
        return f"{self._feed.source}, with the kernel's times"

    @property
    def taken(self) -> int:
        """Bytes of the log up to the end of what was returned."""
        return self._taken if self._held else self._feed.taken

    def behind(self) -> int:
        """Bytes of the log that are written, and not returned yet."""
        return max(0, self._feed.taken - self.taken) + self._feed.behind()

    def read(self) -> Items:
        """Return records that have their times, those of one batch. Blocks shortly."""
        if not self._is_due():
            self._hold(self._feed.read())
            self._advance()
        return self._next()

    def keep_up(self) -> None:
        """Count lines that fall too far behind, and read what the kernel recorded."""
        self._feed.keep_up()
        self._advance()

    async def wait(self, timeout_s: float) -> Items:
        """Wait for more, for at most ``timeout_s``; follow a log that was moved."""
        if self._held:
            await asyncio.sleep(min(timeout_s, _HELD_S))
            return []
        file = self._feed.file
        self._hold(await self._feed.wait(timeout_s), known=False)
        if self._feed.file is not file:
            self._clock.ledger.restart()
            await asyncio.to_thread(self._watch)
        return []

    async def settle(self) -> None:
        """Note where the log ends."""
        await self._feed.settle()

    def settled(self) -> bool:
        """Return whether the log has been read to that end, and all of it was returned."""
        return self._feed.settled() and not self._held

    def finish(self) -> Items:
        """Return the rest."""
        self._hold(self._feed.finish())
        for _ in range(_LAST_READS):
            self._advance()
            if self._is_due(whole=True):
                break
            time.sleep(_HELD_S)
        self._taken = self._feed.taken
        rest = [self._timed(one) for one in self._held]
        self._held.clear()
        if self._late:
            self._site.notices.append(
                f"{self._late} of {self._read} records have the time at which qtctl read them: "
                "nothing proves which times of the kernel are theirs"
            )
        return rest

    async def close(self) -> None:
        """Close the log and the kernel's buffers."""
        self._clock.close()
        await self._feed.close()

    def _hold(self, items: Items, *, known: bool = True) -> None:
        """Have items wait; ``known``: the data of those behind the last loss ends at ``taken``."""
        due = time.monotonic() + _PATIENCE_S, self._reads + _PATIENCE_READS
        known_from = len(items)
        if known:
            lost = [place for place, item in enumerate(items) if isinstance(item, Loss)]
            known_from = lost[-1] + 1 if lost else 0
            if any(isinstance(item, Loss) and item.count is None for item in items):
                self._clock.ledger.restart()
        for number, item in enumerate(items):
            place = None
            if isinstance(item, Batch) and number >= known_from and self._lacks_times(item):
                place = self._feed.taken - len(item.data)
            self._held.append(_Held(item, place, *due))

    def _lacks_times(self, batch: Batch) -> bool:
        """Return whether records of a batch are to get the kernel's times."""
        return self._every or bool((batch.arrived & (batch.event >= 0)).any())

    def _advance(self) -> None:
        """Read what the kernel recorded; see to it that it records the writes to the log."""
        self._reads += 1
        proven = self._clock.read(self._feed.file)
        now_s = time.monotonic()
        if proven:
            self._checked_s = now_s
        elif now_s - self._checked_s >= _RECHECK_S:
            self._checked_s = now_s
            self._watch()

    def _watch(self) -> None:
        with contextlib.suppress(OSError):  # the guest has ended
            if self._clock.watch(self._feed.file.inode()):
                self._clock.ledger.restart()

    def _is_due(self, *, whole: bool = False) -> bool:
        """Return whether what waits longest, or all (``whole``) need not wait any more."""
        if not self._held:
            return whole
        item, place, due_s, due_reads = self._held[-1 if whole else 0]
        if place is None or isinstance(item, Loss):
            return True
        if len(self._held) > _MOST_HELD or (self._reads >= due_reads and time.monotonic() >= due_s):
            return True
        return place + int(item.stop[-1]) < self._clock.ledger.proven

    def _next(self) -> Items:
        """Return the next batch with its times, and the losses before it."""
        out: Items = []
        while self._held and self._is_due():
            one = self._held.popleft()
            out.append(self._timed(one))
            if one.place is not None and isinstance(one.item, Batch):
                self._taken = one.place + len(one.item.data)
                self._clock.ledger.pass_by(one.place + int(one.item.start[-1]))
                break
        return out

    def _timed(self, held: _Held) -> Batch | Loss:
        item = held.item
        if isinstance(item, Loss):
            return item
        if held.place is not None:
            item = with_times(item, held.place, self._clock.ledger, every=self._every)
        records = item.event >= 0
        self._read += int(np.count_nonzero(records))
        self._late += int(np.count_nonzero(records & item.arrived))
        return item


def with_times(batch: Batch, place: int, ledger: Ledger, *, every: bool = False) -> Batch:
    """Return a batch with the times and threads of the writes that wrote its lines.

    ``place`` is where its data lies in the log. A record gets a time only if a write, or several of
    one thread, begins and ends with it, or with lines that end one; other lines that of the
    write of their first byte. ``every``: also where the batch has times of QEMU's own.
    """
    begin, end = place + batch.start, place + batch.stop + 1
    index, exact, stop = ledger.lookup(begin, end)
    last = np.clip(stop - 1 - place, 0, len(batch.data) - 1)
    is_line = np.frombuffer(batch.data, np.uint8)[last] == _NEWLINE
    is_line &= stop - place <= len(batch.data)
    found = (index >= 0) & ((exact & is_line) | (batch.event < 0))
    if not every:
        found &= batch.arrived
    if not found.any():
        return batch
    time_ns = batch.time_ns.copy()
    tid = batch.tid.copy()
    time_ns[found] = ledger.writes.unix_ns[index[found]]
    tid[found] = ledger.writes.tid[index[found]]
    return replace(batch, time_ns=time_ns, tid=tid, arrived=batch.arrived & ~found)


async def timed(request: FeedRequest, feed: FileFeed, *, stamped: bool) -> Feed:
    """Return a feed of a log with the kernel's times, if the request wants them.

    ``stamped``: QEMU stamps its log itself; then only ``kernel`` does, not ``auto``.

    Raises:
        Unsupported: they are demanded, and cannot be had; ``feed`` is closed.
    """
    if request.clock == "arrival" or (request.clock == "auto" and stamped):
        return feed
    try:
        clock = await open_clock(request.site, request.owner, feed.file)
    except Unsupported as error:
        if request.clock == "kernel":
            await feed.close()
            raise
        request.site.notices.append(
            f"records get the time at which qtctl reads them: {error.message} ({error.hint})"
        )
        return feed
    except BaseException:
        await feed.close()
        raise
    return TimedFeed(request.site, feed, clock, every=request.clock == "kernel")
