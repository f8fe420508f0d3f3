"""Where QEMU's log goes, and redirecting it to a spool and back.

QEMU source: ``util/log.c``, ``monitor/misc.c`` (``logfile``), ``trace/control.c``; checked on 7.2,
10.0 and 11.1. There is no way to ask QEMU for its log file. The command line names it, and the open
files of the process show whether it is still that one: ``logfile`` of the human monitor moves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from qtctl.backends.spool.spool import Spool
from qtctl.errors import QtctlError, Unsupported
from qtctl.folders import inode_of
from qtctl.model import Guest
from qtctl.monitor.advice import run_beside, start_with

SIMPLE_MAGIC = 0xF2B177CB0AA429B4.to_bytes(8, sys.byteorder)
"""Bytes 8 to 15 of a file of the simple backend."""
_COARSE_NS = 20_000_000
"""By how much the kernel's times of files may be late."""
_VERIFY_TIMEOUT_S = 1.0
_VERIFY_POLL_S = 0.01


class LogReach(StrEnum):
    """Kind of file that the log goes to."""

    FILE = "file"
    TERMINAL = "terminal"
    PIPE = "pipe"
    SOCKET = "socket"
    NULL = "null"
    NOWHERE = "nowhere"
    PER_THREAD = "per-thread"
    MOVED = "moved"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where the log goes. ``path`` is for people; ``fd`` is the guest's descriptor of a file.

    ``undo`` is the HMP ``logfile`` argument that leads back here, or empty where none does.
    ``others`` are files that may be the log instead, if somebody moved it with ``logfile``.
    ``missing`` is a log file that the command line names and that is not open: ``logfile`` moved
    the log, or the file was renamed, so that ``path`` is a guess.
    """

    reach: LogReach
    path: str = ""
    fd: int = -1
    undo: str = ""
    others: tuple[LogTarget, ...] = ()
    missing: str = ""

    @property
    def certain(self) -> bool:
        """Whether the log goes there as far as the command line and the open files show."""
        return not self.others and not self.missing

    def __str__(self) -> str:
        path = self.path or _WORDS[self.reach]
        if self.missing:
            files = " or ".join((path, *(other.path for other in self.others)))
            guess = f"perhaps {files}" if self.path else path
            return f"{guess} (a guess: {self.missing}, which the command line names, is not open)"
        if self.others:
            files = " or ".join(other.path for other in self.others)
            return f"{path} (or {files}, if logfile of the human monitor moved it there)"
        return path


_WORDS = {
    LogReach.NOWHERE: "nowhere (daemonized without -D)",
    LogReach.PER_THREAD: "one file per thread (-d tid)",
    LogReach.UNKNOWN: "unknown (the guest's process cannot be seen from here)",
    LogReach.MOVED: "unknown",
}


class Hmp(Protocol):
    """A monitor that runs HMP commands."""

    async def hmp(self, line: str) -> str:
        """Run one line of the human monitor and return its text."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """One descriptor of the guest; ``inherits``: a program that it starts gets it, too."""

    fd: int
    path: str
    mode: int
    write_only: bool
    inherits: bool
    locked: bool
    inode: tuple[int, int]

    @property
    def is_file(self) -> bool:
        """Whether it is a plain file."""
        return stat.S_ISREG(self.mode)

    @property
    def may_be_log(self) -> bool:
        """Whether ``util/log.c`` may have opened it: ``fopen`` of a name, to write only, no lock.

        The output of a device and QEMU's own pid file are closed on exec. A lock file and the pid
        file of libvirt, which a guest inherits, are locked. The ftrace backend's trace_marker
        looks like a plain file.
        """
        named = self.path.startswith("/") and not self.path.endswith("/trace_marker")
        return self.fd > 2 and self.write_only and self.inherits and named and not self.locked


def find_log(
    guest: Guest | None,
    log_file: str | None,
    daemonized: bool,
    per_thread: bool,
    spools: Collection[str] = (),
) -> LogTarget:
    """Return where the guest's log goes now, as its command line and open files show.

    ``log_file`` is the argument of ``-D`` (or of ``-trace file=`` where only the log backend is
    built), ``daemonized`` and ``per_thread`` tell of ``-daemonize`` and ``-d tid``. ``spools`` are
    the files that qtctl pointed the log at, from the journal. Nothing is sent to the guest.
    """
    if per_thread:
        return LogTarget(LogReach.PER_THREAD)
    if guest is None:
        return LogTarget(LogReach.UNKNOWN)
    try:
        opened = open_files(guest.pid)
    except OSError:
        return LogTarget(LogReach.UNKNOWN)
    spool = next((e for path in spools for e in opened if inode_of(path) == e.inode), None)
    if spool is not None:
        return LogTarget(LogReach.FILE, spool.path, spool.fd)
    stderr = next((entry for entry in opened if entry.fd == 2), None)
    if daemonized:  # QEMU makes a daemon's log its stderr
        if stderr is None or (stderr.path == os.devnull and not log_file):
            return LogTarget(LogReach.NOWHERE, undo=os.devnull)
        return _as_target(stderr)
    named = _named_log(opened, guest, log_file) if log_file else None
    if named is not None:
        return named
    candidates = [_as_target(e) for e in opened if e.may_be_log and not _is_no_log(guest.pid, e)]
    files = [target for target in candidates if target.reach is LogReach.FILE]
    if not log_file:
        return replace(_standard_error(stderr), others=tuple(files))
    # A file before a device, and what was opened last.
    *others, guess = sorted(candidates, key=files.__contains__) or [LogTarget(LogReach.MOVED)]
    return replace(guess, others=tuple(others), missing=log_file)


def _named_log(opened: list[OpenFile], guest: Guest, log_file: str) -> LogTarget | None:
    """Return the log if what the command line names for it is open; a device may be named, too."""
    path = Path(guest.cwd, log_file.replace("%d", str(guest.pid)))
    seen = _own_descriptor(guest, str(path)) or f"{guest.root}{path}"
    for entry in opened:
        if entry.fd < 2 or not entry.write_only or (entry.fd == 2 and not entry.is_file):
            continue
        if entry.path.removesuffix(" (deleted)") == str(path) or inode_of(seen) == entry.inode:
            return _as_target(entry, "" if entry.is_file else str(path))
    return None


def _as_target(entry: OpenFile, name: str = "") -> LogTarget:
    """Return an open file as the target of the log; ``name`` is what it was opened by."""
    name = name or entry.path
    if entry.is_file:
        return LogTarget(LogReach.FILE, entry.path, entry.fd)
    if stat.S_ISFIFO(entry.mode):  # opening it again would hang QEMU, should nobody read it
        return LogTarget(LogReach.PIPE, f"{name}, a FIFO", undo=os.devnull)
    reach = LogReach.NULL if entry.path == os.devnull else LogReach.TERMINAL
    return LogTarget(reach, entry.path, undo=name)


_OWN = {"/dev/stdin": "0", "/dev/stdout": "1", "/dev/stderr": "2"}


def _own_descriptor(guest: Guest, path: str) -> str:
    """Return where we find what the guest calls ``/dev/stdout`` or ``/dev/fd/N``, else ''."""
    for prefix in ("/dev/fd/", "/proc/self/fd/"):
        if path.startswith(prefix):
            return f"/proc/{guest.pid}/fd/{path.removeprefix(prefix)}"
    return f"/proc/{guest.pid}/fd/{_OWN[path]}" if path in _OWN else ""


def _is_no_log(pid: int, entry: OpenFile) -> bool:
    """Return whether this is the trace file of the simple backend, or a spool that was removed.

    QEMU closes a log some 50 ms after ``logfile``.
    """
    path = Path(entry.path)
    if path.name.endswith(" (deleted)") and path.parent.name.startswith("qtctl-spool-"):
        return True
    if entry.is_file:
        with contextlib.suppress(OSError):
            return holds_trace(pid, entry.fd)
    return False


def holds_trace(pid: int, fd: int) -> bool:
    """Return whether an open file of a process begins as those of the simple backend do.

    Raises:
        OSError: it cannot be read.
    """
    with Path(f"/proc/{pid}/fd/{fd}").open("rb") as file:
        return file.read(16)[8:] == SIMPLE_MAGIC


def _standard_error(stderr: OpenFile | None) -> LogTarget:
    if stderr is None or not stderr.inherits:  # QEMU opened something else in its place
        return LogTarget(LogReach.NULL, "a closed stderr", undo=os.devnull)
    if stderr.is_file:
        return LogTarget(LogReach.FILE, stderr.path, 2)
    if stat.S_ISSOCK(stderr.mode):
        return LogTarget(LogReach.SOCKET, "stderr, a socket", undo=os.devnull)
    if stat.S_ISFIFO(stderr.mode):
        return LogTarget(LogReach.PIPE, "stderr, a pipe", undo="/dev/stderr")
    if stderr.path == os.devnull:
        return LogTarget(LogReach.NULL, os.devnull, undo=os.devnull)
    return LogTarget(LogReach.TERMINAL, f"stderr, {stderr.path}", undo="/dev/stderr")


def open_files(pid: int) -> list[OpenFile]:
    """Return the open files of a process, by descriptor.

    Raises:
        OSError: they may not be listed.
    """
    found = []
    folder = Path(f"/proc/{pid}/fd")
    for entry in folder.iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            state = entry.stat()
            info = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
            flags = int(info.split("flags:", 1)[1].split(None, 1)[0], 8)
            found.append(
                OpenFile(
                    int(entry.name),
                    str(entry.readlink()),
                    state.st_mode,
                    flags & os.O_ACCMODE == os.O_WRONLY,
                    not flags & os.O_CLOEXEC,
                    "\nlock:" in info,
                    (state.st_dev, state.st_ino),
                )
            )
    return sorted(found, key=lambda item: item.fd)


def has_open(pid: int, path: Path) -> bool:
    """Return whether process ``pid`` has the file at ``path`` open."""
    inode = inode_of(path)
    return inode is not None and has_inode(pid, inode)


def has_inode(pid: int, inode: tuple[int, int]) -> bool:
    """Return whether process ``pid`` has the file with this device and inode open."""
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it was closed meanwhile
                state = entry.stat()
                if (state.st_dev, state.st_ino) == inode:
                    return True
    return False


def owner_of(pid: int, fd: int) -> int | None:
    """Return the user that owns an open file of a process; None where that is not visible."""
    try:
        return os.stat(f"/proc/{pid}/fd/{fd}").st_uid  # noqa: PTH116
    except OSError:
        return None


def may_be_older(pid: int, fd: int, since_ns: int) -> bool:
    """Return whether an open log may hold text from before ``since_ns`` (Unix time).

    QEMU truncates a file that it opens, unless it appends; then the file may have been made since.

    Raises:
        OSError: the process no longer has it open.
    """
    info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
    if not int(info.split("flags:", 1)[1].split(None, 1)[0], 8) & os.O_APPEND:
        return False
    # Python has no statx(2).
    command = ["stat", "-L", "--format=%.9W", f"/proc/{pid}/fd/{fd}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    born = ran.stdout.strip().replace(".", "")
    return not born.isdigit() or int(born) < since_ns - _COARSE_NS


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
            hint=start_with(guest, "-D FILE"),
        )


async def put_back(monitor: Hmp, guest: Guest | None, undo: str, spool: Path) -> str:
    """Point the log back to ``undo``; return a sentence on what failed, else ''.

    A path that is already in use by the guest for something else is left alone.
    """
    if guest is not None and not has_open(guest.pid, spool):
        return ""
    ways = [undo]
    if undo == "/dev/stderr":
        # Opening a FIFO that nobody reads would hang QEMU.
        opens = guest is None or _stderr_opens(guest.pid)
        ways = [undo, "/proc/self/fd/2", "/dev/null"] if opens else ["/dev/null"]
    failures: list[str] = []
    with _openable_stderr(guest):
        for way in ways:
            answer = (await monitor.hmp(f"logfile {quoted(way)}")).strip()
            if not answer:  # libvirt's guests have no /dev/stderr, but the same by another name
                back = way in (undo, "/proc/self/fd/2")
                why = f": {failures[0]}" if failures else ", for nobody reads its stderr"
                return "" if back else f"the log now goes to {way}{why}"
            failures.append(answer)
    return f"the log now goes nowhere: {failures[-1]}"


@contextlib.contextmanager
def _openable_stderr(guest: Guest | None) -> Iterator[None]:
    """As root, let a guest open its stderr again during the block.

    libvirt's guests log to a pipe of virtlogd's, which is root's, and run as another user.
    """
    owner = owner_of(guest.pid, 2) if guest is not None and os.geteuid() == 0 else None
    if guest is None or owner is None or owner == guest.uid:
        yield
        return
    path = f"/proc/{guest.pid}/fd/2"
    with contextlib.suppress(OSError):  # it answers what it cannot open
        os.chown(path, guest.uid, -1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the guest has ended
            os.chown(path, owner, -1)


def _stderr_opens(pid: int) -> bool:
    try:
        if not stat.S_ISFIFO(os.stat(f"/proc/{pid}/fd/2").st_mode):  # noqa: PTH116
            return True
        os.close(os.open(f"/proc/{pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def refusal(target: LogTarget, guest: Guest | None) -> QtctlError:
    """Return why a log at ``target`` can neither be read nor pointed elsewhere."""
    if target.reach is LogReach.PER_THREAD:
        return Unsupported(
            "this guest writes one log file per thread (-d tid) and QEMU will not change that",
            hint="follow the files themselves, or start it without -d tid",
        )
    if target.reach is LogReach.MOVED:
        return Unsupported(
            f"the log of this guest goes to a place that is not known: {target.missing}, which its "
            "command line names, is not open",
            hint="qtctl hmp 'logfile FILE', with a new file",
        )
    return Unsupported(
        f"the log of this guest cannot be followed: it goes {target}",
        hint=run_beside(guest),
    )
