"""The place that ``-o`` names: checked first, opened late, and removed if it was not completed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import io
import os
import re
import select
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from qtctl.errors import QtctlError, UsageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NAMES = 10_000
_STALL_POLL_MS = 200
_STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_DESCRIPTOR = re.compile(r"/dev/stderr|(?:/dev|/proc/self)/fd/(\d+)")


class Out:
    """The place that ``-o`` names: a new file or folder, a FIFO, a device, a descriptor, or stdout.

    The constructor checks what can be checked and changes nothing. ``needs_file`` names a format
    that is read from its end: it goes to a new file, or to a device. ``needs_folder`` names a
    format that is a folder: it goes to a new one.

    Raises, also in the methods that open or create:
        UsageError: the file exists (qtctl never overwrites), or cannot be opened or created.
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
        if self._kind in ("descriptor", "device"):
            handle = self.open()
            try:
                if os.isatty(handle):
                    hint = "without -o the terminal gets it, escaped"
                    raise UsageError(f"{self} is a terminal", hint=hint)
                if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                    raise UsageError(f"{self} is open for reading only")
            finally:
                os.close(handle)
        elif self._kind == "new":
            _check_new(self.path)

    def has_reader(self) -> bool:
        """Open a FIFO if it has a reader; return whether it has, True for anything else."""
        if self._kind != "fifo" or self._fifo is not None:
            return True
        try:
            self._fifo = _open_existing(self.path)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return False
            raise UsageError(f"cannot write to {self}: {error.strerror}") from error
        os.set_blocking(self._fifo, True)
        return True

    def open(self) -> int:
        """Open it, creating a new file (mode 0600), and return a descriptor to close."""
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
        with _creating(self.path):
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._created = True
        return handle

    def open_binary(self, stop: asyncio.Event) -> IO[bytes]:
        """Open it for a format that is no text; once ``stop`` is set no reader is waited for."""
        handle = self.open()
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return os.fdopen(handle, "wb")
        return io.BufferedWriter(_PipeWriter(handle, stop))

    def create_folder(self) -> Path:
        """Create the folder (mode 0700), which must be new, and return its path."""
        with _creating(self.path):
            self.path.mkdir(mode=0o700)
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


def _check_new(path: Path) -> None:
    """Raise a UsageError if no file or folder can be created at ``path``."""
    if os.path.lexists(path):
        if path.is_dir():
            hint = f"-o {shlex.quote(str(path / 'NAME'))}"
        elif path.is_symlink() or path.is_file():
            hint = f"another -o, or: mv {shlex.join([str(path), f'{path}.old'])}"
        else:
            hint = "another -o"
        raise UsageError(f"{path} exists, and qtctl overwrites no file", hint=hint)
    try:
        os.stat(f"{path.parent}/.")  # noqa: PTH116 - Path drops the dot, which asks for a folder
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UsageError(f"cannot create {path}: {error.strerror}", hint="another -o") from error


@contextlib.contextmanager
def _creating(path: Path) -> Iterator[None]:
    """Raise a UsageError if the block cannot create ``path``, which did not exist a moment ago."""
    try:
        yield
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
