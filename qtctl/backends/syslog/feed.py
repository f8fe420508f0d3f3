"""Following a guest through the syslog backend: the journal or a daemon's file."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

from qtctl.backends.base import Clocks, FeedRequest, Site
from qtctl.backends.splitting import SPAN_S
from qtctl.backends.spool.growing import GrowingFile, Skipped
from qtctl.backends.syslog import daemon as syslog
from qtctl.backends.syslog.daemon import Daemon
from qtctl.backends.syslog.decoder import SyslogDecoder
from qtctl.backends.syslog.journal import JournalReader
from qtctl.errors import Unsupported
from qtctl.folders import inode_of
from qtctl.model import Backend
from qtctl.records.items import Items, Loss

_RECHECK_S = 1.0


class SyslogFeed:
    """Follows one guest's messages in the system log; :func:`open_feed` makes it."""

    def __init__(self, site: Site, daemon: Daemon, source: _Source, decoder: SyslogDecoder) -> None:
        self.source = str(source)
        self.taken = 0
        self._site = site
        self._daemon = daemon
        self._from = source
        self._decoder = decoder
        self._mark = self._tail = b""
        self._settled = self._gone = False
        self._checked = time.monotonic()

    def behind(self) -> int:
        """Return the bytes of a daemon's file that are not read yet; 0 for the journal."""
        return self._from.behind()

    def read(self) -> Items:
        """Decode the bytes since the last call. Blocks shortly: call it in a thread."""
        pieces = self._from.read()
        out: Items = [] if pieces else self._decoder.release(Clocks(time.time_ns()))
        for piece in pieces:
            clocks = Clocks(time.time_ns())
            if isinstance(piece, Skipped):
                out += self._decoder.flush(clocks)
                out.append(Loss(Backend.SYSLOG, piece.lines, clocks.now_ns))
                continue
            self.taken += len(piece)
            if self._mark:
                self._settled = self._settled or self._mark in self._tail + piece
                self._tail = piece[-len(self._mark) :]
            out += self._decoder.feed(piece, clocks)
        return out

    def keep_up(self) -> None:
        """Do nothing: the log keeps unread messages."""

    async def wait(self, timeout_s: float) -> Items:
        """Wait for more, for at most ``timeout_s``; report when the daemon is gone."""
        await self._from.wait(min(timeout_s, SPAN_S if self._decoder.holds else _RECHECK_S))
        if time.monotonic() - self._checked < _RECHECK_S or self._from.more():
            return []
        self._checked = time.monotonic()
        return await asyncio.to_thread(self._check)

    def _check(self) -> Items:
        lost: Items = [Loss(Backend.SYSLOG, None, time.time_ns())]
        if not self._daemon.alive():
            if not self._gone:
                self._gone = True
                self._site.notices.append(
                    f"{self._daemon} has ended: what the guest says meanwhile is lost"
                )
                return lost
            with contextlib.suppress(Unsupported):
                self._reopen()
        elif fresh := self._from.next():
            self._from.close()
            self._from = fresh
        return []

    def _reopen(self) -> None:
        guest = self._site.guest
        assert guest is not None
        self._daemon = syslog.find_daemon()
        fresh = _open_source(self._daemon, guest.pid)
        self._from.close()
        self._from, self.source, self._gone = fresh, str(fresh), False

    async def settle(self) -> None:
        """Send a marked message; the guest's earlier messages come before it."""
        with contextlib.suppress(Unsupported):
            self._mark = (await asyncio.to_thread(syslog.send_mark)).encode()

    def settled(self) -> bool:
        """Return whether that message has been read, or cannot come."""
        return self._settled or not self._mark or self._gone

    def finish(self) -> Items:
        """Return the rest of an unfinished line, and a loss that the daemon has not counted yet."""
        clocks = Clocks(time.time_ns())
        items = self._decoder.flush(clocks)
        if self._decoder.dropping:
            self._site.notices.append(
                f"{self._daemon} dropped messages of the guest (its rate limit) and tells how many "
                "only with a later message of the guest"
            )
            items.append(Loss(Backend.SYSLOG, None, clocks.now_ns))
        return items

    async def close(self) -> None:
        """Close the file or journal."""
        await asyncio.to_thread(self._from.close)


class _FileSource(GrowingFile):
    """A file that a daemon writes, followed when it is rotated."""

    def __init__(self, path: Path, daemon: Daemon, *, offset: int | None = None) -> None:
        super().__init__(path, offset=offset)
        self._place = path
        self._daemon = daemon

    def __str__(self) -> str:
        return f"{self._place}, written by {self._daemon}"

    def more(self) -> bool:
        return self.behind() > 0

    def next(self) -> _FileSource | None:
        """Return the new file of this name once the daemon writes to it and this one was read."""
        with contextlib.suppress(OSError):
            is_new = inode_of(self._place) != self.inode() and self._place.stat().st_size > 0
            if is_new and not self.more():
                return _FileSource(self._place, self._daemon, offset=0)
        return None


_Source = _FileSource | JournalReader


def _open_source(daemon: Daemon, pid: int) -> _Source:
    if not daemon.journald:
        return _FileSource(syslog.find_file(daemon), daemon)
    journal = JournalReader(pid, daemon.namespace)
    journal.await_mark(syslog.send_mark, syslog.FOUND_TIMEOUT_S)
    return journal


async def open_feed(request: FeedRequest) -> SyslogFeed:
    """Find the daemon that serves /dev/log and follow the guest's messages. Changes nothing.

    Raises:
        Unsupported: no daemon serves it, or its messages cannot be read.
    """
    site = request.site
    guest = site.guest
    if guest is None:
        raise Unsupported(
            "the system log is read on the guest's own machine, and its process is not seen",
            hint="run qtctl there",
        )
    daemon = await asyncio.to_thread(syslog.find_daemon)
    if daemon.journald and os.geteuid() not in (0, guest.uid):
        site.notices.append("the journal may hide what another user's guest says")
    source = await asyncio.to_thread(_open_source, daemon, guest.pid)
    decoder = SyslogDecoder(request.table, pid=guest.pid, unit=syslog.unit_of(guest.pid))
    return SyslogFeed(site, daemon, source, decoder)
