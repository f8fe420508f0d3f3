"""Where a stream verb's records go: formatted and written by a thread of its own.

A reader that stalls must neither stall the giving back of a guest nor the process's end, so bytes
go straight to the descriptor, through a short queue, from a thread nobody waits for for ever.
"""

from __future__ import annotations

import asyncio
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from qtctl.errors import QtctlError, UsageError

_FLUSH_S = 1.0
_QUEUED = 4
_NAMES = 10_000
_PIECE = 512
"""Records that become text at once."""

MakeLines = Callable[[int], Iterable[str]]
"""Makes the lines of the first so many records: of no more than are shown."""


class Output(Protocol):
    """Where the lines of a stream go.

    ``tells_news`` says that what the monitor and other consoles tell is shown there by itself.
    ``most_rows`` is how many rows of an answer are of use there, None where all are.
    """

    error: OSError | None
    tells_news: bool
    most_rows: int | None

    async def put(self, lines: MakeLines, records: int = 0) -> None:
        """Take lines to be made and shown, in order; waits while there is no room.

        ``records`` says of how many: an output for the eye may show fewer, and tells that it did.
        0 is for a line that is no record, which is always shown.
        """

    async def finish(self, timeout_s: float) -> bool:
        """Wait until all is shown, at most ``timeout_s``; tell whether it is."""

    def check(self) -> None:
        """Raise what showing failed with, other than a reader that left."""


def open_new(path: Path) -> int:
    """Create a file for records (mode 0600) and return its descriptor.

    Raises:
        UsageError: it exists (qtctl never overwrites) or cannot be created.
    """
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} exists, and qtctl overwrites no file", hint="another -o"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot create {path}: {error.strerror}") from error


def free_name(path: Path) -> Path:
    """Return ``path``, or where that exists the first of ``path.1``, ``path.2`` ... that does not.

    Raises:
        QtctlError: there are ten thousand of them.
    """
    for number in range(_NAMES):
        free = path.with_name(f"{path.name}.{number}") if number else path
        if not os.path.lexists(free):
            return free
    raise QtctlError(f"{path} and {_NAMES - 1} files after it exist", hint="another -o")


def new_folder(path: Path) -> None:
    """Create a folder (mode 0700) for files of records.

    Raises:
        UsageError: it exists (qtctl adds to no folder) or cannot be created.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        raise UsageError(f"{path} exists, and a new folder is wanted", hint="another -o") from None
    except OSError as error:
        raise UsageError(f"cannot create {path}: {error.strerror}") from error


async def put(output: Output, lines: MakeLines, stop: asyncio.Event, records: int = 0) -> bool:
    """Queue lines, and return whether they were queued; after ``stop`` wait only a moment."""
    putting = asyncio.ensure_future(output.put(lines, records))
    if not stop.is_set():
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({putting, stopped}, return_when="FIRST_COMPLETED")
        stopped.cancel()
    if not putting.done():
        await asyncio.wait({putting}, timeout=_FLUSH_S)
        putting.cancel()
    return putting.done()


class Sink:
    """Writes lines to a descriptor, in order. ``failed`` is called once if writing fails."""

    tells_news = False
    most_rows: int | None = None

    def __init__(self, fd: int, failed: Callable[[], None]) -> None:
        self._fd = fd
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(_QUEUED)
        self._idle = asyncio.Event()
        self._idle.set()
        self._queue: queue.SimpleQueue[tuple[MakeLines, int]] = queue.SimpleQueue()
        self._pending = 0
        self.error: OSError | None = None
        self._watched = self._watch_reader()
        threading.Thread(target=self._run, daemon=True, name="qtctl-output").start()

    def _watch_reader(self) -> bool:
        """Learn at once when whoever reads our pipe leaves, also while nothing is written."""
        if not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            return False
        try:
            self._loop.add_reader(self._fd, self._reader_left)
        except (OSError, ValueError):
            return False
        return True

    def _reader_left(self) -> None:
        self._loop.remove_reader(self._fd)
        self._watched = False
        self._fail(BrokenPipeError())

    def _fail(self, error: OSError) -> None:
        if self.error is None:
            self.error = error
            self._failed()

    async def put(self, lines: MakeLines, records: int = 0) -> None:
        """Queue lines to be made and written; waits while the queue is full."""
        await self._room.acquire()
        self._pending += 1
        self._idle.clear()
        self._queue.put((lines, records))

    def _run(self) -> None:
        while True:
            lines, records = self._queue.get()
            error: OSError | None = None
            try:
                if self.error is None:
                    self._write(lines(records))
            except OSError as failure:
                error = failure
            try:
                self._loop.call_soon_threadsafe(self._written, error)
            except RuntimeError:  # the loop has ended: nobody waits for us
                return

    def _write(self, lines: Iterable[str]) -> None:
        piece: list[str] = []
        for line in lines:
            piece.append(line)
            if len(piece) == _PIECE:
                self._write_all(piece)
                piece = []
        self._write_all(piece)

    def _write_all(self, lines: list[str]) -> None:
        if not lines:
            return
        data = memoryview(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))
        while data:
            data = data[os.write(self._fd, data) :]

    def _written(self, error: OSError | None) -> None:
        self._pending -= 1
        self._room.release()
        if not self._pending:
            self._idle.set()
        if error is not None:
            self._fail(error)

    async def finish(self, timeout_s: float) -> bool:
        """Wait until all is written, at most ``timeout_s``; tell whether it is."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            if self._watched:
                self._loop.remove_reader(self._fd)
        return True

    def check(self) -> None:
        """Raise what writing failed with, other than a reader that left.

        Raises:
            QtctlError: the output cannot be written (disk full).
        """
        if self.error is not None and not isinstance(self.error, BrokenPipeError):
            raise QtctlError(f"cannot write the records: {self.error.strerror or self.error}")
