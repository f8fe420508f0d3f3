"""Finding the daemon that serves /dev/log, and where it writes messages.

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
import time
from dataclasses import dataclass
from pathlib import Path

from qtctl.backends.log.target import open_files
from qtctl.errors import Unsupported
from qtctl.monitor.kernel_sockets import unix_sockets_of
from qtctl.monitor.processes import socket_owners

SOCKET = "/dev/log"
WELL_KNOWN = ("/var/log/syslog", "/var/log/daemon.log", "/var/log/messages")
_JOURNAL_SOCKET = re.compile(r"/run/systemd/journal(?:\.([^/]+))?/dev-log")
FOUND_TIMEOUT_S = 3.0
_POLL_S = 0.01
_TAIL_BYTES = 1 << 20
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
        """Return whether its socket is still bound and, where it can be seen, it runs."""
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
    owner = socket_owners([inode]).get(inode, 0)
    if journal is not None:
        return Daemon("systemd-journald", 0, True, journal[1] or "")
    if not owner:
        return Daemon("the log daemon")
    name = Path(f"/proc/{owner}/comm").read_text(errors="replace").strip()
    return Daemon(name, owner)


def _inode_of(place: str) -> int:
    return next((one.inode for one in unix_sockets_of(os.getpid()) if one.name == place), 0)


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
    paths = [Path(name) for name in WELL_KNOWN]
    with contextlib.suppress(OSError):
        opened = open_files(daemon.pid)
        paths = [Path(entry.path) for entry in opened if entry.is_file] or paths
    return [path for path in dict.fromkeys(paths) if os.access(path, os.R_OK)]


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
