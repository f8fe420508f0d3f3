"""One QMP connection: every wait has a deadline, every failure names its root cause.

The only importer of ``qemu.qmp`` (checked with 0.0.6), which has no time-outs, keeps an unbounded
history of events and hides the cause of a broken link until the next ``disconnect()``.
Protocol: ``docs/interop/qmp-spec.rst`` of QEMU, checked on 7.2, 10.0, 10.2 and 11.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qemu.qmp import ExecInterruptedError, ExecuteError, Message, QMPClient, QMPError
from qemu.qmp.error import ProtocolError
from qemu.qmp.qmp_client import GreetingError, NegotiationError

from qtctl.errors import ConnectionFailed, LinkLost, MonitorBusy, OutcomeUnknown, Refused
from qtctl.model import Address
from qtctl.monitor.answers import Version, version_of
from qtctl.monitor.messages import MessageLines
from qtctl.monitor.news import LEFT
from qtctl.monitor.requests import id_of, own_token
from qtctl.shapes import Malformed, members, parsed

COMMAND_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
_NO_QMP = "check that this is a QMP socket (-qmp), not HMP (-monitor) or a console"
STUCK_TIMEOUT_S = 0.5
"""How long a command may take on a link where an earlier one got no reply."""


class _Broken(ProtocolError):
    """The other side broke the protocol; the message says what it did."""


class _Client(QMPClient):
    """A client that formats no message for a log, which is four fifths of the work of a long reply.

    Events go to ``on_event`` only: the base class would keep them all for ever. ``lender_left``
    notes a lender's ``LEFT``. ``strays`` counts replies that belong to no command, which the base
    class drops; ``stray`` describes the last one.
    """

    def __init__(self, on_event: Callable[[Mapping[str, Any]], None]) -> None:
        super().__init__("qtctl")
        self.lender_left = False
        self.strays, self.stray = 0, ""
        self._on_event = on_event
        self._sent_ids: set[object] = set()
        self._lines = MessageLines()

    def _get_exec_id(self) -> str:
        self._execute_id += 1
        return id_of(own_token(), self._execute_id)

    async def _readline(self) -> bytes:
        while True:
            message = self._lines.add(await super()._readline())
            if message is not None:
                return message

    async def _do_recv(self) -> Message:
        line = await self._readline()
        if not line.endswith(b"\n"):
            raise _Broken("the other side closed the connection in the middle of a message")
        try:
            return Message(members(parsed(line), "JSON that"))
        except Malformed as malformed:
            raise _Broken(f"it sent {malformed}") from None

    async def _on_message(self, msg: Message) -> None:
        if isinstance(msg.get("id", ""), str):  # any other belongs to no command
            await super()._on_message(msg)

    async def _event_dispatch(self, msg: Message) -> None:
        if msg.get("event") == LEFT:
            self.lender_left = True
        else:
            self._on_event(msg)

    def _cb_inbound(self, msg: Message) -> Message:
        if self.greeting is not None and self.runstate.name == "CONNECTING":
            # The base class asserts that, which python -O skips.
            if "return" not in msg or "error" in msg:
                raise _Broken("it refused to negotiate")
        elif "return" in msg or "error" in msg:
            number = msg.get("id")
            if isinstance(number, str) and number in self._sent_ids:
                self._sent_ids.discard(number)
            elif self.greeting is not None:
                self.strays += 1
                self.stray = f"with the id {number!r}" if "id" in msg else "without an id"
        return msg

    def _cb_outbound(self, msg: Message) -> Message:
        self._sent_ids.add(msg.get("id"))
        return msg


@dataclass(eq=False)
class Link:
    """One negotiated connection. Make it with :func:`negotiate`, end it with :meth:`close`.

    ``timeout_cap_s`` is the most that its next command may take, in seconds.
    """

    address: Address
    version: Version
    _client: _Client
    _sock: socket.socket
    timeout_cap_s: float = COMMAND_TIMEOUT_S
    _stuck: bool = False
    _ending: asyncio.Task[BaseException | None] | None = None

    @property
    def lender_left(self) -> bool:
        """Whether a lender announced that it leaves, and so began no command without an answer."""
        return self._client.lender_left

    @property
    def up(self) -> bool:
        """Whether the connection is open."""
        return self._client.runstate.name == "RUNNING"

    async def wait_down(self) -> str:
        """Wait until the connection is down and return the root cause in words."""
        while self.up:
            await self._client.runstate_changed()
        return await self._root_cause(EOFError())

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None, timeout_s: float
    ) -> Any:
        """Send one command and return its value; see :meth:`Monitor.execute`."""
        timeout_s = min(timeout_s, self.timeout_cap_s)
        strays = self._client.strays
        call = asyncio.ensure_future(
            self._client.execute(command, dict(arguments) if arguments else None)
        )
        try:
            done, _ = await asyncio.wait({call}, timeout=timeout_s)
        except asyncio.CancelledError:
            call.cancel()
            raise
        if not done:
            call.cancel()
            # Otherwise a verb would wait this long for each of its commands.
            self._stuck, self.timeout_cap_s = True, STUCK_TIMEOUT_S
            stray = _one_line(self._client.stray) if self._client.strays > strays else ""
            raise OutcomeUnknown(
                f"no answer to {command} from {self.address} within {timeout_s:.3g} s"
                + (f", but a reply {stray}, which belongs to no command" if stray else "")
                + ": the outcome is unknown, QEMU may still apply it",
                hint="qtctl doctor",
            )
        self.timeout_cap_s = STUCK_TIMEOUT_S if self._stuck else COMMAND_TIMEOUT_S
        try:
            return call.result()
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

    async def _root_cause(self, fallback: BaseException) -> str:
        """Return the root cause of the end, in words."""
        return _in_words(await self._ended() or fallback)

    async def _ended(self) -> BaseException | None:
        """Disconnect once, and return the cause to all callers.

        ``disconnect`` raises the cause to its first caller alone, and overlapping calls fail.
        """
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._disconnect())
        return await asyncio.shield(self._ending)

    async def _disconnect(self) -> BaseException | None:
        """Disconnect within a second; return the exception that broke the link, if known."""
        task = asyncio.ensure_future(self._client.disconnect())
        await asyncio.wait({task}, timeout=CLOSE_TIMEOUT_S)
        if not task.done():
            task.cancel()  # which may take a while
            return TimeoutError()
        if task.cancelled():
            return asyncio.CancelledError()
        return task.exception()

    async def close(self) -> None:
        """Close the connection within two seconds; never raises, events that are on stay on."""
        if not self._stuck:
            await self._ended()
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if isinstance(await self._ended(), TimeoutError):
            await self._disconnect()
        self._sock.close()


async def negotiate(
    address: Address,
    sock: socket.socket,
    on_event: Callable[[Mapping[str, Any]], None],
    *,
    timeout_s: float,
) -> Link:
    """Wait for the greeting, negotiate, and return the link; ``on_event`` gets its events.

    The socket is closed on failure.

    Raises:
        MonitorBusy: no greeting came, as from QEMU while another client is connected.
        ConnectionFailed: what listens does not speak QMP.
    """
    client = _Client(on_event)
    session = asyncio.ensure_future(client.connect(sock))
    try:
        done, _ = await asyncio.wait({session}, timeout=timeout_s)
        if not done:
            raise MonitorBusy(
                f"{address} took the connection but did not greet within {timeout_s:.3g} s"
            )
        if error := session.exception():
            raise ConnectionFailed(
                f"{address} does not speak QMP: {_in_words(getattr(error, 'exc', None) or error)}",
                hint=_NO_QMP,
            ) from error
        try:
            version = version_of(client.greeting.QMP.version if client.greeting else {})
        except Malformed as malformed:
            raise ConnectionFailed(
                f"{address} does not speak QMP: in its greeting {malformed}", hint=_NO_QMP
            ) from None
    except BaseException:
        # Let connect() notice the end: when it is cancelled, its errors are never retrieved.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        await asyncio.wait({session}, timeout=CLOSE_TIMEOUT_S)
        session.cancel()
        await asyncio.wait({session}, timeout=CLOSE_TIMEOUT_S)
        if session.done() and not session.cancelled():
            session.exception()
        sock.close()
        raise
    return Link(address, version, client, sock)


def _in_words(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "the other side closed the connection"
    if isinstance(error, (TimeoutError, asyncio.CancelledError)):
        return "it does not answer"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was reset"
    if isinstance(error, ValueError) and "limit" in str(error):
        return "it sent a line of more than 10 MiB"
    if isinstance(error, GreetingError) and not isinstance(error.exc, ProtocolError):
        return "it greeted with JSON that is not QMP's"
    if isinstance(error, GreetingError | NegotiationError):
        return _in_words(error.exc)
    if isinstance(error, _Broken):
        return str(error.error_message)
    if isinstance(error, ProtocolError):
        return f"it broke the protocol ({_one_line(error.error_message)})"
    return _one_line(str(error)) or type(error).__name__


def _one_line(text: str) -> str:
    first = text.strip().splitlines()[0] if text.strip() else ""
    return first if len(first) <= 200 else first[:197] + "..."
