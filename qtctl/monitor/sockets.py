"""Opens stream sockets within a deadline, and reads the credentials of the peer (unix(7))."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import time
from typing import NamedTuple

from qtctl.errors import ConnectionFailed, MonitorBusy
from qtctl.model import Address
from qtctl.monitor.address import is_socket
from qtctl.monitor.advice import run_as
from qtctl.monitor.networks import socket_in

_BACKLOG_POLL_S = 0.02


async def open_socket(
    address: Address, timeout_s: float, network: int | None = None
) -> socket.socket:
    """Connect, and return a non-blocking socket.

    ``network`` is a descriptor of the network namespace to connect in, where it is not ours.

    Raises:
        MonitorBusy: the listener's backlog stayed full.
        ConnectionFailed: nobody listens there, or did not accept within ``timeout_s``.
        EntryRefused: this process may not enter ``network``.
    """
    try:
        if address.path is not None:
            return await _open_unix(address.path, timeout_s, network)
        return await _open_tcp(address, timeout_s, network)
    except TimeoutError as error:
        raise ConnectionFailed(f"{address} did not answer within {timeout_s:.3g} s") from error
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise MonitorBusy(f"{address} is in use and its queue of clients is full") from error
        raise ConnectionFailed(
            f"cannot connect to {address}: {_why_not(error, address.path)}",
            hint=_hint(error, address.path),
        ) from error


def _hint(error: OSError, path: str | None) -> str:
    """Return what to try: as the owner of a socket that others may not open."""
    if path is None or not isinstance(error, PermissionError):
        return "qtctl ps"
    try:
        owner = os.stat(path).st_uid  # noqa: PTH116
    except OSError:
        owner = None
    return f"{run_as(None if owner == os.geteuid() else owner)}, as the user that runs the guest"


def _new_socket(family: int, network: int | None) -> socket.socket:
    kind = socket.SOCK_STREAM
    sock = socket.socket(family, kind) if network is None else socket_in(network, family)
    sock.setblocking(False)
    return sock


async def _open_unix(path: str, timeout_s: float, network: int | None) -> socket.socket:
    """Connect; while the listener's backlog is full, try again until the deadline."""
    deadline = time.monotonic() + timeout_s
    sock = _new_socket(socket.AF_UNIX, network)
    try:
        while True:
            try:
                sock.connect(path)
                return sock
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_BACKLOG_POLL_S)
    except BaseException:
        sock.close()
        raise


async def _open_tcp(address: Address, timeout_s: float, network: int | None) -> socket.socket:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        failure: OSError | None = None
        for family, _, _, _, where in found:
            sock = _new_socket(family, network)
            try:
                await loop.sock_connect(sock, where)
                return sock
            except BaseException as error:
                sock.close()
                if not isinstance(error, OSError):
                    raise
                failure = error
    raise failure or OSError(errno.EHOSTUNREACH, "no address")


def _why_not(error: OSError, path: str | None) -> str:
    match error.errno:
        case errno.ECONNREFUSED if path and os.path.exists(path) and not is_socket(path):  # noqa: PTH110
            return "not a socket"  # the kernel refuses a plain file as it does a dead socket
        case errno.ENOENT:
            return "no such socket"
        case errno.ECONNREFUSED:
            return "nobody listens there (a stale socket, or the guest is gone)"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
        case errno.ENOTSOCK:
            return "not a socket"
        case errno.EPROTOTYPE:
            return "a socket, but not a stream socket"
        case _:
            return error.strerror or str(error)


class Peer(NamedTuple):
    """Credentials of the process at the other end of a Unix socket; None where unknown."""

    pid: int | None
    uid: int | None


def peer_of(sock: socket.socket) -> Peer:
    """Return the process that listens, or that connected (``SO_PEERCRED``); unknown for TCP.

    A process in another pid namespace has pid None.
    """
    if sock.family != socket.AF_UNIX:
        return Peer(None, None)
    pid, uid, _ = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(pid or None, uid)
