"""The end of a link on the host of the guest: chunks on stdout, and what is told on stdin."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from qtctl.recordings.chunks import Chunk, ChunkKind
from qtctl.session.link import SILENT_S
from qtctl.shapes import Malformed, members, parsed

_GIVE_BACK_S = 5.5
"""How long it may take, once the link is cut; what is left then, the next qtctl gives back."""


class Wire:
    """Chunks to the other host, on stdout; :meth:`open` makes it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    @classmethod
    async def open(cls) -> Wire:
        """Take over stdout."""
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
        return cls(asyncio.StreamWriter(transport, protocol, None, loop))

    def note(self, kind: str, **facts: Any) -> None:
        """Send an object."""
        self.put(Chunk.of(ChunkKind.NOTE, {"type": kind, **facts}))

    def put(self, *chunks: Chunk) -> None:
        """Send chunks."""
        for chunk in chunks:
            self._writer.write(chunk.data)

    async def drain(self) -> None:
        """Wait while too much is on its way."""
        await self._writer.drain()

    async def finish(self) -> None:
        """Wait until all chunks are on their way."""
        self._writer.transport.set_write_buffer_limits(0)
        await self._writer.drain()


class IncomingCalls:
    """The objects that the other host sends, on stdin; pings are answered.

    When stdin ends or is silent for ``SILENT_S``, this process is sent SIGTERM, as by a user, and
    ended if it has not given its guest back soon. A thread sees to it, whatever this one does.
    """

    def __init__(self, wire: Wire) -> None:
        self.sums: Callable[[], Mapping[str, int]] = dict
        """The sums of the stream that is followed now."""
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    async def next(self) -> dict[str, Any]:
        """Return the next object."""
        return await self._queue.get()

    def _read(self) -> None:
        fd, rest = sys.stdin.fileno(), b""
        while select.select([fd], [], [], SILENT_S)[0] and (data := os.read(fd, 1 << 16)):
            now_ns = time.time_ns()
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._loop.call_soon_threadsafe(self._take, line, now_ns)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GIVE_BACK_S)
        os._exit(1)

    def _take(self, line: bytes, received_ns: int) -> None:
        try:
            call = members(parsed(line), "a call")
        except Malformed:
            return  # no qtctl sends that
        if call.get("type") != "ping":
            self._queue.put_nowait(call)
            return
        times = {"received_ns": received_ns, "answered_ns": time.time_ns()}
        self._wire.note("beat", sent_ns=call.get("sent_ns"), **times, sums=self.sums())
