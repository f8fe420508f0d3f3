"""The QMP client: one connection, every wait with a deadline, every failure with its root cause.

The only importer of ``qemu.qmp`` (checked with 0.0.6), which has no time-outs of its own, keeps an
unbounded history of events and hides the cause of a broken link until the next ``disconnect()``.
Protocol: ``docs/interop/qmp-spec.rst`` of QEMU, checked on 7.2, 10.0, 10.2 and 11.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import time
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from qemu.qmp import (
    EventListener,
    ExecInterruptedError,
    ExecuteError,
    Message,
    QMPClient,
    QMPError,
)
from qemu.qmp.error import ProtocolError
from qemu.qmp.message import DeserializationError
from qemu.qmp.qmp_client import GreetingError, NegotiationError

from qtctl.errors import (
    ConnectionFailed,
    LinkLost,
    MonitorBusy,
    OutcomeUnknown,
    QtctlError,
    Refused,
)
from qtctl.model import Address

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
STUCK_TIMEOUT_S = 0.5
"""How long a command may take on a link where an earlier one went unanswered."""
_SHOWN_BYTES = 60
_QUEUE_POLL_S = 0.02

_T = TypeVar("_T")


class _NoEvents(EventListener):
    """Keeps no QMP event: nothing here waits for one, and the default listener keeps them all."""

    async def put(self, event: Message) -> None:
        """Drop it."""


class Monitor:
    """One negotiated QMP connection. Make it with :func:`connect`, end it with :meth:`close`."""

    def __init__(
        self,
        address: Address,
        client: QMPClient,
        sock: socket.socket,
        patience_s: float,
    ) -> None:
        self.address = address
        self.peer_pid = _peer_pid(sock)
        self._client = client
        self._sock = sock
        self._patience_s = patience_s
        self._stuck = False

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's version as it greeted: major, minor, micro."""
        qemu = self._greeting_version()["qemu"]
        return qemu["major"], qemu["minor"], qemu["micro"]

    @property
    def package(self) -> str:
        """The distribution's own version text from the greeting, or an empty string."""
        return str(self._greeting_version().get("package") or "")

    def _greeting_version(self) -> Any:
        greeting = self._client.greeting
        assert greeting is not None  # negotiated
        return greeting.QMP.version

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> Any:
        """Send one QMP command and return its ``return`` value.

        Raises:
            Refused: QEMU answered with an error; it did nothing.
            OutcomeUnknown: no answer within ``timeout_s``, or the link broke after the command was
                sent; QEMU may still apply it.
        """
        timeout_s = min(timeout_s, self._patience_s)
        call = asyncio.ensure_future(
            self._client.execute(command, dict(arguments) if arguments else None)
        )
        try:
            return await self._within(call, timeout_s, command)
        except ExecuteError as error:
            raise Refused(f"QEMU on {self.address} refused {command}: {error}") from error
        except ExecInterruptedError as error:
            cause = await self._root_cause(error)
            raise OutcomeUnknown(
                f"the link to {self.address} broke during {command}: {cause}",
                hint="run the command again: it reads the state first",
            ) from error
        except (QMPError, OSError) as error:
            cause = await self._root_cause(error)
            raise LinkLost(f"lost {self.address}: {cause}") from error

    async def _within(self, call: asyncio.Future[_T], timeout_s: float, command: str) -> _T:
        try:
            done, _ = await asyncio.wait({call}, timeout=timeout_s)
        except asyncio.CancelledError:
            call.cancel()
            raise
        if done:
            self._patience_s = STUCK_TIMEOUT_S if self._stuck else COMMAND_TIMEOUT_S
            return call.result()
        call.cancel()
        # Or a verb would wait for each of its commands again.
        self._stuck, self._patience_s = True, STUCK_TIMEOUT_S
        raise OutcomeUnknown(
            f"no answer to {command} from {self.address} within {timeout_s:.3g} s: "
            "the outcome is unknown, QEMU may still apply it",
            hint="qtctl doctor",
        )

    async def hmp(self, line: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run one line of the human monitor; an empty string is success, errors are text."""
        answer = await self.execute(
            "human-monitor-command", {"command-line": line}, timeout_s=timeout_s
        )
        return str(answer).replace("\r\n", "\n")

    @property
    def lost(self) -> bool:
        """Whether the link is gone."""
        return self._client.runstate.name != "RUNNING"

    async def wait_lost(self) -> str:
        """Wait until the link is gone and return the root cause in words."""
        while not self.lost:
            await self._client.runstate_changed()
        return await self._root_cause(EOFError())

    async def _root_cause(self, fallback: BaseException) -> str:
        try:
            await asyncio.wait_for(self._client.disconnect(), CLOSE_TIMEOUT_S)
        except (Exception, asyncio.CancelledError) as error:
            if _cancelled():
                raise
            return _in_words(error)
        return _in_words(fallback)

    async def close(self) -> None:
        """Hang up within a second; never raises, events that are on stay on."""
        if not self._stuck:
            with contextlib.suppress(Exception):
                await _deadline(self._client.disconnect(), CLOSE_TIMEOUT_S)
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(Exception):
            await _deadline(self._client.disconnect(), CLOSE_TIMEOUT_S)
        self._sock.close()


async def connect(address: Address, *, timeout_s: float = CONNECT_TIMEOUT_S) -> Monitor:
    """Connect and negotiate, with one attempt and one deadline for all of it.

    Raises:
        MonitorBusy: the server took the connection and did not greet, as QEMU does while another
            client is connected, or its backlog is full.
        ConnectionFailed: nobody listens there, or what listens does not speak QMP.
    """
    began = time.monotonic()
    sock = await _open_socket(address, timeout_s)
    client = _new_client()
    left_s = max(0.1, timeout_s - (time.monotonic() - began))
    session = asyncio.ensure_future(client.connect(sock))
    try:
        done, _ = await asyncio.wait({session}, timeout=left_s)
        if not done:
            raise MonitorBusy(
                f"{address} took the connection but did not greet within {timeout_s:.3g} s"
            )
        with _connect_errors(address):
            session.result()
    except BaseException:
        # Shut the socket first: a cancelled connect() would wait for the peer.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        session.cancel()
        await asyncio.wait({session}, timeout=CLOSE_TIMEOUT_S)
        if session.done() and not session.cancelled():
            session.exception()
        sock.close()
        raise
    spent_s = time.monotonic() - began
    return Monitor(address, client, sock, max(1.0, COMMAND_TIMEOUT_S - spent_s))


def _new_client() -> QMPClient:
    """Make a client without the default listener, whose history of events has no bound."""
    client = QMPClient("qtctl")
    unbounded, client.events = client.events, _NoEvents()
    client.remove_listener(unbounded)
    return client


async def _open_socket(address: Address, timeout_s: float) -> socket.socket:
    try:
        if address.path is not None:
            return await _open_unix(address.path, timeout_s)
        return await _open_tcp(address, timeout_s)
    except TimeoutError as error:
        raise ConnectionFailed(f"{address} did not answer within {timeout_s:.3g} s") from error
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise MonitorBusy(f"{address} is in use and its queue of clients is full") from error
        raise ConnectionFailed(
            f"cannot connect to {address}: {_why_not(error, address.path)}", hint="qtctl ps"
        ) from error


async def _open_unix(path: str, timeout_s: float) -> socket.socket:
    """Connect; a full queue of clients is waited for, which takes no place in it."""
    deadline = time.monotonic() + timeout_s
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_QUEUE_POLL_S)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


async def _open_tcp(address: Address, timeout_s: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        failure: OSError | None = None
        for family, kind, protocol, _, where in found:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, where)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
    raise failure or OSError(errno.EHOSTUNREACH, "no address")


def _why_not(error: OSError, path: str | None) -> str:
    match error.errno:
        case errno.ECONNREFUSED if path is not None and _is_no_socket(path):
            return "not a socket"  # the kernel refuses a plain file as it does a dead socket
        case errno.ENOENT:
            return "no such socket"
        case errno.ECONNREFUSED:
            return "nobody listens there (a stale socket, or the guest is gone)"
        case errno.EACCES | errno.EPERM:
            return "permission denied (try as the user that runs the guest)"
        case errno.ENOTSOCK:
            return "not a socket"
        case errno.EPROTOTYPE:
            return "a socket, but not a stream socket"
        case _:
            return error.strerror or str(error)


def _is_no_socket(path: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return not stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 - no import of pathlib
    return False


@contextlib.contextmanager
def _connect_errors(address: Address) -> Iterator[None]:
    """Turn what ``QMPClient.connect`` raises into a :class:`ConnectionFailed` with its cause."""
    try:
        yield
    except QtctlError:
        raise
    except Exception as error:
        cause = getattr(error, "exc", None) or error
        raise ConnectionFailed(
            f"{address} does not speak QMP: {_in_words(cause)}",
            hint="check that this is a QMP socket (-qmp), not HMP (-monitor) or a console",
        ) from error


def _in_words(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "the other side closed the connection"
    if isinstance(error, RecursionError):
        return "it sent JSON that is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it sent bytes that are not UTF-8"
    if isinstance(error, (TimeoutError, asyncio.CancelledError)):
        return "it does not answer"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was reset"
    if isinstance(error, ValueError) and "limit" in str(error):
        return "it sent a line of more than 10 MiB"
    if isinstance(error, NegotiationError) and isinstance(error.exc, AssertionError):
        return "it refused to negotiate"
    if isinstance(error, GreetingError) and not isinstance(error.exc, ProtocolError):
        return "it greeted with JSON that is not QMP's"
    if isinstance(error, GreetingError | NegotiationError):
        return _in_words(error.exc)
    if isinstance(error, DeserializationError):
        if not error.raw.endswith(b"\n"):
            return "the other side closed the connection in the middle of a message"
        return f"it sent what is not JSON: {error.raw[:_SHOWN_BYTES]!r}"
    if isinstance(error, ProtocolError):
        return f"it broke the protocol ({_one_line(error.error_message)})"
    return _one_line(str(error)) or type(error).__name__


def _one_line(text: str) -> str:
    first = text.strip().splitlines()[0] if text.strip() else ""
    return first if len(first) <= 200 else first[:197] + "..."


def _peer_pid(sock: socket.socket) -> int | None:
    """Process that listens on a Unix socket (``SO_PEERCRED``); None for TCP, or if not visible."""
    if sock.family != socket.AF_UNIX:
        return None
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(raw[:4], "little", signed=True) or None


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _deadline(work: Coroutine[Any, Any, object], timeout_s: float) -> None:
    """Run ``work`` for at most ``timeout_s`` without waiting for its cancellation to finish."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=timeout_s)
    if not task.done():
        task.cancel()
    elif not task.cancelled():
        task.exception()
