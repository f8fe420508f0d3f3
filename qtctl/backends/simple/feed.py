"""Following a guest through the simple backend: find or redirect the trace file and read it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Sequence

from qtctl.backends.base import Clocks, FeedRequest, Site
from qtctl.backends.log.target import has_inode, owner_of
from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.backends.simple.forms import NATIVE, form_of
from qtctl.backends.simple.target import (
    TraceFile,
    TraceReach,
    find_file,
    flush,
    read_status,
    redirect,
    refusal,
)
from qtctl.backends.spool.growing import (
    BUSY_LAG_BYTES,
    HEAD_BYTES,
    KEEP_BEHIND_BYTES,
    MAX_LAG_BYTES,
    GrowingRecords,
    Skipped,
)
from qtctl.backends.spool.leased import leased_spool, shared_spool
from qtctl.backends.spool.spool import Spool
from qtctl.backends.unix_time import UnixOffset
from qtctl.errors import LinkLost, OutcomeUnknown, QtctlError, Unsupported
from qtctl.model import Backend, Clock, Guest
from qtctl.monitor.advice import run_beside
from qtctl.monitor.client import Monitor
from qtctl.records.batch import Batch
from qtctl.records.items import Items, Loss

KIND = "simple"
BUSY_TICK_S = 0.05
IDLE_TICK_S = 0.2
"""How often QEMU is asked to flush its buffer, while records come and while none do."""
_FLOWING_BYTES = 64 << 10
"""QEMU flushes unasked once its buffer holds this much (``TRACE_BUF_FLUSH_THRESHOLD``)."""
_RECHECK_S = 2.0
_PLACING_NS = 1_000_000_000
"""How long the records before a loss may take to come after it was noted."""
_QUIET_S = 0.03
_QUIET_TURNS = 16


class SimpleFeed:
    """Follows one guest's trace file; :func:`open_feed` makes it."""

    def __init__(
        self, site: Site, file: GrowingRecords, decoder: SimpleDecoder, source: str, *, spool: bool
    ) -> None:
        self.source = source
        self.taken = 0
        self._site = site
        self._file = file
        self._decoder = decoder
        self._spool = spool
        self._end = 0
        self._waiting: Items = []
        self._offset = UnixOffset()
        self._flusher = _Flusher(site.monitor)
        self._checked = time.monotonic()
        self._reported: set[str] = set()

    def behind(self) -> int:
        """Bytes of the trace file that are written and not read."""
        return self._file.behind()

    def read(self) -> Items:
        """Decode the bytes since the last call. Blocks shortly: call it in a thread."""
        out, self._waiting = self._waiting, []
        if self._spool and self._file.behind() > MAX_LAG_BYTES:
            out += self._count()
        return out + self._pass(self._decoder.feed)

    def keep_up(self) -> None:
        """Count records that fall too far behind. Blocks shortly: call it in a thread."""
        if self._spool and self._file.behind() > BUSY_LAG_BYTES:
            self._waiting += self._count()

    def _count(self) -> Items:
        """Count the events that are too far behind instead of decoding them."""
        out: Items = []
        counted = 0
        before = -1
        while self._file.behind() > KEEP_BEHIND_BYTES and self.taken != before:
            before = self.taken
            for loss in self._pass(self._decoder.skip):
                assert isinstance(loss, Loss)
                counted += loss.count or 0
                if loss.count is None:
                    out.append(loss)
        return [*out, Loss(Backend.SIMPLE, counted, time.time_ns())] if counted else out

    def _pass(self, decode: Callable[[bytes, Clocks], Sequence[Batch | Loss]]) -> Items:
        """Read once and pass the bytes to ``decode``."""
        out: Items = []
        for item in self._file.read():
            if isinstance(item, Skipped):
                self._decoder.restart(self._file.offset)
                out.append(Loss(Backend.SIMPLE, None, time.time_ns()))
            else:
                self.taken += len(item)
                out += decode(item, self._clocks())
        return out

    def _clocks(self) -> Clocks:
        return Clocks(time.time_ns(), self._offset.ns())

    async def pass_over_old(self) -> None:
        """Skip the records that QEMU kept or dropped while its file was off."""
        end = 0
        for _ in range(_QUIET_TURNS):  # QEMU writes it in another thread
            await asyncio.sleep(_QUIET_S)
            before, end = end, self._file.offset + self._file.behind()
            if end == before:
                break
        while self._file.offset < end:
            before = self._file.offset
            await asyncio.to_thread(self._pass, self._decoder.feed)
            if self._file.offset == before:
                break
        self._decoder.release(self._clocks())

    def finish(self) -> Items:
        """Return the rest of an unfinished record of a guest that has ended."""
        out, self._waiting = self._waiting, []
        clocks = self._clocks()
        if self._site.guest_ended():
            return out + self._decoder.flush(clocks)
        return [*out, *self._decoder.release(clocks)]

    async def settle(self) -> None:
        """Have QEMU flush its buffer, and note where the file ends."""
        with contextlib.suppress(QtctlError):
            await self._flusher.close()
            await flush(self._site.monitor)
        self._end = self._file.offset + self._file.behind()

    def settled(self) -> bool:
        """Return whether the file has been read to that end."""
        return self._file.offset >= self._end

    async def wait(self, timeout_s: float) -> Items:
        """Wait for more, for at most ``timeout_s``; have QEMU flush; follow a moved file.

        Losses after which the guest has been quiet are returned.
        """
        pause_s = self._flusher.tick(self._file.offset + self._file.behind())
        await self._file.wait(min(timeout_s, pause_s))
        found: Items = []
        if not self._file.behind() and time.monotonic() - self._checked > _RECHECK_S:
            self._checked = time.monotonic()
            with contextlib.suppress(OutcomeUnknown, LinkLost):  # the stream sees to the link
                found = await self._check()
        if not self._file.behind():
            clocks = self._clocks()
            found += self._decoder.release(clocks, clocks.now_ns - _PLACING_NS)
        return found

    async def _check(self) -> Items:
        """Check that the guest still writes to the file that is read, and can."""
        guest = self._site.guest
        if guest is None:
            return []
        if has_inode(guest.pid, self._file.inode()):
            full = "the disk of the trace file is full: QEMU loses records without a word"
            if self._file.is_full(root=guest.uid == 0) and self._report(full):
                return [Loss(Backend.SIMPLE, None, time.time_ns())]
            return []
        found = find_file(guest, await read_status(self._site.monitor))
        if self._file.behind():
            return []
        if found.reach is TraceReach.OFF:
            self._report("somebody switched the trace file off: nothing comes until it is on again")
        elif found.reach is TraceReach.FILE:
            with contextlib.suppress(OSError):
                file = GrowingRecords(f"/proc/{guest.pid}/fd/{found.fd}", offset=0)
                self._file.close()
                # QEMU flushed its buffer to the old file: all of the new one is new.
                self._file, self._spool, self.source = file, False, found.name
                self._decoder.restart(0)
                self._report(f"the trace moved to {found.name}")
        return []

    def _report(self, text: str) -> bool:
        """Report a sentence once; return whether this was the first time."""
        new = text not in self._reported
        if new:
            self._reported.add(text)
            self._site.notices.append(text)
        return new

    async def close(self) -> None:
        """Close the file; where the trace goes is not changed here."""
        await self._flusher.close()
        self._file.close()


class _Flusher:
    """Has QEMU flush its buffer, as often as the load calls for."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._task: asyncio.Future[None] | None = None
        self._due = 0.0
        self._size = 0
        self._pause_s = IDLE_TICK_S

    def tick(self, size: int) -> float:
        """Flush if it is time, given the file's size now; return how long to wait at most, in s."""
        now = time.monotonic()
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            # A stopped guest answers later; a lost link is reported by the stream.
            with contextlib.suppress(OutcomeUnknown, LinkLost):
                task.result()
        if now >= self._due:
            grown = size - self._size
            self._size = size
            self._pause_s = BUSY_TICK_S if grown else min(self._pause_s * 1.5, IDLE_TICK_S)
            self._due = now + self._pause_s
            if grown < _FLOWING_BYTES and self._task is None:
                self._task = asyncio.ensure_future(flush(self._monitor))
        return max(0.0, self._due - now)

    async def close(self) -> None:
        """Wait for a flush that was begun: its command must not be cut off."""
        task, self._task = self._task, None
        if task is not None:
            with contextlib.suppress(QtctlError):
                await task


async def open_feed(request: FeedRequest) -> SimpleFeed:
    """Start reading the guest's trace file from its present end, or a spool if there is none.

    A redirection is in the journal, under the owner, before QEMU is asked.

    Raises:
        Unsupported: the trace can neither be read nor redirected; it is as it was.
    """
    site = request.site
    guest = site.guest
    if guest is None:
        raise Unsupported(
            "the trace file of this guest cannot be read: its process cannot be seen from here",
            hint=run_beside(None),
        )
    found = find_file(guest, await read_status(site.monitor))
    decoder = SimpleDecoder(request.table, clock=Clock.REALTIME, pid=guest.pid)
    if found.reach is TraceReach.FILE:
        return await _follow(request, guest, found, decoder)
    if found.reach not in (TraceReach.OFF, TraceReach.NULL):
        raise refusal(found, guest)
    return await _redirected(request, guest, found, decoder)


async def _follow(
    request: FeedRequest, guest: Guest, found: TraceFile, decoder: SimpleDecoder
) -> SimpleFeed:
    """Read the file in use from its end; its begin holds the names of the events."""
    site = request.site
    await flush(site.monitor)
    try:
        file = GrowingRecords(f"/proc/{guest.pid}/fd/{found.fd}")
    except OSError as error:
        raise Unsupported(
            f"the trace file {found.name} of guest {guest.pid} cannot be read: {error.strerror}",
            hint=run_beside(guest, owner_of(guest.pid, found.fd)),
        ) from error
    source, is_spool = found.name, False
    try:
        shared = await shared_spool(site, request.owner, KIND, file.inode())
        if shared is not None:
            end = file.offset
            file.close()
            file = GrowingRecords(shared, offset=end, spool=True)
            source, is_spool = "the spool of another qtctl", True
        head = await asyncio.to_thread(file.head)
        if form_of(head, found.name) != NATIVE:
            raise Unsupported(
                f"the trace file {found.name} is of an old format: it can be read, not followed",
                hint=f"qtctl replay {found.name} --events-all FILE",
            )
        decoder.preload(head, file.offset)
    except (QtctlError, OSError):
        file.close()
        raise
    return SimpleFeed(site, file, decoder, source, spool=is_spool)


async def _redirected(
    request: FeedRequest, guest: Guest, found: TraceFile, decoder: SimpleDecoder
) -> SimpleFeed:
    site = request.site

    def facts(planned: Spool) -> dict[str, str]:
        on = "yes" if found.reach is TraceReach.NULL else "no"
        return {"undo": found.name, "on": on, "seen": planned.seen}

    point = functools.partial(redirect, site.monitor, guest, found)
    spool = await leased_spool(site, guest, request.owner, KIND, facts, point, head=HEAD_BYTES)
    file = GrowingRecords(spool.path, offset=0, spool=True)
    was = "was off" if found.reach is TraceReach.OFF else f"was {found.name}"
    feed = SimpleFeed(site, file, decoder, f"a spool (the trace file {was})", spool=True)
    try:
        await flush(site.monitor)
        await feed.pass_over_old()
    except (QtctlError, OSError):
        file.close()
        raise
    return feed
