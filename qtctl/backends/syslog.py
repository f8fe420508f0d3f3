"""The syslog backend: which daemon serves /dev/log, and where what it takes can be read.

QEMU calls openlog(NULL, LOG_PID, LOG_DAEMON) and syslog(3) (trace/control.c of QEMU, 7.2 to 11.1).
Where the lines end up is not asked of a daemon's configuration but tried: a marked message of our
own is sent, and found. Checked on rsyslog 8.2302 and systemd-journald 252.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from qtctl.errors import Unsupported

__all__ = ["Daemon", "Journal", "find_daemon", "find_file", "send_mark", "unit_of"]

SOCKET = "/dev/log"
WELL_KNOWN = ("/var/log/syslog", "/var/log/daemon.log", "/var/log/messages")
_JOURNAL_SOCKET = re.compile(r"/run/systemd/journal(?:\.([^/]+))?/dev-log")
_DROPPED_ID = "a596d6fe7bfa4994828e72309e95d61e"
"""SD_MESSAGE_JOURNAL_DROPPED (sd-messages.h): journald says how much it suppressed."""
FOUND_TIMEOUT_S = 3.0
_POLL_S = 0.01
_READ_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20
_TAIL_BYTES = 1 << 20
_END_S = 2.0
_START = "start rsyslog or systemd-journald (systemctl start rsyslog)"


@dataclass(frozen=True, slots=True)
class Daemon:
    """Who serves /dev/log. ``pid`` is 0 where it cannot be seen; ``namespace`` is journald's."""

    name: str
    pid: int = 0
    journald: bool = False
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.pid else self.name

    def alive(self) -> bool:
        """Tell whether its socket is still bound, and it runs as far as it is seen."""
        return _inode_of(os.path.realpath(SOCKET)) != 0 and (
            not self.pid or Path(f"/proc/{self.pid}").exists()
        )


def find_daemon() -> Daemon:
    """Return who serves /dev/log.

    Raises:
        Unsupported: nobody does.
    """
    place = os.path.realpath(SOCKET)
    inode = _inode_of(place)
    if not inode:
        raise Unsupported(
            f"nobody serves {SOCKET}, so what this guest says to the system log is lost",
            hint=_START,
        )
    journal = _JOURNAL_SOCKET.fullmatch(place)
    owner = next((pid for pid in _processes() if _holds(pid, inode)), 0)
    if journal is not None:
        return Daemon("systemd-journald", 0, True, journal[1] or "")
    if not owner:
        return Daemon("the log daemon")
    name = Path(f"/proc/{owner}/comm").read_text(errors="replace").strip()
    return Daemon(name, owner)


def _inode_of(place: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]:
            words = line.split(None, 7)
            if len(words) == 8 and words[7] == place:
                return int(words[6])
    return 0


def _processes() -> list[int]:
    return sorted((int(name) for name in os.listdir("/proc") if name.isdigit()), reverse=True)  # noqa: PTH208


def _holds(pid: int, inode: int) -> bool:
    with contextlib.suppress(OSError):
        return any(
            _link(entry) == f"socket:[{inode}]" for entry in Path(f"/proc/{pid}/fd").iterdir()
        )
    return False


def _link(entry: Path) -> str:
    with contextlib.suppress(OSError):
        return str(entry.readlink())
    return ""


def send_mark() -> str:
    """Send a message that can be recognised, as QEMU would send one; return its mark.

    Raises:
        Unsupported: the daemon does not take it.
    """
    mark = secrets.token_hex(8)
    head = time.strftime("%b %e %H:%M:%S")
    text = f"<30>{head} qtctl[{os.getpid()}]: looking for the system log {mark}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.settimeout(1.0)
            link.connect(SOCKET)
            link.send(text.encode())
    except OSError as error:
        raise Unsupported(
            f"{SOCKET} takes no message: {error.strerror or error}", hint=_START
        ) from error
    return mark


def find_file(daemon: Daemon) -> Path:
    """Return the file to which ``daemon`` writes messages of daemons. Sends one to find out.

    Raises:
        Unsupported: no file that can be read got the message.
    """
    before = {path: _size(path) for path in _files(daemon)}
    mark = send_mark().encode()
    deadline = time.monotonic() + FOUND_TIMEOUT_S
    while time.monotonic() < deadline:
        for path in _files(daemon):
            if mark in _read_from(path, before.get(path, 0)):
                return path
        time.sleep(_POLL_S)
    seen = ", ".join(map(str, _files(daemon))) or "no file of it can be seen from here"
    raise Unsupported(
        f"{daemon} took a message but wrote it to no file that can be read ({seen})",
        hint="run qtctl as root, or have daemon.info written to a file",
    )


def _files(daemon: Daemon) -> list[Path]:
    found: dict[Path, None] = {}
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{daemon.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if stat.S_ISREG(entry.stat().st_mode):
                    found[Path(_link(entry))] = None
    if not found:
        found = {Path(name): None for name in WELL_KNOWN}
    return [path for path in found if os.access(path, os.R_OK)]


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _read_from(path: Path, offset: int) -> bytes:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(offset, _size(path) - _TAIL_BYTES))
        return file.read(_TAIL_BYTES)
    return b""


def unit_of(pid: int) -> str:
    """Return the systemd unit of a process, or '' where there is none."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            last = line.rpartition("/")[2]
            if last.endswith((".service", ".scope")):
                return last
    return ""


class Journal:
    """What the journal gets from one process, followed by a ``journalctl`` of our own."""

    def __init__(self, daemon: Daemon, pid: int) -> None:
        self.taken = 0
        self.dry = False
        self._rest = b""
        command = ["journalctl", "--follow", "--lines=0", "--output=short-unix", "--all"]
        command += ["--no-pager", "--quiet"]
        if daemon.namespace:
            command.append(f"--namespace={daemon.namespace}")
        command += [f"_PID={pid}", "+", f"_PID={os.getpid()}", "+", f"MESSAGE_ID={_DROPPED_ID}"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise Unsupported(
                f"the journal cannot be read: journalctl: {error.strerror}",
                hint="install systemd's journalctl",
            ) from error
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def await_mark(self) -> None:
        """Wait until the journal shows a message of ours, so that none is missed from then on.

        Raises:
            Unsupported: it does not.
        """
        deadline = time.monotonic() + FOUND_TIMEOUT_S
        sent, marks = 0.0, []
        seen = b""
        while time.monotonic() < deadline and self._process.poll() is None:
            if time.monotonic() - sent > FOUND_TIMEOUT_S / 10:  # journalctl may start late
                marks.append(send_mark().encode())
                sent = time.monotonic()
            seen = (seen + self._take())[-_TAIL_BYTES:]
            if any(mark in seen for mark in marks):
                self._rest = seen
                return
            time.sleep(_POLL_S)
        ended = self._process.poll() is not None
        said = self._said() if ended else "journald took a message and does not show it"
        self.close()
        raise Unsupported(
            f"the journal cannot be followed: {said}",
            hint="run qtctl as root or in group systemd-journal; journald.conf: Storage=",
        )

    def _said(self) -> str:
        assert self._process.stderr is not None
        text = self._process.stderr.read(1 << 12).decode(errors="replace").strip()
        return text or f"journalctl ended with {self._process.returncode}"

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def ended(self) -> bool:
        """Tell whether journalctl has ended."""
        return self._process.poll() is not None

    def read(self) -> bytes:
        """Return what came, about 1 MiB at most; ``dry`` tells whether that was all."""
        data, self._rest = self._rest, b""
        data += self._take()
        self.taken += len(data)
        return data

    def _take(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        self.dry = False
        while size < _CHUNK_BYTES:
            try:
                data = os.read(self.fileno(), _READ_BYTES)
            except BlockingIOError:
                data = b""
            if not data:
                self.dry = True
                break
            parts.append(data)
            size += len(data)
        return b"".join(parts)

    def close(self) -> None:
        """End journalctl."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
