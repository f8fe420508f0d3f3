"""Following a guest through the log backend: find or redirect the log, read and decode it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from dataclasses import replace

from qtctl.backends.arrival import CHECK_EVENT, fire
from qtctl.backends.base import Clocks, Feed, FeedRequest, Site
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.log.target import (
    LogReach,
    LogTarget,
    has_inode,
    may_be_older,
    owner_of,
    redirect,
    refusal,
)
from qtctl.backends.log.timed import timed
from qtctl.backends.splitting import SPAN_S
from qtctl.backends.spool.growing import GrowingFile, Skipped
from qtctl.backends.spool.leased import leased_spool, shared_spool
from qtctl.errors import Unsupported
from qtctl.model import Backend
from qtctl.monitor.advice import run_beside
from qtctl.monitor.cmdline import parse_cmdline
from qtctl.records.items import Items, Loss

KIND = "log"
_RECHECK_S = 2.0
_LOOK_BYTES = 1 << 24


class LogFeed:
    """Follows the log of one guest; :func:`open_feed` makes it."""

    def __init__(self, site: Site, file: GrowingFile, decoder: LogDecoder, source: str) -> None:
        self.source = source
        self.file = file
        self._site = site
        self._end = 0
        self._decoder = decoder
        self._checked = self._looked = self._came = time.monotonic()
        self._began_ns = time.time_ns()
        self._full = self._full_reported = self._log_unknown = False

    def read(self) -> Items:
        """Decode the bytes since the last call. Blocks shortly: call it in a thread."""
        out: Items = self._look_for_room()
        items = self.file.read()
        if items:
            self._came = time.monotonic()
        elif self._decoder.holds and time.monotonic() - self._came >= SPAN_S:
            return out + self._decoder.release(Clocks(time.time_ns()))
        for item in items:
            clocks = Clocks(time.time_ns())
            if isinstance(item, Skipped):
                out += self._decoder.flush(clocks)
                out.append(Loss(Backend.LOG, item.lines, clocks.now_ns))
            else:
                out += self._decoder.feed(item, clocks)
        return out

    def _look_for_room(self) -> Items:
        """Report once that the disk is full: QEMU drops lines then without a message."""
        now = time.monotonic()
        guest = self._site.guest
        if guest is None or now - self._looked < _RECHECK_S:
            return []
        before, self._full = self._full, self.file.is_full(root=guest.uid == 0)
        self._looked = now
        if before or not self._full:
            return []
        if not self._full_reported:
            self._site.notices.append(
                f"the disk of {self.source} is full: QEMU loses lines without a word"
            )
        self._full_reported = True
        return [Loss(Backend.LOG, None, time.time_ns())]

    def keep_up(self) -> None:
        """Count lines that fall too far behind. Blocks shortly: call it in a thread."""
        self.file.keep_up()

    def finish(self) -> Items:
        """Return the rest of an unfinished line."""
        return self._decoder.flush(Clocks(time.time_ns()))

    @property
    def taken(self) -> int:
        """Bytes of the log read so far."""
        return self.file.offset

    def behind(self) -> int:
        """Bytes of the log that are written and not read."""
        return self.file.behind()

    async def settle(self) -> None:
        """Note where the log ends."""
        self._end = self.file.offset + self.file.behind()

    def settled(self) -> bool:
        """Return whether the log has been read to that end."""
        return self.file.offset >= self._end

    async def wait(self, timeout_s: float) -> Items:
        """Wait for more, for at most ``timeout_s``; follow a log that was moved."""
        await self.file.wait(min(timeout_s, SPAN_S) if self._decoder.holds else timeout_s)
        if self.file.behind() or time.monotonic() - self._checked < _RECHECK_S:
            return []
        self._checked = time.monotonic()
        return self._look_for_room() or await self._follow_move()

    async def _follow_move(self) -> Items:
        guest, now_ns = self._site.guest, time.time_ns()
        if guest is None or has_inode(guest.pid, self.file.inode()):
            return []
        target = await self._site.log_target()
        if not target.certain and not self._log_unknown:
            target = await _located_log(self._site)
            if not target.certain:
                self._log_unknown = True
                self._site.notices.append(f"the log has left {self.source}; it goes to {target}")
                return [Loss(Backend.LOG, None, time.time_ns())]
        if not target.certain or target.reach is not LogReach.FILE or self.file.behind():
            return []
        with contextlib.suppress(OSError):
            older = await asyncio.to_thread(may_be_older, guest.pid, target.fd, self._began_ns)
            file = _open_target(guest.pid, target, offset=None if older else 0)
            self.file.close()
            self.file, self.source, self._began_ns = file, str(target), now_ns
            self._site.notices.append(f"the log moved to {target}")
            # QEMU closed the old log, and all of it has been read.
            lost = [Loss(Backend.LOG, None, now_ns)] if older else []
            return [*self._decoder.flush(Clocks(now_ns)), *lost]
        return []

    async def close(self) -> None:
        """Close the log; where it goes is not changed here."""
        self.file.close()


async def _located_log(site: Site) -> LogTarget:
    """Return where the log goes; where the open files leave that in doubt, after a check.

    A file that gets the line of the check is the log. If none does, the target of the command line
    stands; a log that cannot be looked at stays a guess.
    """
    target = await site.log_target()
    guest = site.guest
    files = [one for one in (target, *target.others) if one.reach is LogReach.FILE]
    if target.certain or guest is None or not files:
        return target
    with contextlib.ExitStack() as stack:
        opened = []
        for one in files:
            with contextlib.suppress(OSError):
                fd = os.open(f"/proc/{guest.pid}/fd/{one.fd}", os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                opened.append((one, fd, os.fstat(fd).st_size))
        if not await fire(site):
            return target
        for one, fd, end in opened:
            if CHECK_EVENT.encode() in os.pread(fd, _LOOK_BYTES, end):
                return replace(one, others=(), missing="")
    if len(opened) < len(files):
        return target
    if not target.missing:
        return replace(target, others=())
    rest = [one for one in (target, *target.others) if one not in files]
    guess, *others = rest or [LogTarget(LogReach.MOVED)]
    return replace(guess, others=tuple(others), missing=target.missing)


def _open_target(pid: int, target: LogTarget, *, offset: int | None = None) -> GrowingFile:
    return GrowingFile(f"/proc/{pid}/fd/{target.fd}", offset=offset)


async def open_feed(request: FeedRequest) -> Feed:
    """Start reading the guest's log from its present end, redirecting it where it can't be read.

    A redirection is in the journal, under the owner, before QEMU is asked.

    Raises:
        Unsupported: the log can neither be read nor redirected, and is as it was; or its lines
            cannot have the clock that is demanded.
    """
    guest = request.site.guest
    stamped = guest is not None and parse_cmdline(guest.argv).stamps_log
    return await timed(request, await _open_log(request), stamped=stamped)


async def _open_log(request: FeedRequest) -> LogFeed:
    site, owner = request.site, request.owner
    guest = site.guest
    target = await _located_log(site)
    if guest is None or target.reach in (LogReach.UNKNOWN, LogReach.PER_THREAD, LogReach.MOVED):
        raise refusal(target, guest)
    decoder = LogDecoder(request.table, pid=guest.pid)
    if target.reach is LogReach.FILE:
        try:
            file = _open_target(guest.pid, target)
        except OSError as error:
            raise Unsupported(
                f"the log of guest {guest.pid}, {target}, cannot be read: {error.strerror}",
                hint=run_beside(guest, owner_of(guest.pid, target.fd)),
            ) from error
        shared = await shared_spool(site, owner, KIND, file.inode())
        if shared is None:
            return LogFeed(site, file, decoder, str(target))
        end = file.offset
        file.close()
        file = GrowingFile(shared, offset=end, spool=True)
        return LogFeed(site, file, decoder, "the spool of another qtctl")
    point = functools.partial(redirect, site.monitor, guest, target)
    spool = await leased_spool(site, guest, owner, KIND, lambda _: {"undo": target.undo}, point)
    file = GrowingFile(spool.path, offset=0, spool=True)
    if target.undo == "/dev/null" and target.reach in (LogReach.SOCKET, LogReach.PIPE):
        site.notices.append(
            f"{target}, cannot be opened again safely: the log will end in /dev/null"
        )
    return LogFeed(site, file, decoder, f"a spool (the log went to {target})")
