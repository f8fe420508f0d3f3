"""The hidden verb serve: does the work here for the qtctl of another host; see ``session/link``."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from qtctl.commands.context import Context, Result, error_object
from qtctl.commands.parsing import parse
from qtctl.commands.registry import COMMANDS, Options, command
from qtctl.errors import QtctlError, UsageError, unexpected
from qtctl.recordings.chunks import Chunk, ChunkKind
from qtctl.session.link import PROTOCOL, SILENT_S
from qtctl.shapes import Malformed, any_text, elements, flag, member, members, parsed, whole
from qtctl.text.style import Style
from qtctl.version import VERSION

_GIVE_BACK_S = 5.5
"""How long it may take, once the link is cut; what is left then, the next qtctl gives back."""


@command("serve", details="The qtctl of another host starts this one over ssh.")
async def serve(context: Context, options: Options) -> int:
    """Serve one call, until it is answered or the link ends."""
    del options
    wire = await Wire.open()
    wire.note("hello", qtctl=VERSION, protocol=PROTOCOL)
    calls = IncomingCalls(wire)
    try:
        await _answer(context, wire, calls, await calls.next())
    except QtctlError as error:
        wire.put(Chunk.of(ChunkKind.NOTE, error_object(error)))
    except Malformed as malformed:
        wire.put(Chunk.of(ChunkKind.NOTE, error_object(UsageError(f"senseless: {malformed}"))))
    except OSError as failure:
        wire.put(Chunk.of(ChunkKind.NOTE, error_object(unexpected(failure))))
    await wire.finish()
    return 0


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


async def _answer(context: Context, wire: Wire, calls: IncomingCalls, call: dict[str, Any]) -> None:
    """Run the verb of a call and send its result, or follow the guest of a call.

    Raises:
        Malformed: the call has another shape.
        QtctlError: what the verb raises.
    """
    from qtctl.commands.each import run_verb

    own = replace(
        context,
        target=any_text(member(call, "target"), "the target"),
        name=any_text(member(call, "name"), "the name"),
        choose=None,
        alone=False,
    )
    if call.get("type") == "attach":
        from qtctl.commands.serving import serve_guest

        await serve_guest(own, wire, calls)
        return
    words = [any_text(one, "a word") for one in elements(member(call, "words"), "the words")]
    try:
        row, options = parse(words, COMMANDS, VERSION)
    except SystemExit:
        raise UsageError("help is had without a target", hint="qtctl --help") from None
    options.targets = [own.target] if own.target is not None else []
    own.json, own.quiet, own.verbose = options.json, options.quiet, options.verbose
    width, colour, unicode = elements(member(call, "style"), "the style")
    own.out_style = Style(whole(width, "the width", 0), flag(colour, "colour"), flag(unicode, "it"))
    result = await run_verb(row, own, options)
    if not isinstance(result, Result):
        raise UsageError(f"{row.name} prints for itself, and cannot be run from another host")
    lines = [] if own.json else [*result.lines(own.out_style)]
    wire.note("result", document=result.document, lines=lines, exit_code=result.exit_code)
