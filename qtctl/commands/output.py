"""The output of a stream verb: lines are formatted and written by a thread.

A stalled reader must block neither the restoring of a guest nor the process's end. So bytes go
straight to the descriptor, through a short queue, from a daemon thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from qtctl.errors import QtctlError
from qtctl.text.encoded import EncodedLines

FILE_S = 60.0
"""How long the last lines of a file may take to be written, in seconds."""
FLUSH_S = 1.0
"""How long output may take once a verb is stopped, in seconds."""
_QUEUED = 4
_PIECE = 512
"""So many lines are written at once."""

MakeLines = Callable[[int], Iterable[str]]
"""Returns the lines of the first N records, so that only those are formatted which are shown."""


class Output(Protocol):
    """Where the lines of a stream go.

    ``tells_news``: QMP events, marks and switches are already shown there. ``most_rows`` limits the
    rows of an answer, None: no limit.
    """

    error: Exception | None
    tells_news: bool
    most_rows: int | None

    async def put(self, lines: MakeLines, records: int = 0) -> None:
        """Queue lines to be formatted and shown, in order; wait while the queue is full.

        ``records`` is how many records they are: a screen may show fewer, and then shows the
        number left out. 0 is for lines that are no records, which are always shown.
        """

    async def finish(self, timeout_s: float) -> bool:
        """Wait until all lines are shown, at most ``timeout_s``; return whether they are."""

    def check(self) -> None:
        """Raise a QtctlError if output failed, other than by a reader that left."""


async def put(output: Output, lines: MakeLines, stop: asyncio.Event, records: int = 0) -> bool:
    """Queue lines, and return whether they were queued; after ``stop`` wait only a moment."""
    putting = asyncio.ensure_future(output.put(lines, records))
    if not stop.is_set():
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({putting, stopped}, return_when="FIRST_COMPLETED")
        stopped.cancel()
    if not putting.done():
        await asyncio.wait({putting}, timeout=FLUSH_S)
    if not putting.done():
        putting.cancel()
        return False
    putting.result()  # the file could not be created
    return True


class Sink:
    """Writes lines to a descriptor, in order. ``failed`` is called once if writing fails.

    Instead of a descriptor it takes a function that opens one: called with the first lines, so that
    no file is created in vain, and closed once all is written.
    """

    tells_news = False
    most_rows: int | None = None

    def __init__(self, fd: int | Callable[[], int], failed: Callable[[], None]) -> None:
        self._fd = fd if isinstance(fd, int) else -1
        self._open = None if isinstance(fd, int) else fd
        self._owned = False
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(_QUEUED)
        self._queue: queue.SimpleQueue[tuple[MakeLines, int] | None] = queue.SimpleQueue()
        self.error: Exception | None = None
        self._watched = False
        self._thread: threading.Thread | None = None
        if self._open is None:
            self._watch_reader()

    def _watch_reader(self) -> None:
        """Watch for the reader of our pipe closing it, also while nothing is written."""
        if stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            with contextlib.suppress(OSError, ValueError):
                self._loop.add_reader(self._fd, self._reader_left)
                self._watched = True

    def _reader_left(self) -> None:
        self._loop.remove_reader(self._fd)
        self._watched = False
        self._fail(BrokenPipeError())

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._failed()

    async def put(self, lines: MakeLines, records: int = 0) -> None:
        """Queue lines to be made and written; waits while the queue is full.

        Raises:
            UsageError: it is the first call, and the file cannot be created.
        """
        if self._open is not None:
            self._fd, self._open, self._owned = self._open(), None, True
            self._watch_reader()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="qtctl-output")
            self._thread.start()
        await self._room.acquire()
        self._queue.put((lines, records))

    def _run(self) -> None:
        while (queued := self._queue.get()) is not None:
            lines, records = queued
            error: Exception | None = None
            try:
                if self.error is None:
                    self._write(lines(records))
            except Exception as failure:  # raised by check()
                error = failure
            try:
                self._loop.call_soon_threadsafe(self._written, error)
            except RuntimeError:  # the loop has ended
                return

    def _write(self, lines: Iterable[str]) -> None:
        if isinstance(lines, EncodedLines):
            self._write_all(lines.data)
            return
        rest = iter(lines)
        while piece := list(itertools.islice(rest, _PIECE)):
            self._write_all(("\n".join(piece) + "\n").encode("utf-8", "backslashreplace"))

    def _write_all(self, data: bytes | memoryview) -> None:
        data = memoryview(data)
        while data:
            data = data[os.write(self._fd, data) :]

    def _written(self, error: Exception | None) -> None:
        self._room.release()
        if error is not None:
            self._fail(error)

    async def finish(self, timeout_s: float) -> bool:
        """Wait until all lines are written, at most ``timeout_s``; return whether they are.

        No more can be put then. A regular file has no reader that could stall, only a busy machine
        behind it: it gets at least ``FILE_S``.
        """
        if self._fd >= 0 and stat.S_ISREG(os.fstat(self._fd).st_mode):
            timeout_s = max(timeout_s, FILE_S)
        try:
            async with asyncio.timeout(timeout_s):
                for _ in range(_QUEUED):  # all room is free once all is written
                    await self._room.acquire()
        except TimeoutError:
            return False
        finally:
            if self._watched:
                self._loop.remove_reader(self._fd)
                self._watched = False
        self._queue.put(None)  # ends the thread
        if self._owned:
            # Or the reader of a FIFO would wait for as long as a console runs.
            self._owned = False
            os.close(self._fd)
        return True

    def check(self) -> None:
        """Raise what making lines raised, or a QtctlError if they could not be written (disk full).

        A reader that left is no error.
        """
        if isinstance(self.error, BrokenPipeError):
            return
        if isinstance(self.error, OSError):
            raise QtctlError(f"cannot write the records: {self.error.strerror or self.error}")
        if self.error is not None:
            raise self.error
