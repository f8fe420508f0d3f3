"""Following a guest through the ftrace backend: its marks in a private tracefs instance."""

from __future__ import annotations

import asyncio
from pathlib import Path

from qtctl.backends.base import FeedRequest
from qtctl.backends.ftrace import shared
from qtctl.backends.ftrace.marks import PRINT, MarkDecoder
from qtctl.backends.ftrace.nameless import Nameless
from qtctl.backends.ring import instance as ring
from qtctl.backends.ring import tracefs
from qtctl.backends.ring.feed import RingFeed
from qtctl.backends.ring.reader import RingReader
from qtctl.backends.ring.threads import Threads
from qtctl.errors import Unsupported
from qtctl.leases.journal import Resource
from qtctl.model import Backend


async def open_feed(request: FeedRequest) -> RingFeed:
    """Make a private instance, journalled before it is made, and read its buffers.

    Raises:
        Unsupported: tracefs cannot be reached, or the guest was started where it could not be.
    """
    guest = ring.seen_guest(request.site)
    root = await ring.find("the ftrace backend writes", ", then start QEMU anew")
    private = tracefs.has_private(root)
    if private:
        folder = await ring.lease(request.site, request.owner, root)
        await asyncio.to_thread(make_instance, folder)
        source, timed = f"the tracefs instance {folder.name}", True
    else:
        folder, timed = root, await _prepare_shared(request, root)
        source = "the shared buffer of tracefs"
    try:
        reader = await asyncio.to_thread(open_reader, request, folder, guest.pid, timed)
    except (OSError, ValueError) as error:
        raise Unsupported(
            f"cannot read the trace buffers below {folder}: {error}", hint="run qtctl as root"
        ) from error
    return RingFeed(reader, source, Backend.FTRACE, private=private)


def make_instance(folder: Path) -> None:
    """Make an instance that gets copies of the marks.

    Raises:
        Unsupported: the kernel refuses; what was made is removed again.
    """
    with tracefs.making(folder, tracefs.per_cpu_kib()):
        tracefs.take_marks(folder)


def open_reader(request: FeedRequest, folder: Path, pid: int, timed: bool) -> RingReader:
    """Open the buffers below ``folder``; ``timed``: their clock is monotonic.

    Raises:
        OSError: they cannot be opened.
        ValueError: this kernel has another form of pages or records than is known.
    """
    root = folder.parent.parent if folder.parent.name == "instances" else folder
    mark = tracefs.read_format(folder, PRINT)
    layout = tracefs.read_layout(folder, mark)
    threads = Threads(pid, root)
    names = dict.fromkeys((*request.picked, *request.on))
    nameless = Nameless(request.table, tuple(names), request.site.notices.append)

    def decoder() -> MarkDecoder:
        return MarkDecoder(
            request.table,
            layout,
            mark,
            pid=pid,
            threads=threads,
            timed=timed,
            nameless=nameless,
        )

    reader = RingReader(folder, layout.page_bytes, decoder)
    ring.close_at_end(reader)
    return reader


async def _prepare_shared(request: FeedRequest, root: Path) -> bool:
    """Have the global buffer record; return whether its clock is monotonic."""
    found = await asyncio.to_thread(shared.find, root)
    await request.site.leasing.hold(request.owner, Resource(ring.KIND, found.facts()))
    await asyncio.to_thread(shared.prepare, found)
    request.site.notices.append(
        "this kernel has no copy_trace_marker: the trace buffer that everybody shares is read, "
        "and what is read is gone for others"
    )
    return found.timed
