"""The rendezvous of a monitor: a private socket where a lender listens and clients look for it.

It is named after the monitor, however its address is spelled: device and inode of a Unix socket,
the listening socket of a TCP port, an abstract name in its network namespace. So the same port or
name in another namespace has another rendezvous. The folder belongs to the user and is closed to
others (``$XDG_RUNTIME_DIR``, ``/run/user/UID``, else below ``/tmp``). Where it cannot be used, as
another user has made one of that name below ``/tmp``, it is one in the user's cache folder; clients
look in both. Only the process that holds
the monitor becomes its lender, and a monitor has one holder; so a lender may replace any socket
that it finds.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator, Sequence

from qtctl.folders import cache_folder, inode_of, runtime_folder
from qtctl.model import Address, Guest
from qtctl.monitor.kernel_sockets import tcp_listeners, tcp_sockets
from qtctl.monitor.networks import is_elsewhere, network_for
from qtctl.monitor.processes import socket_inodes, socket_owners
from qtctl.monitor.sockets import peer_of

_BACKLOG = 64


class Rendezvous:
    """The socket of one monitor: its making and removal by a lender, in the first of ``folders``.

    A folder that cannot be used is passed over: ``passed_over`` is why.
    """

    def __init__(self, folders: Sequence[str], name: str) -> None:
        self._folders, self._folder, self.name = folders, folders[0], name
        self.passed_over = ""
        self._temporary = f"{name}.{os.getpid()}"
        self._own: tuple[int, int] | None = None

    @property
    def path(self) -> str:
        """The socket's path, for any QMP client of this user."""
        return f"{self._folder}/{self.name}"

    def connect(self) -> socket.socket | None:
        """Connect to the lender and return a non-blocking socket; None where there is no lender.

        A socket that another user listens on does not count.
        """
        found = (self._connect_in(folder) for folder in self._folders)
        return next((sock for sock in found if sock is not None), None)

    def _connect_in(self, folder: str) -> socket.socket | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        with contextlib.suppress(OSError), _opened(folder, lock=False) as handle:
            sock.connect(_below(handle, self.name))
            if peer_of(sock).uid == os.getuid():
                return sock
        sock.close()
        return None

    def listen(self) -> socket.socket:
        """Make the listening socket under a temporary name; :meth:`publish` gives it its own.

        Raises:
            OSError: no folder can be used, or the socket cannot be made.
        """
        for folder in self._folders:
            self._folder = folder
            try:
                return self._listen()
            except OSError as error:
                if folder == self._folders[-1]:
                    raise
                self.passed_over = f"{folder} cannot be used: {error.strerror}"
        raise AssertionError("there is a folder")

    def _listen(self) -> socket.socket:
        os.makedirs(os.path.dirname(self._folder), exist_ok=True)  # noqa: PTH103, PTH120
        with contextlib.suppress(FileExistsError):
            os.mkdir(self._folder, 0o700)  # noqa: PTH102 - no import of pathlib
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            with _opened(self._folder) as handle:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary, dir_fd=handle)
                sock.bind(_below(handle, self._temporary))
                os.chmod(self._temporary, 0o600, dir_fd=handle)
                state = os.stat(self._temporary, dir_fd=handle)
                self._own = state.st_dev, state.st_ino
                # Under the lock, for _remove_stale() takes a socket without a listener for stale.
                sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    def publish(self) -> None:
        """Give the socket the name under which clients look for it."""
        with _opened(self._folder) as handle:
            _remove_stale(handle)
            os.rename(self._temporary, self.name, src_dir_fd=handle, dst_dir_fd=handle)

    def withdraw(self) -> None:
        """Remove the socket, unless another lender has put its own there."""
        if self._own is None:
            return
        with contextlib.suppress(OSError), _opened(self._folder) as handle:
            state = os.stat(self.name, dir_fd=handle, follow_symlinks=False)
            if (state.st_dev, state.st_ino) == self._own:
                os.unlink(self.name, dir_fd=handle)
        self._own = None


def is_lent(address: Address, guest: Guest | None = None) -> bool:
    """Return whether a lender serves the monitor at an address; see :func:`rendezvous_of`."""
    rendezvous = rendezvous_of(address, guest)
    sock = rendezvous.connect() if rendezvous is not None else None
    if sock is not None:
        sock.close()
    return sock is not None


def rendezvous_of(address: Address, guest: Guest | None = None) -> Rendezvous | None:
    """Return the rendezvous of the monitor at an address; None where the monitor does not exist.

    ``guest`` is the one in whose network namespace a TCP port or an abstract name lies; by default
    it is ours.
    """
    if address.path is None or address.path.startswith("\0"):
        network = network_for(address, guest)
        if network is None:
            return None
        name = _tcp_name(address, guest) if address.path is None else None
        name = name or hashlib.sha256(os.fsencode(f"{network} {address}")).hexdigest()[:16]
    else:
        inode = inode_of(address.path)
        if inode is None:
            return None
        name = "{:x}-{:x}".format(*inode)
    runtime = runtime_folder()
    # Below /tmp: its owner and mode are checked. Nobody else can make a folder in the cache folder.
    first = f"{runtime}/qtctl" if runtime and runtime.is_dir() else f"/tmp/qtctl-{os.getuid()}"  # noqa: S108
    return Rendezvous((first, str(cache_folder() / "lent")), f"lent-{name}")


def _tcp_name(address: Address, guest: Guest | None) -> str | None:
    """Return a name for the process that listens on a TCP port; None where it is not visible.

    QEMU listens for ``localhost`` on two sockets, which get one name.
    """
    pid = guest.pid if guest is not None and is_elsewhere(address, guest) else None
    rows = tcp_sockets(pid) or []
    found = {row.inode for row in tcp_listeners(rows, address)}
    on_port = {row.inode for row in rows if row.listening and row.local[1] == address.port}
    if found and len(on_port) > 1:
        owners = {socket_owners([inode]).get(inode) for inode in found}
        if len(owners) > 1 or None in owners:
            return None
        found = on_port.intersection(*(socket_inodes(pid) or () for pid in owners if pid))
    return f"tcp-{min(found):x}" if found else None


@contextlib.contextmanager
def _opened(folder: str, *, lock: bool = True) -> Iterator[int]:
    """Open the folder and hold its lock, so that changes in it are atomic for other lenders.

    Raises:
        OSError: it is missing, another user's, or open to others.
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
    """Return a path to a file of an open folder that is short enough for a socket (unix(7))."""
    return f"/proc/self/fd/{handle}/{name}"


def _remove_stale(handle: int) -> None:
    """Remove the sockets that killed lenders left."""
    for name in os.listdir(handle):
        if not name.startswith("lent-"):
            continue
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            with contextlib.suppress(OSError):
                try:
                    probe.connect(_below(handle, name))
                except ConnectionRefusedError:
                    os.unlink(name, dir_fd=handle)
