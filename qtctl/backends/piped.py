"""Files that come through a pipe: standard input (``-``), or ``<(COMMAND)`` of a shell.

Text is read as it comes; everything else, and what is read several times, from a copy on disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

from qtctl.backends.saved import CHUNK_BYTES, PlainFile
from qtctl.backends.splitting import SPAN_S
from qtctl.errors import QtctlError, UsageError

STDIN = Path("-")
_STDIN = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_DESCRIPTORS = ("/dev/fd", "/proc/self/fd")
_HEAD_BYTES = 64
"""So much shows whether it is text."""
_MOST_HEAD = 64 << 20
"""So much is read to find the first record."""
_POLL_S = 0.5

_copies: dict[tuple[int, int], IO[bytes]] = {}


def open_readable(path: Path, stop: threading.Event, *, again: bool = False) -> PlainFile:
    """Open a file, or a pipe, which ends when ``stop`` is set.

    ``again``: it will be opened once more, and has to be the same then.

    Raises:
        UsageError: it cannot be read, or is a terminal, a device or a FIFO of a name.
    """
    standard = path == STDIN or str(path) in _STDIN
    if not standard and str(path.parent) not in _DESCRIPTORS:
        return PlainFile(path)
    try:
        fd = os.dup(0) if standard else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        state = os.fstat(fd)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    path = Path("stdin") if standard else path
    key = state.st_dev, state.st_ino
    if key in _copies:
        os.close(fd)
        return PlainFile(path, os.dup(_copies[key].fileno()))
    if stat.S_ISREG(state.st_mode):
        return PlainFile(path, fd)
    if not (stat.S_ISFIFO(state.st_mode) or stat.S_ISSOCK(state.st_mode)):
        what = "a terminal" if os.isatty(fd) else "neither a file nor a pipe"
        os.close(fd)
        raise UsageError(f"{path} is {what}", hint="PROGRAM | qtctl replay -")
    piped = PipedFile(path, fd, stop)
    if not again:
        return piped
    _copies[key] = piped.copied()
    piped.close()
    return PlainFile(path, os.dup(_copies[key].fileno()))


class PipedFile(PlainFile):
    """A pipe that is read once: what was read before it is known how is kept until then.

    It ends when ``stop`` is set, also for a thread that waits for more.
    """

    def __init__(self, path: Path, fd: int, stop: threading.Event) -> None:
        super().__init__(path, fd)
        self._stop = stop
        self.size = 0
        self._head = bytearray()
        self._ended = self._came = False
        with contextlib.suppress(OSError):  # it is a socket
            # Small parts are slow: each is decoded, filtered and counted by itself.
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 2 * CHUNK_BYTES)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    @property
    def modified_ns(self) -> int:
        """The time at which its bytes are read."""
        return time.time_ns()

    def at(self, offset: int, size: int) -> bytes:
        """Return bytes from somewhere behind its begin; wait for some if none are there."""
        had = len(self._head)
        while not self._ended and had <= offset and had < _MOST_HEAD:
            more = self._next()
            self._head += more
            enough = len(self._head) >= _HEAD_BYTES and b"\n" in more
            if (enough and len(self._head) > offset) or len(self._head) - had >= size:
                break
        return bytes(self._head[offset : offset + size])

    def more(self, *, lines: bool = False) -> bytes:
        """Return the next bytes; none at the end, or if none came for a moment: see ``waits``."""
        data = bytes(self._head) or self._next(SPAN_S if self._came else _POLL_S)
        self._head.clear()
        self._came = bool(data)
        self.taken += len(data)
        self.waits = not data and not self._ended
        return data

    def _next(self, timeout_s: float | None = None) -> bytes:
        """Wait for the next bytes; none at the end, or after ``timeout_s``."""
        while not self._ended and not self._stop.is_set():
            if self._poll.poll((timeout_s or _POLL_S) * 1000):
                data = os.read(self._fd, CHUNK_BYTES)
                self._ended = not data
                return data
            if timeout_s is not None:
                return b""
        self._ended = True
        return b""

    def whole(self) -> PlainFile:
        """Read it to its end, and return a copy that is read as a file."""
        with self.copied() as copy:
            return PlainFile(self.path, os.dup(copy.fileno()))

    def copied(self) -> IO[bytes]:
        """Read it to its end, into a file without a name.

        Raises:
            QtctlError: there is no room for it.
        """
        copy = tempfile.TemporaryFile(prefix="qtctl-")  # noqa: SIM115 - the caller closes it
        try:
            data = bytes(self._head)
            while data or not self._ended:
                copy.write(data)
                data = self._next()
            copy.flush()
        except OSError as error:
            copy.close()
            raise QtctlError(
                f"no room for a copy of {self.path}: {error.strerror}", hint="TMPDIR=FOLDER"
            ) from error
        return copy

    def grew(self) -> bool:
        """Return False: it is read to its end."""
        return False
