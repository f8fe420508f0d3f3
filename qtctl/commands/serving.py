"""Following a guest for the qtctl of another host: records in chunks as they come."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence

from qtctl.commands.context import Context, error_object
from qtctl.commands.wire import IncomingCalls, Wire
from qtctl.errors import QtctlError
from qtctl.recordings.chunks import Chunk
from qtctl.recordings.store import DataMaker, NameBook
from qtctl.records.items import Item
from qtctl.session.link_objects import read_follow, sums_object, texts
from qtctl.session.stream import Stream
from qtctl.shapes import member

_FLUSH_S = 0.03
"""How long a record may wait for others."""
_CHUNK_BYTES = 1 << 20


async def serve_guest(context: Context, wire: Wire, calls: IncomingCalls) -> None:
    """Attach to the guest of ``context``, and follow it as often as is asked, until cancelled.

    Raises:
        QtctlError: what attaching and following raise.
        Malformed: a call has another shape.
    """
    async with context.attached(lend=True) as session:
        states = await session.all_states()
        declared = await asyncio.to_thread(session.declared)
        names = NameBook()
        for name in states:
            names.enter(name, declared.get(name))
        guest = session.guest
        wire.put(*names.news())
        wire.note(
            "attached",
            guest={"pid": guest and guest.pid, "name": guest and guest.name},
            version=list(session.monitor.version),
            where=session.where,
            states={name: str(state) for name, state in states.items()},
        )
        while True:
            call = await calls.next()
            if call.get("type") == "follow":
                stream = session.stream(read_follow(member(call, "follow")))
                await _Sending(stream, names, wire, calls).run()


class _Sending:
    """Sends the items of a stream in chunks: each waits at most ``_FLUSH_S`` for others."""

    def __init__(self, stream: Stream, names: NameBook, wire: Wire, calls: IncomingCalls) -> None:
        self._stream = stream
        self._names = names
        self._wire = wire
        self._calls = calls
        self._maker = DataMaker(names, _CHUNK_BYTES)
        self._lock = threading.Lock()
        self._came = asyncio.Event()

    async def run(self) -> None:
        """Follow until the other end says stop, or the stream ends."""
        stream, error = self._stream, None
        async with stream:
            stream.on_silence = lambda text, proven: self._wire.note(
                "silent", text=text, proven=proven
            )
            self._announce()
            self._calls.sums = lambda: sums_object(stream.counts)
            beside = [asyncio.ensure_future(one) for one in (self._listen(), self._flush())]
            try:
                async with contextlib.aclosing(aiter(stream)) as items:
                    async for item in items:
                        await self._send(await asyncio.to_thread(self._add, item))
                        self._came.set()
            except QtctlError as failure:
                error = error_object(failure)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
            await self._send(await asyncio.to_thread(self._made))
        self._wire.note("ended", sums=sums_object(stream.counts), error=error)

    def _announce(self) -> None:
        stream = self._stream
        events, declared = stream.events()
        for name in events:
            self._names.enter(name, declared.get(name))
        self._wire.put(*self._names.news())
        picked = {*stream.picked}
        self._wire.note(
            "began",
            backend=stream.backend,
            picked=stream.picked,
            kernel=[name for name in events if name not in picked],
            source=stream.source,
            choices=stream.choices,
            passed_over=dict(stream.passed_over),
            report=stream.report and stream.report._asdict(),
        )

    async def _listen(self) -> None:
        """Do what the other end says meanwhile."""
        while True:
            call = await self._calls.next()
            match call.get("type"):
                case "leave_out":
                    self._stream.leave_out(texts(call.get("names"), "an event"))
                case "stop":
                    self._stream.stop()
                    with contextlib.suppress(QtctlError):  # leaving the stream tries again
                        await self._stream.release()

    async def _flush(self) -> None:
        while True:
            await self._came.wait()
            await asyncio.sleep(_FLUSH_S)
            self._came.clear()
            await self._send(await asyncio.to_thread(self._made))

    async def _send(self, chunks: Sequence[Chunk]) -> None:
        if chunks:
            self._wire.put(*chunks)
            await self._wire.drain()

    def _add(self, item: Item) -> list[Chunk]:
        """Add an item; return the chunks that are full."""
        made: list[Chunk] = []
        with self._lock:
            for part in self._maker.parts(item):
                self._maker.add(part)
                if self._maker.full:
                    made += self._chunks()
        return made

    def _made(self) -> list[Chunk]:
        """Return what waits."""
        with self._lock:
            return self._chunks()

    def _chunks(self) -> list[Chunk]:
        if self._maker.empty:
            return []
        made = self._maker.chunk()  # it may bring new names
        return [*self._names.news(), made]
