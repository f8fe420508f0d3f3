"""Following a guest through the ftrace backend: a private tracefs instance and its trace_pipe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from qtctl.backends.base import Clocks, FeedRequest
from qtctl.backends.child_pipe import wait_readable
from qtctl.backends.ftrace import shared as ftraceshared
from qtctl.backends.ftrace.decoder import TraceDecoder
from qtctl.backends.ftrace.undo import close_at_end
from qtctl.backends.ring import tracefs as ftrace
from qtctl.backends.ring.tracefs import TracePipe
from qtctl.backends.unix_time import UnixOffset
from qtctl.errors import NothingMatched, Unsupported
from qtctl.events.patterns import near
from qtctl.events.selection import Selection
from qtctl.leases.journal import Resource
from qtctl.model import Backend
from qtctl.records.items import Items, Loss

KIND = "tracefs"
_SHARED_WAIT_S = 0.05
"""The shared buffer may wake its reader only once it is half full."""


class FtraceFeed:
    """Follows one guest's marks and kernel events; :func:`open_feed` makes it."""

    def __init__(self, pipe: TracePipe, decoder: TraceDecoder, source: str, private: bool) -> None:
        self.source = source
        self._pipe = pipe
        self._decoder = decoder
        self._private = private
        self._settling = self._settled = False
        self._lines = self._behind = 0
        self._before: int | None = None
        self._offset = UnixOffset()
        self._uncounted = pipe.uncounted()

    @property
    def taken(self) -> int:
        """Bytes of text read so far."""
        return self._pipe.taken

    def behind(self) -> int:
        """Return about how many bytes wait or were overwritten since the last read."""
        return self._behind

    def read(self) -> Items:
        """Decode the bytes since the last call. Blocks shortly: call it in a thread."""
        settling = self._settling
        data = self._pipe.read()
        self._lines += data.count(b"\n")
        self._behind, self._before = 0, None
        clocks = Clocks(time.time_ns(), self._offset.ns())
        items = self._decoder.feed(data, clocks) if data else []
        if self._pipe.dry:
            # The kernel hands over whole records: nothing more of the last one will come.
            items += self._decoder.flush(clocks)
            self._settled = settling
        return items

    def keep_up(self) -> None:
        """Measure how much waits; the kernel counts what it overwrites."""
        waiting, overwritten = self._pipe.waiting()
        if self._before is None:
            self._before = overwritten
        records = waiting + overwritten - self._before
        self._behind = records * self.taken // max(1, self._lines)

    async def wait(self, timeout_s: float) -> Items:
        """Wait until the kernel has a record, for at most ``timeout_s``."""
        if not self._pipe.dry:
            return []
        if not self._private:
            timeout_s = min(timeout_s, _SHARED_WAIT_S)
        await wait_readable(self._pipe.fileno(), timeout_s)
        return []

    async def settle(self) -> None:
        """Stop the private buffer, kernel events with it."""
        if self._private:
            self._pipe.stop()
        self._settling = True

    def settled(self) -> bool:
        """Return whether the buffer has been read empty since."""
        return self._settled

    def finish(self) -> Items:
        """Return the rest of an unfinished record, and what the kernel dropped without a line."""
        clocks = Clocks(time.time_ns(), self._offset.ns())
        items = self._decoder.flush(clocks)
        more = self._pipe.uncounted() - self._uncounted
        return [*items, Loss(Backend.FTRACE, more, clocks.now_ns)] if more > 0 else items

    async def close(self) -> None:
        """Close the pipe."""
        self._pipe.close()


def kernel_names(patterns: Sequence[str]) -> list[str]:
    """Return the kernel events that ``patterns`` match, as ``SYSTEM:EVENT``.

    Raises:
        Unsupported: tracefs cannot be reached.
        NothingMatched: one of the patterns matches none.
    """
    if not patterns:
        return []
    names = (ftrace.find_tracefs() / "available_events").read_text().split()
    selection = Selection.of(*patterns)
    for pattern in selection.unmatched(names):
        raise NothingMatched(
            f"no kernel event matches {pattern!r}",
            hint=" or ".join(near(pattern, names)) or "cat /sys/kernel/tracing/available_events",
        )
    return selection.pick(names)


async def open_feed(request: FeedRequest) -> FtraceFeed:
    """Make a private instance, journalled before it is made, and read its trace_pipe.

    Raises:
        Unsupported: tracefs cannot be reached, or the guest was started where it could not be.
    """
    site = request.site
    guest = site.guest
    if guest is None:
        raise Unsupported(
            "the kernel's trace is read on the guest's own machine, and its process is not seen",
            hint="run qtctl there",
        )
    root = await asyncio.to_thread(ftrace.find_tracefs)
    ftrace.check_namespace()
    private = ftrace.has_private(root)
    folder = root / "instances" / f"qtctl-{request.owner.pid}-{request.owner.serial}"
    if private:
        await site.leasing.hold(request.owner, Resource(KIND, {"instance": str(folder)}))
        await asyncio.to_thread(ftrace.make_instance, folder, guest.pid, request.kernel)
        pipe, timed = TracePipe(folder), True
        source = f"the tracefs instance {folder.name}"
    else:
        pipe, timed = await _open_shared(request, root)
        source = "the shared buffer of tracefs"
    close_at_end(pipe)
    decoder = TraceDecoder(
        request.table,
        pid=guest.pid,
        owner_of=ftrace.owner_of,
        kernel={name.partition(":")[2]: name for name in request.kernel},
        timed=timed,
    )
    return FtraceFeed(pipe, decoder, source, private)


async def _open_shared(request: FeedRequest, root: Path) -> tuple[TracePipe, bool]:
    if request.kernel:
        raise Unsupported(
            "this kernel cannot give qtctl a trace buffer of its own (no copy_trace_marker), "
            "and kernel events would go to everybody's",
            hint="tail without --kernel",
        )
    pipe = TracePipe(root)
    try:
        found = ftraceshared.find(root, own=pipe.fileno())
        await request.site.leasing.hold(request.owner, Resource(KIND, found.facts()))
        ftraceshared.prepare(found)
    except BaseException:
        pipe.close()
        raise
    request.site.notices.append(
        "this kernel has no copy_trace_marker: the trace buffer that everybody shares is read, "
        "and what is read is gone for others"
    )
    return pipe, found.timed
