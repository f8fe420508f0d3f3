"""Where a lender of a monitor listens and its clients look for it: one private socket a monitor.

It is named by what the monitor is, not by how somebody spells its address: device and inode of a
Unix socket, the listening socket of a TCP port, the name of an abstract socket in its network
namespace; so the same port or name in another namespace has another place. The folder belongs to
the user and is closed to others (``$XDG_RUNTIME_DIR``, ``/run/user/UID``, else below ``/tmp``). A
lender comes to be only while it holds the monitor, of which there is one; so it may take the place
of any socket that it finds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator

from qtctl.folders import runtime_folder
from qtctl.model import Address, Guest
from qtctl.monitor.kernel_sockets import tcp_listeners, tcp_sockets
from qtctl.monitor.networks import is_elsewhere, network_for
from qtctl.monitor.processes import socket_inodes, socket_owners
from qtctl.monitor.sockets import peer_of

_BACKLOG = 64


class Meeting:
    """The place for one monitor."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder = folder
        self.name = name
        self._own: tuple[int, int] | None = None

    @property
    def path(self) -> str:
        """The socket's path, for any QMP client of this user."""
        return f"{self.folder}/{self.name}"

    def call(self) -> socket.socket | None:
        """Connect to the lender, and return the socket; None where there is none.

        A socket that another user listens on is none.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        with contextlib.suppress(OSError), _opened(self.folder, lock=False) as handle:
            sock.connect(_below(handle, self.name))
            if peer_of(sock).uid == os.getuid():
                return sock
        sock.close()
        return None

    def listen(self) -> socket.socket:
        """Make the socket, which nobody finds before :meth:`open`.

        Raises:
            OSError: the folder is somebody else's or cannot be made, or the socket cannot.
        """
        os.makedirs(os.path.dirname(self.folder), exist_ok=True)  # noqa: PTH103, PTH120
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.folder, 0o700)  # noqa: PTH102 - no import of pathlib
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            with _opened(self.folder) as handle:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._unready, dir_fd=handle)
                sock.bind(_below(handle, self._unready))
                os.chmod(self._unready, 0o600, dir_fd=handle)
                state = os.stat(self._unready, dir_fd=handle)
                self._own = state.st_dev, state.st_ino
                sock.listen(_BACKLOG)  # under the lock: _sweep() takes what does not for stale
        except BaseException:
            sock.close()
            raise
        return sock

    def open(self) -> None:
        """Put the socket where it is looked for."""
        with _opened(self.folder) as handle:
            _sweep(handle)
            os.rename(self._unready, self.name, src_dir_fd=handle, dst_dir_fd=handle)

    def close(self) -> None:
        """Take the socket away, unless another lender has put its own there."""
        if self._own is None:
            return
        with contextlib.suppress(OSError), _opened(self.folder) as handle:
            state = os.stat(self.name, dir_fd=handle, follow_symlinks=False)
            if (state.st_dev, state.st_ino) == self._own:
                os.unlink(self.name, dir_fd=handle)
        self._own = None

    @property
    def _unready(self) -> str:
        return f"{self.name}.{os.getpid()}"


def is_lent(address: Address, guest: Guest | None = None) -> bool:
    """Return whether somebody lends the monitor at an address of a guest; see meeting_of."""
    meeting = meeting_of(address, guest)
    sock = meeting.call() if meeting is not None else None
    if sock is not None:
        sock.close()
    return sock is not None


def meeting_of(address: Address, guest: Guest | None = None) -> Meeting | None:
    """Return the place for the monitor at an address; None where nothing is there.

    ``guest`` is the one in whose network namespace a TCP port or an abstract name is meant; by
    default it is ours.
    """
    if address.path is None or address.path.startswith("\0"):
        network = network_for(address, guest)
        if network is None:
            return None
        name = _tcp_name(address, guest) if address.path is None else None
        name = name or hashlib.sha256(os.fsencode(f"{network} {address}")).hexdigest()[:16]
    else:
        try:
            state = os.stat(address.path)  # noqa: PTH116
        except (OSError, ValueError):
            return None
        name = f"{state.st_dev:x}-{state.st_ino:x}"
    return Meeting(_folder(), f"lent-{name}")


def _tcp_name(address: Address, guest: Guest | None) -> str | None:
    """Return a name for the process that listens on a TCP port; None where it is not seen.

    QEMU listens for ``localhost`` on two sockets, which have one name.
    """
    elsewhere = guest is not None and is_elsewhere(address, guest)
    rows = tcp_sockets(guest.pid if guest is not None and elsewhere else None) or []
    found = {row.inode for row in tcp_listeners(rows, address)}
    on_port = {row.inode for row in rows if row.listening and row.local[1] == address.port}
    if found and len(on_port) > 1:
        owners = {socket_owners([inode]).get(inode) for inode in found}
        if len(owners) > 1 or None in owners:
            return None
        found = on_port.intersection(*(socket_inodes(pid) or () for pid in owners if pid))
    return f"tcp-{min(found):x}" if found else None


def _folder() -> str:
    runtime = runtime_folder()
    if runtime and runtime.is_dir():
        return f"{runtime}/qtctl"
    return f"/tmp/qtctl-{os.getuid()}"  # noqa: S108 - its owner and mode are checked


@contextlib.contextmanager
def _opened(folder: str, *, lock: bool = True) -> Iterator[int]:
    """Open the folder and hold its lock: what is done there is one step to others.

    Raises:
        OSError: it is missing, or not ours alone.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        state = os.fstat(handle)
        if state.st_uid != os.getuid() or state.st_mode & 0o077:
            raise PermissionError(1, "others can reach it", folder)
        if lock:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _below(handle: int, name: str) -> str:
    """Spell a file of an open folder so that the path is never too long for a socket (unix(7))."""
    return f"/proc/self/fd/{handle}/{name}"


def _sweep(handle: int) -> None:
    """Remove the sockets that killed lenders left."""
    for name in os.listdir(handle):
        if not name.startswith("lent-"):
            continue
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(_below(handle, name))
            except ConnectionRefusedError:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=handle)
            except OSError:
                continue
