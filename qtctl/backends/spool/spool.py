"""A private file that QEMU writes and qtctl reads, bounded by punching holes behind the reader.

Truncating a live log loses lines; ``FALLOC_FL_PUNCH_HOLE`` (fallocate(2)) does not. Each reader
frees what lies well behind it; a keeper process frees the oldest bytes when no reader does, so
that a stopped or killed qtctl cannot fill the disk. Checked on ext4 with QEMU 7.2 and 10.0.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qtctl.errors import Unsupported
from qtctl.folders import cache_folder, runtime_folder
from qtctl.model import Guest
from qtctl.monitor.advice import start_with

MIB = 1 << 20
LIMIT_BYTES = 48 * MIB
"""Allocated bytes at which the keeper frees the oldest half."""
FREE_SPACE_BYTES = 128 * MIB
"""Bytes that a file system must have free for a spool."""

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_FOLDER = "qtctl-spool-"
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def punch(fd: int, start: int, end: int) -> None:
    """Free the bytes [start, end) of a file and keep its size.

    Raises:
        OSError: the file system cannot do it (``EOPNOTSUPP``).
    """
    if end > start and _libc.fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, start, end - start):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@dataclass(frozen=True, slots=True)
class Spool:
    """``path`` is the file as this process sees it, ``seen`` as the guest does."""

    path: Path
    seen: str


def make_spool(
    guest: Guest,
    planned: Callable[[Spool], None] = lambda spool: None,
    refused: dict[Path, str] | None = None,
) -> Spool:
    """Create an empty spool (0600, in a new 0700 folder) where the guest can open it.

    ``planned`` is called with each attempt before anything is created, to journal it. ``refused``
    are the folders that cannot be used, with the reasons; what fails here is added.

    Raises:
        Unsupported: no other folder that the guest can see has room and can punch holes.
    """
    refused = {} if refused is None else refused
    for base in _bases(guest):
        if base not in refused:
            try:
                return _make_below(base, guest, planned)
            except OSError as error:
                refused[base] = error.strerror or str(error)
    tried = ", ".join(f"{base} ({why})" for base, why in refused.items())
    raise Unsupported(
        f"no place for a spool that guest {guest.pid} can write: {tried}",
        hint=f"free 128 MiB there, or {start_with(guest, '-D FILE')}",
    )


def _bases(guest: Guest) -> list[Path]:
    """Folders to try, best first. Another user's QEMU cannot enter our own.

    Those in memory come first: a line costs the guest less there than on a disk. Not for a guest
    of another user: its memory may be counted and limited.
    """
    if guest.root or guest.uid != os.getuid():
        return [Path(guest.root + place) for place in ("/var/tmp", "/tmp", "/run")]  # noqa: S108
    runtime = runtime_folder()
    return [
        *([runtime / "qtctl"] if runtime else []),
        *([_SHARED_MEMORY] if _SHARED_MEMORY.is_dir() else []),
        cache_folder(),
        Path(tempfile.gettempdir()),
    ]


def _make_below(base: Path, guest: Guest, planned: Callable[[Spool], None]) -> Spool:
    if not guest.root and guest.uid == os.getuid():
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
    room = os.statvfs(base)
    if room.f_bavail * room.f_frsize < FREE_SPACE_BYTES:
        raise OSError(28, "less than 128 MiB free")
    folder = base / f"{_FOLDER}{secrets.token_hex(6)}"
    path = folder / "log"
    spool = Spool(path, str(path).removeprefix(guest.root) if guest.root else str(path))
    planned(spool)
    folder.mkdir(mode=0o700)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            os.write(fd, b"\0" * 4096)
            punch(fd, 0, 4096)
            os.ftruncate(fd, 0)
            if guest.uid != os.getuid():
                os.fchown(fd, guest.uid, -1)
                os.chown(folder, guest.uid, -1)
        finally:
            os.close(fd)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return spool


def remove_spool(path: Path) -> None:
    """Remove a spool and its folder; a guest that still has it open is not affected.

    Any other file is left, for the path comes from a journal.
    """
    if not path.parent.name.startswith(_FOLDER):
        return
    with contextlib.suppress(OSError, ValueError):
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def start_keeper(path: Path, guest_pid: int, *, head: int = 0) -> None:
    """Start the process that bounds ``path`` until it is removed or the guest ends.

    Of the file's first ``head`` bytes it frees none.

    It detaches itself, for it outlives this process on purpose: a killed qtctl leaves the guest
    writing. Returns when it runs.

    Raises:
        OSError: it could not be started.
    """
    program = Path(__file__).with_name("keeper.py")
    command = [sys.executable, "-I", "-S", str(program), str(path), str(guest_pid)]
    try:
        subprocess.run(
            [*command, str(LIMIT_BYTES), str(head)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise OSError(f"the keeper of {path} ended with code {error.returncode}") from error
