"""Following a guest through the ust backend: an LTTng session for the picked events."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from os.path import commonprefix
from pathlib import Path

from qtctl.backends.base import FeedRequest
from qtctl.backends.ust import lttng
from qtctl.backends.ust.daemons import Writers
from qtctl.backends.ust.reader import SessionReader
from qtctl.errors import LinkLost, QtctlError, Unsupported
from qtctl.events.patterns import cover
from qtctl.leases.journal import Resource
from qtctl.model import Backend
from qtctl.records.items import Items, Loss

KIND = "lttng"


def tracer_patterns(picked: Sequence[str], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return patterns to record and to leave out which pick exactly ``picked`` among ``names``.

    Each pattern costs the session daemon a walk over all tracepoints, so few are better.
    """
    plain = cover(picked, (), names)
    if len(plain) <= 2:
        return plain, []
    prefix = commonprefix(list(picked))  # noqa: RUF071 - of characters, not of paths
    inside = [name for name in names if name.startswith(prefix)]
    left_out = sorted(set(inside) - set(picked))
    excluded = cover(left_out, (), inside)
    if 1 + len(excluded) < len(plain):
        return [f"{prefix}*"], excluded
    return plain, []


class UstFeed:
    """Follows one guest through LTTng; :func:`open_feed` makes it."""

    def __init__(
        self, session: str, folder: Path, request: FeedRequest, pid: int, *, timed: bool
    ) -> None:
        self.source = f"LTTng session {session}"
        self._session = session
        self._folder = folder
        self._notices = request.site.notices
        self._pid = pid
        self._timed = timed
        self._final = self._settled = False
        self._discarded: int | None = 0
        self._noted = False
        self._reader = SessionReader(
            *(folder, lttng.CHANNEL, lttng.FILES, lttng.KEEP_BYTES, request.table, pid)
        )
        self._writers = Writers(folder)

    @property
    def taken(self) -> int:
        """Bytes read so far."""
        return self._reader.taken

    def behind(self) -> int:
        """Return how many bytes wait to be read."""
        return self._reader.behind()

    def read(self) -> Items:
        """Decode what came since the last call.

        Raises:
            LinkLost: a daemon that writes the session has ended.
        """
        final = self._final
        items = self._reader.read(final=final)
        self._settled = final and self._reader.dry
        if not (self._timed or final) and self._reader.lacks_metadata:
            with contextlib.suppress(QtctlError):
                lttng.renew(self._session)
            items.append(Loss(Backend.UST, None, time.time_ns()))
        if not items and not self._final and (ended := self._writers.ended()):
            raise LinkLost(
                f"{ended} of LTTng, which records guest {self._pid}, has ended",
                hint="follow again: qtctl starts one where none runs",
            )
        if not self._noted and any(isinstance(one, Loss) and one.count is None for one in items):
            self._note()
        return items

    def _note(self) -> None:
        """Say why records of an unknown number are missing, if that can be seen."""
        if self._reader.undeclared:
            self._noted = True
            self._notices.append(
                "LTTng did not declare some events in time: what followed them is lost"
            )
        if self._full():
            self._noted = True
            self._notices.append(
                f"{self._folder} has no room left: LTTng drops what it cannot write there"
            )

    def _full(self) -> bool:
        """Return whether the files have no room for two packets."""
        with contextlib.suppress(OSError):
            room = os.statvfs(self._folder)
            return room.f_bavail * room.f_frsize < 2 * lttng.PACKET_BYTES
        return False

    def keep_up(self) -> None:
        """Count and drop what LTTng would overwrite."""
        self._reader.shed()

    async def wait(self, timeout_s: float) -> Items:
        """Wait until LTTng has written, for at most ``timeout_s``."""
        await self._reader.wait(timeout_s)
        return []

    async def settle(self) -> None:
        """Stop recording; all that the tracer had is in the files then."""
        self._discarded = await asyncio.to_thread(lttng.stop, self._session)
        self._final = True

    def settled(self) -> bool:
        """Return whether the files have been read since."""
        return self._settled

    def finish(self) -> Items:
        """Return what was held back, and events discarded after the last packet."""
        out, now_ns = self._reader.rest(), time.time_ns()
        if not self._final:
            return out
        full = self._full()
        if full and not self._noted:
            self._note()
        if self._discarded is None or not self._settled or full:
            out.append(Loss(Backend.UST, None, now_ns))
        elif self._discarded > self._reader.discarded:
            out.append(Loss(Backend.UST, self._discarded - self._reader.discarded, now_ns))
        return out

    async def close(self) -> None:
        """Close the files; the session ends with the lease."""
        self._writers.close()
        self._reader.close()


async def open_feed(request: FeedRequest) -> UstFeed:
    """Record the picked events in a new session, from now on.

    The session is in the journal, under the owner, before it is made.

    Raises:
        Unsupported: LTTng is not there or cannot trace this guest; nothing of it is left.
    """
    site, guest = request.site, request.site.guest
    if guest is None:
        raise Unsupported(
            "a guest whose process cannot be seen from here cannot be followed through LTTng",
            hint="run qtctl on the guest's own machine, as its user or root",
        )
    includes, excludes = tracer_patterns(request.picked, request.table.names)
    facts = await asyncio.to_thread(lttng.new_facts)
    await site.leasing.hold(request.owner, Resource(KIND, facts))
    timed = await asyncio.to_thread(lttng.open_session, guest, facts, includes, excludes)
    folder = Path(facts["folder"]) / lttng.OUTPUT
    name = facts["session"]
    return await asyncio.to_thread(UstFeed, name, folder, request, guest.pid, timed=timed)
