"""The monitor of a domain that libvirtd holds, reached through libvirtd: a socket that speaks QMP.

libvirtd passes commands on (``virDomainQemuMonitorCommand``) and events out
(``virConnectDomainQemuMonitorEventRegister``), to any number of clients. A bridge in this process
makes a QMP server of that, so that all else deals with a socket, as of any guest. libvirt sets the
``id`` of each command itself and marks the domain as tainted. Sources: ``libvirt_qemu.py`` of
libvirt-python, ``qemu_command.c`` and ``qemu_domain.c`` of libvirt for names and paths. Checked
with libvirt and libvirt-python 9.0 on QEMU 7.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from qtctl.errors import ConnectionFailed, Unsupported
from qtctl.model import Address, Guest

T = TypeVar("T")
SCHEME = "libvirt:"
"""What stands before the name of a domain in a TARGET."""
_MONITOR = "charmonitor"
_SOCKET = "/monitor.sock"
_DISTRIBUTIONS = "/usr/lib/python3/dist-packages"
"""Where Debian's python3-libvirt is, which an environment of its own does not see."""
_RETRY_S = 0.1
_MARGIN_S = 1.5
"""How long before the time is up libvirtd is tried no more, so that its error is told."""
_RETURN_S = 10.0
"""How long a restarted libvirtd may take until the link counts as lost."""


def is_libvirts(guest: Guest | None) -> bool:
    """Return whether libvirt started the guest: it holds its monitor, and keeps its log."""
    return guest is not None and any(_MONITOR in word for word in guest.argv)


def is_held(address: Address, guest: Guest | None) -> bool:
    """Return whether an address is the monitor of a guest that libvirtd holds."""
    return is_libvirts(guest) and (address.path or "").endswith(_SOCKET)


async def open_bridge(guest: Guest, timeout_s: float) -> socket.socket:
    """Return a non-blocking socket that leads to a guest's monitor through libvirtd.

    Raises:
        Unsupported: the module libvirt is missing.
        ConnectionFailed: libvirtd is not reached, refuses, or has no such domain.
    """
    try:
        load()
    except ImportError as error:
        raise Unsupported(
            f"libvirtd holds the monitor of domain {guest.name!r}, and the Python module libvirt, "
            "which asks it, is missing",
            hint="apt install python3-libvirt; for another Python than the system's: "
            "apt install libvirt-dev pkg-config gcc, pip install 'qtctl[libvirt]'",
        ) from error
    return await _in_daemon(lambda: _Bridge(guest, timeout_s).ours)


def load() -> None:
    """Import libvirt's modules: those of this environment, else the distribution's.

    Raises:
        ImportError: there are none, or none for this version of Python.
    """
    try:
        import libvirt
        import libvirt_qemu
    except ImportError:
        sys.path.append(_DISTRIBUTIONS)
        try:
            import libvirt  # noqa: F401
            import libvirt_qemu  # noqa: F401
        finally:
            sys.path.remove(_DISTRIBUTIONS)


def no_answer(guest: Guest, timeout_s: float) -> ConnectionFailed:
    """Return the error for a domain that was not reached in time: libvirtd or QEMU hangs."""
    return ConnectionFailed(
        f"domain {guest.name!r} did not answer through libvirtd within {timeout_s:.3g} s",
        hint=f"virsh list; and if the guest is stopped by a signal: kill -CONT {guest.pid}",
    )


async def _in_daemon(work: Callable[[], T]) -> T:
    """Run ``work`` in a thread for which the end of this process does not wait."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_it: Callable[[Any], None], value: object) -> None:
        if not future.done():
            set_it(value)

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            loop.call_soon_threadsafe(settle, future.set_exception, error)
        else:
            loop.call_soon_threadsafe(settle, future.set_result, result)

    threading.Thread(target=run, daemon=True).start()
    return await future


@functools.cache
def _begin() -> None:
    """Start libvirt's own loop, which delivers events, and keep its errors off stderr."""
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()

    def loop() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=loop, daemon=True).start()


class _Bridge:
    """A QMP server on one end of a socket pair, for one domain; ``ours`` is the other end.

    It ends when that is closed, when the domain ends, or when libvirtd stays away.
    """

    def __init__(self, guest: Guest, timeout_s: float) -> None:
        _begin()
        import libvirt

        self._failure: type[Exception] = libvirt.libvirtError
        self._guest = guest
        self._turn = threading.Lock()
        self._sending = threading.Lock()
        self._ended = False
        self._connection: Any = None
        self._domain: Any = None
        self._open(timeout_s)
        try:
            asked = self._ask({"execute": "query-version"})
        except Exception as error:
            self._leave()
            raise ConnectionFailed(
                f"libvirtd does not pass commands on to domain {guest.name!r}: {error}",
                hint=f'virsh qemu-monitor-command {guest.name} \'{{"execute": "query-version"}}\'',
            ) from error
        self.ours, self._sock = socket.socketpair()
        self.ours.setblocking(False)
        self._sock.settimeout(None)
        self._send({"QMP": {"version": asked.get("return", {}), "capabilities": []}})
        threading.Thread(target=self._serve, daemon=True).start()

    # -- libvirtd ----------------------------------------------------------------------------

    def _open(self, timeout_s: float) -> None:
        """Connect to libvirtd, again and again if it is about to come, and listen to events."""
        import libvirt
        import libvirt_qemu

        deadline = time.monotonic() + timeout_s - _MARGIN_S
        coming = (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_NO_DOMAIN)
        while True:
            try:
                connection, domain = _connected(self._guest)
                break
            except libvirt.libvirtError as error:
                if error.get_error_code() not in coming or time.monotonic() > deadline:
                    raise ConnectionFailed(
                        f"domain {self._guest.name!r} is not reached through libvirtd: {error}",
                        hint="virsh list, as the user whose domain it is",
                    ) from error
            time.sleep(_RETRY_S)
        connection.setKeepAlive(1, 3)
        connection.registerCloseCallback(self._on_close, None)
        lifecycle = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
        connection.domainEventRegisterAny(domain, lifecycle, self._on_lifecycle, None)
        libvirt_qemu.qemuMonitorEventRegister(connection, domain, None, self._on_event, None, 0)
        self._connection, self._domain = connection, domain

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        import libvirt_qemu

        answer = libvirt_qemu.qemuMonitorCommand(self._domain, json.dumps(request), 0)
        found: dict[str, Any] = json.loads(answer)
        found.pop("id", None)
        return found

    def _on_close(self, *_: object) -> None:
        """Connect again, in another thread: this one is libvirt's."""
        if not self._ended:
            threading.Thread(target=self._come_back, daemon=True).start()

    def _come_back(self) -> None:
        with self._turn:
            try:
                self._open(_RETURN_S)
            except Exception:  # reported as a lost link
                self._end()

    def _on_lifecycle(self, _: Any, domain: Any, event: int, *__: object) -> None:
        import libvirt

        if event in (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_CRASHED):
            self._end()

    def _on_event(
        self, _: Any, __: Any, event: str, seconds: int, micros: int, details: str | None, ___: Any
    ) -> None:
        stamp = {"seconds": seconds, "microseconds": micros}
        with contextlib.suppress(ValueError):
            data = json.loads(details) if details else {}
            self._send({"event": event, "data": data, "timestamp": stamp})

    # -- the socket --------------------------------------------------------------------------

    def _serve(self) -> None:
        """Answer requests one after another, until the other end is closed."""
        decoder, text = json.JSONDecoder(), ""
        try:
            while data := self._sock.recv(1 << 16):
                text += data.decode("utf-8", "surrogateescape")
                with contextlib.suppress(ValueError):  # the rest of a request is to come
                    while text := text.lstrip():
                        request, end = decoder.raw_decode(text)
                        text = text[end:]
                        self._answer(request)
        except OSError:
            pass
        finally:
            self._end()
            self._sock.close()
            self._leave()

    def _answer(self, request: dict[str, Any]) -> None:
        """Answer one request; where libvirtd goes away meanwhile, the outcome is unknown."""
        tag = {"id": request.pop("id")} if "id" in request else {}
        if request.get("execute") == "qmp_capabilities":
            self._send({"return": {}, **tag})
            return
        with self._turn:
            try:
                reply = self._ask(request)
            except self._failure as error:
                if not self._connection.isAlive():
                    self._end()
                    return
                reply = {"error": {"class": "GenericError", "desc": f"libvirt: {error}"}}
        self._send({**reply, **tag})

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\r\n"
        with self._sending, contextlib.suppress(OSError):
            self._sock.sendall(line)

    def _end(self) -> None:
        self._ended = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _leave(self) -> None:
        self._ended = True
        with contextlib.suppress(self._failure):
            self._connection.unregisterCloseCallback()
        with contextlib.suppress(self._failure):
            self._connection.close()


def _connected(guest: Guest) -> tuple[Any, Any]:
    """Return a connection to libvirtd and the domain of a guest, by its UUID where it has one.

    Raises:
        libvirtError: none of the daemons that this user may reach has it.
    """
    import libvirt

    words = [*guest.argv]
    uuid = words[words.index("-uuid") + 1] if "-uuid" in words[:-1] else ""
    session = guest.uid == os.geteuid() != 0
    uris = ["qemu:///session", "qemu:///system"] if session else ["qemu:///system"]
    failure: Any = None
    for uri in [None] if os.environ.get("LIBVIRT_DEFAULT_URI") else uris:
        connection = None
        try:
            connection = libvirt.open(uri)
            find = connection.lookupByUUIDString if uuid else connection.lookupByName
            return connection, find(uuid or guest.name)
        except libvirt.libvirtError as error:
            failure = error
            if connection is not None:
                connection.close()
    raise failure
