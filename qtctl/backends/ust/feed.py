"""Following a guest through the ust backend: an LTTng live session for the picked events."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Sequence
from os.path import commonprefix

from qtctl.backends.base import Clocks, FeedRequest
from qtctl.backends.child_pipe import ChildPipe
from qtctl.backends.ust import lttng
from qtctl.backends.ust.decoder import LttngDecoder
from qtctl.errors import LinkLost, Unsupported
from qtctl.events.patterns import cover
from qtctl.leases.journal import Resource
from qtctl.model import Backend
from qtctl.records.items import Items, Loss

KIND = "lttng"
_END_S = 1.0


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
        self, session: str, reader: subprocess.Popen[bytes], decoder: LttngDecoder, pid: int
    ) -> None:
        self.source = f"LTTng session {session}"
        self.taken = 0
        self._session = session
        self._reader = reader
        self._decoder = decoder
        self._pid = pid
        self._settling = False
        self._reported = 0
        self._discarded: int | None = 0
        self._last_line = ""
        self._pipe = ChildPipe(reader)

    def behind(self) -> int:
        """Return 0: LTTng does not show how much waits."""
        return 0

    def read(self) -> Items:
        """Decode the bytes since the last call.

        Raises:
            LinkLost: the session ended without having been asked to.
        """
        data = self._pipe.read()
        self.taken += len(data)
        if data:
            return self._noted(self._decoder.feed(data, Clocks(time.time_ns())))
        if self._pipe.ended and not self._settling:
            code = self._reader.poll()
            raise LinkLost(
                f"LTTng's live session of guest {self._pid} ended by itself (babeltrace2 "
                f"{'runs' if code is None else f'ended with code {code}'}){self._last_line}",
                hint="see whether lttng-sessiond and the guest still run, and follow again",
            )
        return []

    def _noted(self, items: Items) -> Items:
        """Count the losses and keep the last line of text, for an error; return ``items``."""
        for item in items:
            if isinstance(item, Loss):
                self._reported += item.count or 0
            elif (texts := item.groups().get(-1)) is not None:
                self._last_line = f": {item.text(int(texts[-1]))[:500]}"
        return items

    def keep_up(self) -> None:
        """Do nothing: the relay daemon keeps a bounded amount and reports what it loses."""

    async def wait(self, timeout_s: float) -> Items:
        """Wait until babeltrace2 has written, for at most ``timeout_s``."""
        await self._pipe.wait(timeout_s)
        return []

    async def settle(self) -> None:
        """Stop recording; babeltrace2 ends when it has printed everything."""
        self._settling = True
        self._discarded = await asyncio.to_thread(lttng.stop, self._session)

    def settled(self) -> bool:
        """Return whether babeltrace2 has printed everything."""
        return self._pipe.ended

    def finish(self) -> Items:
        """Return the rest of an unfinished line, and events discarded after the last packet."""
        now_ns = time.time_ns()
        out = self._noted(self._decoder.flush(Clocks(now_ns)))
        if not self._settling:
            return out
        if self._discarded is None or not self._pipe.ended:
            out.append(Loss(Backend.UST, None, now_ns))
        elif self._discarded > self._reported:
            out.append(Loss(Backend.UST, self._discarded - self._reported, now_ns))
        return out

    async def close(self) -> None:
        """End babeltrace2; the session ends with the lease."""
        await asyncio.to_thread(_end_reader, self._reader)


def _end_reader(reader: subprocess.Popen[bytes]) -> None:
    if reader.stdout is not None:
        reader.stdout.close()
    reader.terminate()
    try:
        reader.wait(_END_S)
    except subprocess.TimeoutExpired:
        reader.kill()
        reader.wait()


async def open_feed(request: FeedRequest) -> UstFeed:
    """Record the picked events in a new live session, from now on.

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
    reader = await asyncio.to_thread(lttng.open_session, guest, facts, includes, excludes)
    decoder = LttngDecoder(request.table, pid=guest.pid)
    return UstFeed(facts["session"], reader, decoder, guest.pid)
