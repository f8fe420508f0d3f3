"""The output of a stream verb: lines are formatted and written by a thread.

A stalled reader must block neither the restoring of a guest nor the process's end. So bytes go
straight to the descriptor, through a short queue, from a daemon thread.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import io
import os
import queue
import re
import select
import shlex
import stat
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, Protocol

from qtctl.errors import QtctlError, UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


FILE_S = 60.0
"""How long the last lines of a file may take to be written, in seconds."""
_FLUSH_S = 1.0
_QUEUED = 4
_NAMES = 10_000
_STALL_POLL_MS = 200
_STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_DESCRIPTOR = re.compile(r"/dev/stderr|(?:/dev|/proc/self)/fd/(\d+)")
_PIECE = 512
"""So many lines are written at once."""

MakeLines = Callable[[int], Iterable[str]]
"""Returns the lines of the first N records, so that only those are formatted which are shown."""


class Output(Protocol):
    """Where the lines of a stream go.

    ``tells_news``: QMP events, marks and switches are already shown there. ``most_rows`` limits the
    rows of an answer, None: no limit.
    """

    error: OSError | None
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
        """Raise the error that output failed with, except for a reader that left."""


class Out:
    """The place that ``-o`` names: a new file or folder, a FIFO, a device, a descriptor, or stdout.

    The constructor checks what can be checked and changes nothing. ``needs_file`` names a format
    that is read from its end: it goes to a new file, or to a device. ``needs_folder`` names a
    format that is a folder: it goes to a new one.

    Raises:
        UsageError: the file exists (qtctl never overwrites), or cannot be written.
    """

    def __init__(self, path: Path | None, *, needs_file: str = "", needs_folder: str = "") -> None:
        self.path = Path("-") if path is None else path
        self._kind = _kind(self.path)
        self._fifo: int | None = None
        self._created = False
        if needs_folder and self._kind != "new":
            raise UsageError(
                f"{needs_folder} takes a folder, and {self} is none", hint="-o FOLDER, a new one"
            )
        if needs_file and self._kind not in ("new", "device"):
            raise UsageError(
                f"{needs_file} is read from its end, so it cannot go to {self}",
                hint="-o FILE, a new file",
            )
        try:
            self._check()
        except OSError as error:
            raise UsageError(f"cannot write to {self}: {error.strerror}") from error

    def __str__(self) -> str:
        return "stdout" if self.is_stdout else str(self.path)

    @property
    def is_stdout(self) -> bool:
        """Whether this is stdout."""
        return self._kind == "stdout"

    def _check(self) -> None:
        match self._kind:
            case "descriptor":
                descriptor = _descriptor(self.path)
                _refuse_terminal(self.path, descriptor)
                if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                    raise UsageError(f"{self} is open for reading only")
            case "device":
                handle = _open_existing(self.path)
                try:
                    _refuse_terminal(self.path, handle)
                finally:
                    os.close(handle)
            case "new":
                _check_new(self.path)

    def has_reader(self) -> bool:
        """Open a FIFO if it has a reader; return whether it has, True for anything else.

        Raises:
            UsageError: the FIFO cannot be opened.
        """
        if self._kind == "fifo" and self._fifo is None:
            self._fifo = _open_fifo(self.path)
        return self._kind != "fifo" or self._fifo is not None

    def open(self) -> int:
        """Open it, creating a new file (mode 0600), and return a descriptor to close.

        Raises:
            UsageError: it cannot be opened or created.
        """
        match self._kind:
            case "stdout":
                return os.dup(sys.stdout.fileno())
            case "descriptor":
                return os.dup(_descriptor(self.path))
            case "device":
                return _open_existing(self.path)
        if self._fifo is not None:
            fifo, self._fifo = self._fifo, None
            return fifo
        handle = _open_new(self.path)
        self._created = True
        return handle

    def open_binary(self, stop: asyncio.Event) -> IO[bytes]:
        """Open it for a format that is no text; once ``stop`` is set no reader is waited for.

        Raises:
            UsageError: it cannot be opened or created.
        """
        handle = self.open()
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return os.fdopen(handle, "wb")
        return io.BufferedWriter(_PipeWriter(handle, stop))

    def create_folder(self) -> Path:
        """Create the folder (mode 0700) and return its path.

        Raises:
            UsageError: it exists (qtctl adds to no folder) or cannot be created.
        """
        try:
            self.path.mkdir(mode=0o700)
        except FileExistsError:
            _check_new(self.path)
            raise
        except OSError as error:
            raise UsageError(f"cannot create {self}: {error.strerror}") from error
        self._created = True
        return self.path

    def remove(self) -> bool:
        """Remove the file or folder that was created here; return whether there was one."""
        if self._created and self.path.is_dir():
            import shutil  # imports what reads archives

            shutil.rmtree(self.path, ignore_errors=True)
        elif self._created:
            self.path.unlink(missing_ok=True)
        return self._created


_Kind = Literal["stdout", "descriptor", "fifo", "device", "new"]


def _kind(path: Path) -> _Kind:
    if str(path) in _STDOUT:
        return "stdout"
    if _DESCRIPTOR.fullmatch(str(path)):
        return "descriptor"
    try:
        mode = path.stat().st_mode
    except OSError:
        return "new"
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "device" if stat.S_ISCHR(mode) else "new"


def _descriptor(path: Path) -> int:
    named = _DESCRIPTOR.fullmatch(str(path))
    return int(named[1] or 2) if named else -1


class _PipeWriter(io.RawIOBase):
    """A pipe or device; writing to one whose reader has stalled ends with ``stop``."""

    def __init__(self, handle: int, stop: asyncio.Event) -> None:
        self._handle = handle
        self._stop = stop
        self._poll = select.poll()
        self._poll.register(handle, select.POLLOUT)

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        while not self._poll.poll(_STALL_POLL_MS):
            if self._stop.is_set():
                raise BrokenPipeError(errno.EPIPE, "the reader has stalled")
        # So much fits whenever the pipe has room at all: the call does not block.
        return os.write(self._handle, memoryview(data)[: select.PIPE_BUF])

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._handle)


def _open_existing(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def _open_fifo(path: Path) -> int | None:
    """Open a FIFO for writing; return None while nobody reads it."""
    try:
        handle = _open_existing(path)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise UsageError(f"cannot write to {path}: {error.strerror}") from error
    os.set_blocking(handle, True)
    return handle


def _refuse_terminal(path: Path, descriptor: int) -> None:
    if os.isatty(descriptor):
        raise UsageError(f"{path} is a terminal", hint="without -o the terminal gets it, escaped")


def _check_new(path: Path) -> None:
    """Check that a file or folder can be created at ``path``.

    Raises:
        UsageError: it exists, or its folder does not, or may not be written.
    """
    if os.path.lexists(path):
        if path.is_dir():
            hint = f"-o {shlex.quote(str(path / 'NAME'))}"
        elif path.is_symlink() or path.is_file():
            hint = f"another -o, or: mv {shlex.join([str(path), f'{path}.old'])}"
        else:
            hint = "another -o"
        raise UsageError(f"{path} exists, and qtctl overwrites no file", hint=hint)
    folder = path.parent
    problem = ""
    if not folder.exists():
        problem = os.strerror(errno.ENOENT)
    elif not folder.is_dir():
        problem = os.strerror(errno.ENOTDIR)
    elif not os.access(folder, os.W_OK | os.X_OK):
        problem = os.strerror(errno.EACCES)
    if problem:
        raise UsageError(f"cannot create {path}: {problem}", hint="another -o")


def _open_new(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        _check_new(path)
        raise
    except OSError as error:
        raise UsageError(f"cannot create {path}: {error.strerror}") from error


def free_name(path: Path) -> Path:
    """Return ``path``, or where that exists the first of ``path.1``, ``path.2`` ... that does not.

    What is no file (stdout, a FIFO, a device) is returned as it is.

    Raises:
        QtctlError: there are ten thousand of them.
    """
    if _kind(path) != "new":
        return path
    for number in range(_NAMES):
        free = path.with_name(f"{path.name}.{number}") if number else path
        if not os.path.lexists(free):
            return free
    raise QtctlError(f"{path} and {_NAMES - 1} files after it exist", hint="another -o")


async def put(output: Output, lines: MakeLines, stop: asyncio.Event, records: int = 0) -> bool:
    """Queue lines, and return whether they were queued; after ``stop`` wait only a moment."""
    putting = asyncio.ensure_future(output.put(lines, records))
    if not stop.is_set():
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({putting, stopped}, return_when="FIRST_COMPLETED")
        stopped.cancel()
    if not putting.done():
        await asyncio.wait({putting}, timeout=_FLUSH_S)
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
        self._idle = asyncio.Event()
        self._idle.set()
        self._queue: queue.SimpleQueue[tuple[MakeLines, int] | None] = queue.SimpleQueue()
        self._pending = 0
        self.error: OSError | None = None
        self._watched = self._open is None and self._watch_reader()
        threading.Thread(target=self._run, daemon=True, name="qtctl-output").start()

    def _watch_reader(self) -> bool:
        """Watch for the reader of our pipe closing it, also while nothing is written."""
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
        """Queue lines to be made and written; waits while the queue is full.

        Raises:
            UsageError: it is the first call, and the file cannot be created.
        """
        if self._open is not None:
            self._fd, self._open, self._owned = self._open(), None, True
            self._watched = self._watch_reader()
        await self._room.acquire()
        self._pending += 1
        self._idle.clear()
        self._queue.put((lines, records))

    def _run(self) -> None:
        while (queued := self._queue.get()) is not None:
            lines, records = queued
            error: OSError | None = None
            try:
                if self.error is None:
                    self._write(lines(records))
            except OSError as failure:
                error = failure
            try:
                self._loop.call_soon_threadsafe(self._written, error)
            except RuntimeError:  # the loop has ended
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
        """Wait until all lines are written, at most ``timeout_s``; return whether they are.

        A regular file has no reader that could stall, only a busy machine behind it: it gets
        at least ``FILE_S``.
        """
        if self._fd >= 0 and stat.S_ISREG(os.fstat(self._fd).st_mode):
            timeout_s = max(timeout_s, FILE_S)
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            if self._watched:
                self._loop.remove_reader(self._fd)
                self._watched = False
        if self._owned:
            # Or the reader of a FIFO would wait for as long as a console runs.
            self._owned = False
            self._queue.put(None)
            os.close(self._fd)
        return True

    def check(self) -> None:
        """Raise the error that writing failed with, except for a reader that left.

        Raises:
            QtctlError: the output cannot be written (disk full).
        """
        if self.error is not None and not isinstance(self.error, BrokenPipeError):
            raise QtctlError(f"cannot write the records: {self.error.strerror or self.error}")
