"""The log backend: where QEMU's log goes, and pointing it at a spool and back.

QEMU source: ``util/log.c``, ``monitor/misc.c`` (``logfile``), ``trace/control.c``; checked on 7.2,
10.0 and 11.1. There is no way to ask QEMU for its log file, so the process's open files tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from qtctl.backends.spool.spool import Spool
from qtctl.errors import QtctlError, Unsupported
from qtctl.model import Guest

_VERIFY_TIMEOUT_S = 1.0
_VERIFY_POLL_S = 0.01


class Reach(StrEnum):
    """What QEMU's log goes to, as far as another process can read it."""

    FILE = "file"
    TERMINAL = "terminal"
    PIPE = "pipe"
    SOCKET = "socket"
    NULL = "null"
    NOWHERE = "nowhere"
    PER_THREAD = "per-thread"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where the log goes. ``path`` is for people; ``fd`` is the guest's descriptor of a file.

    ``undo`` is the HMP ``logfile`` argument that leads back here, or empty where none does.
    """

    reach: Reach
    path: str = ""
    fd: int = -1
    undo: str = ""

    def __str__(self) -> str:
        return self.path or _WORDS[self.reach]


_WORDS = {
    Reach.NOWHERE: "nowhere (daemonized without -D)",
    Reach.PER_THREAD: "one file per thread (-d tid)",
    Reach.UNKNOWN: "unknown (the guest's process cannot be seen from here)",
}


class Hmp(Protocol):
    """What is needed of a monitor here."""

    async def hmp(self, line: str) -> str:
        """Run one line of the human monitor and return its text."""


@dataclass(frozen=True, slots=True)
class _Open:
    fd: int
    path: str
    mode: int
    write_only: bool
    inode: tuple[int, int]

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_log_file(self) -> bool:
        # The ftrace backend's trace_marker looks like a plain file that is written only.
        return self.is_file and self.write_only and not self.path.endswith("/trace_marker")


def find_log(
    guest: Guest | None, log_file: str | None, daemonized: bool, per_thread: bool
) -> LogTarget:
    """Find out where the guest's log goes now. Sends nothing to it.

    ``log_file`` is the argument of ``-D`` (or of ``-trace file=`` where only the log backend is
    built), ``daemonized`` and ``per_thread`` tell of ``-daemonize`` and ``-d tid``.
    """
    if per_thread:
        return LogTarget(Reach.PER_THREAD)
    if guest is None:
        return LogTarget(Reach.UNKNOWN)
    try:
        opened = _open_files(guest.pid)
    except OSError:
        return LogTarget(Reach.UNKNOWN)
    stderr = next((entry for entry in opened if entry.fd == 2), None)
    if daemonized:  # QEMU makes a daemon's log its stderr
        if stderr is None or not stderr.is_file:
            return LogTarget(Reach.NOWHERE, undo="/dev/null")
        return LogTarget(Reach.FILE, stderr.path, 2)
    chosen = _log_file_among(opened, guest, log_file)
    if chosen is not None:
        return LogTarget(Reach.FILE, chosen.path, chosen.fd)
    return _named_device(opened, guest, log_file) or _standard_error(stderr)


def _log_file_among(opened: list[_Open], guest: Guest, log_file: str | None) -> _Open | None:
    """Pick the descriptor ``util/log.c`` made: write-only, a plain file, not a device's output."""
    files = [e for e in opened if e.fd > 2 and e.is_log_file and not _given_up(e)]
    if log_file:
        path = Path(guest.cwd, log_file.replace("%d", str(guest.pid)))
        for entry in files:
            if entry.path.removesuffix(" (deleted)") == str(path) or _same(guest, path, entry):
                return entry
    # Not one that the command line names for a device, unless the log is what it names.
    spoken = [word for word in guest.argv if word != log_file]
    free = [entry for entry in files if not any(Path(entry.path).name in word for word in spoken)]
    return max(free, key=lambda entry: entry.fd, default=None)


def _named_device(opened: list[_Open], guest: Guest, log_file: str | None) -> LogTarget | None:
    """Return what the command line names for the log, if that is no plain file and still open."""
    path = Path(guest.cwd, log_file or "")
    others = (e for e in opened if e.fd > 2 and e.write_only and not e.is_file)
    entry = next((e for e in others if log_file and _same(guest, path, e)), None)
    if entry is None:
        return None
    if stat.S_ISFIFO(entry.mode):  # opening it again would hang QEMU, should nobody read it
        return LogTarget(Reach.PIPE, f"{path}, a FIFO", undo="/dev/null")
    reach = Reach.NULL if entry.path == "/dev/null" else Reach.TERMINAL
    return LogTarget(reach, entry.path, undo=str(path))


def _given_up(entry: _Open) -> bool:
    """Tell whether this is a removed spool: QEMU closes a log some 50 ms after ``logfile``."""
    path = Path(entry.path)
    return path.name.endswith(" (deleted)") and path.parent.name.startswith("qtctl-spool-")


def _same(guest: Guest, path: Path, entry: _Open) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"{guest.root}{path}").stat()
        return (state.st_dev, state.st_ino) == entry.inode
    return False


def _standard_error(stderr: _Open | None) -> LogTarget:
    if stderr is None:
        return LogTarget(Reach.NULL, "a closed stderr", undo="/dev/null")
    if stderr.is_file:
        return LogTarget(Reach.FILE, stderr.path, 2)
    if stat.S_ISSOCK(stderr.mode):
        return LogTarget(Reach.SOCKET, "stderr, a socket", undo="/dev/null")
    if stat.S_ISFIFO(stderr.mode):
        return LogTarget(Reach.PIPE, "stderr, a pipe", undo="/dev/stderr")
    if stderr.path == "/dev/null":
        return LogTarget(Reach.NULL, "/dev/null", undo="/dev/null")
    return LogTarget(Reach.TERMINAL, f"stderr, {stderr.path}", undo="/dev/stderr")


def _open_files(pid: int) -> list[_Open]:
    found = []
    folder = Path(f"/proc/{pid}/fd")
    for entry in folder.iterdir():
        with contextlib.suppress(OSError, ValueError):
            state = entry.stat()
            info = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
            flags = int(info.split("flags:", 1)[1].split(None, 1)[0], 8)
            found.append(
                _Open(
                    int(entry.name),
                    str(entry.readlink()),
                    state.st_mode,
                    flags & os.O_ACCMODE == os.O_WRONLY,
                    (state.st_dev, state.st_ino),
                )
            )
    return sorted(found, key=lambda item: item.fd)


def has_open(pid: int, path: Path) -> bool:
    """Tell whether process ``pid`` has the file at ``path`` open."""
    with contextlib.suppress(OSError):
        state = path.stat()
        return has_inode(pid, (state.st_dev, state.st_ino))
    return False


def has_inode(pid: int, inode: tuple[int, int]) -> bool:
    """Tell whether process ``pid`` has the file with this device and inode open."""
    with contextlib.suppress(OSError):
        return any(entry.inode == inode for entry in _open_files(pid))
    return False


def quoted(path: str) -> str:
    """Quote a path for an HMP line (``monitor/hmp.c`` reads C-like escapes)."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


async def redirect(monitor: Hmp, guest: Guest, found: LogTarget, spool: Spool) -> None:
    """Point the log at ``spool``; it must appear among the guest's open files.

    Raises:
        Unsupported: QEMU would not open it; the log is back where it was as far as that goes.
    """
    if "%" in spool.seen:
        raise Unsupported(f"QEMU refuses a log file with '%' in its path: {spool.seen}")
    answer = await monitor.hmp(f"logfile {quoted(spool.seen)}")
    deadline = asyncio.get_running_loop().time() + _VERIFY_TIMEOUT_S
    while not answer.strip() and not has_open(guest.pid, spool.path):
        if asyncio.get_running_loop().time() > deadline:
            answer = "QEMU said nothing and did not open it"
            break
        await asyncio.sleep(_VERIFY_POLL_S)
    if answer.strip():
        # A failed logfile leaves the trace going nowhere until the next good one.
        await put_back(monitor, guest, found.undo, spool.path)
        raise Unsupported(
            f"guest {guest.pid} cannot log to {spool.seen}: {answer.strip()}",
            hint="start QEMU with -D FILE",
        )


async def put_back(monitor: Hmp, guest: Guest | None, undo: str, spool: Path) -> str:
    """Point the log back to ``undo`` and return what could not be put back, in words, or ''.

    A path that is already in use by the guest for something else is left alone.
    """
    if guest is not None and not has_open(guest.pid, spool):
        return ""
    ways = [undo]
    if undo == "/dev/stderr":
        # Opening a FIFO that nobody reads would hang QEMU.
        opens = guest is None or _stderr_opens(guest.pid)
        ways = [undo, "/proc/self/fd/2", "/dev/null"] if opens else ["/dev/null"]
    answer = ""
    for way in ways:
        answer = (await monitor.hmp(f"logfile {quoted(way)}")).strip()
        if not answer:
            break
    if answer:
        return f"the log now goes nowhere: {answer}"
    if way != undo:
        return f"the log now goes to {way}"
    return ""


def _stderr_opens(pid: int) -> bool:
    try:
        if not stat.S_ISFIFO(os.stat(f"/proc/{pid}/fd/2").st_mode):  # noqa: PTH116
            return True
        os.close(os.open(f"/proc/{pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def refusal(target: LogTarget) -> QtctlError:
    """Return why a log at ``target`` can neither be read nor pointed elsewhere."""
    if target.reach is Reach.PER_THREAD:
        return Unsupported(
            "this guest writes one log file per thread (-d tid) and QEMU will not change that",
            hint="follow the files themselves, or start QEMU without -d tid",
        )
    return Unsupported(
        f"the log of this guest cannot be followed: it goes {target}",
        hint="run qtctl on the guest's own machine, as the user that runs it",
    )
