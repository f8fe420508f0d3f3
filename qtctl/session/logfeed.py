"""The log backend joined: find or redirect the log, read it, decode it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtctl.backends.growing import Gap, GrowingFile
from qtctl.backends.log import LogTarget, Reach, has_inode, redirect, refusal
from qtctl.backends.spool import Spool, make_spool, start_keeper
from qtctl.errors import QtctlError, Unsupported
from qtctl.events.leases import Output, Owner
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.logtext import LogDecoder
from qtctl.records.table import EventTable

if TYPE_CHECKING:
    from qtctl.session.attach import Session

_RECHECK_S = 2.0


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that were not delivered: how many (None: cannot be known), and when it was seen.

    ``time_ns`` is Unix time in ns.
    """

    backend: Backend
    count: int | None
    time_ns: int


class LogFeed:
    """What one guest logs, as batches and losses. Make it with :func:`open_log`."""

    def __init__(self, session: Session, source: GrowingFile, decoder: LogDecoder) -> None:
        self._session = session
        self._source = source
        self._decoder = decoder
        self._checked = time.monotonic()

    def read(self) -> list[Batch | Loss]:
        """Return what came since the last call, decoded. Blocks shortly: call it in a thread."""
        out: list[Batch | Loss] = []
        for item in self._source.read():
            now_ns = time.time_ns()
            if isinstance(item, Gap):
                out += self._flushed(now_ns)
                out.append(Loss(Backend.LOG, item.lines, now_ns))
            else:
                batch = self._decoder.feed(item, now_ns=now_ns)
                if len(batch):
                    out.append(batch)
        return out

    def keep_up(self) -> None:
        """Count what falls too far behind while nobody reads. As :meth:`read`, in a thread."""
        self._source.keep_up()

    def finish(self) -> list[Batch | Loss]:
        """Return a line that was begun and never ended."""
        return [*self._flushed(time.time_ns())]

    def _flushed(self, now_ns: int) -> list[Batch]:
        batch = self._decoder.flush(now_ns=now_ns)
        return [batch] if len(batch) else []

    @property
    def offset(self) -> int:
        """Bytes of the log read so far."""
        return self._source.offset

    def end(self) -> int:
        """Return where the log ends now, in bytes."""
        return self._source.offset + self._source.behind()

    async def wait(self, timeout_s: float) -> list[Loss]:
        """Wait for more, for at most ``timeout_s``; follow a log that moved to where it went."""
        await self._source.wait(timeout_s)
        if self._source.behind() or time.monotonic() - self._checked < _RECHECK_S:
            return []
        self._checked = time.monotonic()
        return await self._follow_move()

    async def _follow_move(self) -> list[Loss]:
        guest = self._session.guest
        if guest is None or has_inode(guest.pid, self._source.inode()):
            return []
        target = self._session.facts.log_target(await self._session.backends())
        if target.reach is not Reach.FILE or self._source.behind():
            return []
        with contextlib.suppress(OSError):
            source = _open_target(guest.pid, target)
            self._source.close()
            self._source = source
            self._session.notices.append(f"the log moved to {target}")
            return [Loss(Backend.LOG, None, time.time_ns())]
        return []

    def close(self) -> None:
        """Close the log; where it goes is not changed here."""
        self._source.close()


def _open_target(pid: int, target: LogTarget) -> GrowingFile:
    return GrowingFile(f"/proc/{pid}/fd/{target.fd}")


async def open_log(session: Session, owner: Owner, table: EventTable) -> tuple[LogFeed, str]:
    """Start reading the guest's log from its present end, redirecting it where it can't be read.

    Returns the feed and, in words, where it reads. A redirection is in the journal, under
    ``owner``, before QEMU is asked.

    Raises:
        Unsupported: the log can neither be read nor redirected; it is as it was.
    """
    guest = session.guest
    target = session.facts.log_target(await session.backends())
    if guest is None or target.reach in (Reach.UNKNOWN, Reach.PER_THREAD):
        raise refusal(target)
    decoder = LogDecoder(table, pid=guest.pid)
    if target.reach is Reach.FILE:
        try:
            source = _open_target(guest.pid, target)
        except OSError as error:
            raise Unsupported(
                f"the log of guest {guest.pid}, {target}, cannot be read: {error.strerror}",
                hint="run qtctl as the user that owns the log",
            ) from error
        shared = await session.leasing.shared_output(source.inode())
        if shared is None:
            return LogFeed(session, source, decoder), str(target)
        end = source.offset
        source.close()
        await session.leasing.hold_output(owner, shared)
        source = GrowingFile(shared.spool, offset=end, spool=True)
        return LogFeed(session, source, decoder), "the spool of another qtctl"
    loop = asyncio.get_running_loop()

    def journal(planned: Spool) -> None:
        output = Output(target.undo, str(planned.path), planned.seen)
        held = session.leasing.hold_output(owner, output)
        asyncio.run_coroutine_threadsafe(held, loop).result()

    spool = await asyncio.to_thread(make_spool, guest, journal)
    source = GrowingFile(spool.path, offset=0, spool=True)
    try:
        await asyncio.to_thread(start_keeper, spool.path, guest.pid)
        await redirect(session.monitor, guest, target, spool)
    except (QtctlError, OSError):
        source.close()
        raise
    if target.reach is Reach.SOCKET:
        session.notices.append(
            "stderr is a socket, which QEMU cannot open again: its log will end in /dev/null"
        )
    return LogFeed(session, source, decoder), f"a spool (the log went to {target})"
