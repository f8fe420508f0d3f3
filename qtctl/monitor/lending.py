"""Lending a monitor: QMP takes one client, so whoever holds it serves QMP to all others.

The lender passes messages on between QEMU and its clients, this process's own among them. A
request gets an id of the lender's, so that ids of clients may be anything and never meet; replies
are not parsed. Each client has a few requests at QEMU at a time, so nobody can crowd out the rest,
and nobody waits for another client's reading. Out-of-band execution is not offered.
Source: ``docs/interop/qmp-spec`` and ``monitor/qmp.c`` of QEMU 7.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast

from qtctl.monitor.news import LEFT
from qtctl.monitor.rendezvous import Meeting
from qtctl.monitor.requests import (
    BadRequest,
    Cutter,
    Reply,
    Request,
    read_reply,
    read_request,
)
from qtctl.monitor.sockets import Peer, peer_of

HELLO, ANNOUNCE, LENDER = "x-qtctl-hello", "x-qtctl-announce", "x-qtctl-lender"
"""Commands that the lender answers itself; QEMU never sees them."""

UNREAD_LIMIT_BYTES = 32 << 20
"""A client that leaves more than this unread is hung up on."""
_REPLY_LIMIT_BYTES = 64 << 20
_AT_QEMU = _QUEUED = 8
"""Requests of one client that QEMU has at a time, and that may wait here before it is read on."""
_LEAVE_S = 1.0
_FAREWELL_S = 0.3
_OWN_COMMANDS = (HELLO, ANNOUNCE, LENDER)
_OWN_IDS = "__qmp#"
"""How the ids that qemu.qmp gives begin."""


class Lender:
    """Serves one monitor to many, from :meth:`begin` until :meth:`leave`.

    ``guest_pid`` is the process that serves it, which clients are told; None where it is not seen.
    """

    def __init__(self, told: Callable[[str], None]) -> None:
        self.guest_pid: int | None = None
        self._told = told
        self._clients: set[_Client] = set()
        self._waiting: dict[int, tuple[_Client, Request]] = {}
        self._numbers = 0
        self._greeting = b""
        self._negotiated = False
        self._qemu: asyncio.Transport | None = None
        self._own: _Client | None = None
        self._server: asyncio.Server | None = None
        self._meeting: Meeting | None = None
        self._settled = asyncio.Event()
        self._alone = asyncio.Event()
        self.leaving = False

    async def begin(self, qemu: socket.socket, own: socket.socket) -> None:
        """Speak to QEMU for one client, which negotiates; others come in with :meth:`publish`."""
        loop = asyncio.get_running_loop()
        self._own = client = _Client(self)
        await loop.create_connection(lambda: client, sock=own)
        await loop.create_connection(lambda: _Qemu(self, qemu), sock=qemu)

    async def publish(self, meeting: Meeting) -> None:
        """Let others in where they look for a lender.

        Raises:
            OSError: the socket cannot be made there.
        """
        self._meeting = meeting
        listening = meeting.listen()
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Client(self), sock=listening
        )
        meeting.open()

    async def leave(self) -> None:
        """Finish what was asked, tell every client that the rest was not begun, and hang up.

        Takes a second at most; the guest is left as it is.
        """
        self._close_door()
        self.leaving = True
        if self._own is not None:
            self._own.close()  # it has what it wanted
        self._note_settled()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), _LEAVE_S)
        asked = {client for client, _ in self._waiting.values()}
        for client in list(self._clients):
            client.say_farewell(None if client in asked else _event(LEFT, {}))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._alone.wait(), _FAREWELL_S)
        self.end()

    def end(self) -> None:
        """Hang up at once, on all of them and on QEMU."""
        self.leaving = True
        self._close_door()
        self._hang_up()
        if self._qemu is not None:
            self._qemu.close()

    def _close_door(self) -> None:
        if self._meeting is not None:
            self._meeting.close()
        if self._server is not None:
            self._server.close()
            self._server = None

    def _hang_up(self) -> None:
        for client in list(self._clients):
            client.close()

    def _note_settled(self) -> None:
        awaited = any(client in self._clients for client, _ in self._waiting.values())
        if self.leaving and not awaited:
            self._settled.set()

    # -- QEMU --------------------------------------------------------------------------------

    def qemu_came(self, transport: asyncio.Transport) -> None:
        """Be given the way to QEMU."""
        self._qemu = transport

    def qemu_went(self) -> None:
        """Be told that QEMU hung up: so do we."""
        self._qemu = None
        self._close_door()
        self._hang_up()
        self._waiting.clear()
        self._note_settled()

    def qemu_broke_off(self, part: bytes) -> None:
        """Be told of a line that QEMU did not end."""
        if self._own is not None:
            self._own.send(part)

    def qemu_said(self, line: bytes) -> None:
        """Pass on a line of QEMU's to whom it concerns."""
        if not self._greeting:
            self._greet(line)
            return
        try:
            message = read_reply(line)
        except (ValueError, RecursionError):
            self._break(line)
            return
        if isinstance(message, Reply):
            self._pass_on(message)
        elif "event" in message:
            for client in list(self._clients):
                if client.negotiated:
                    client.send(line)
        elif "error" in message and "id" not in message:
            self._break(line)
        elif self._own is not None and not str(message.get("id")).startswith(_OWN_IDS):
            self._own.send(line)  # it belongs to no command, and our own client tells of that

    def _greet(self, line: bytes) -> None:
        """Take QEMU's greeting and pass it on, without what does not work through a lender."""
        try:
            greeting = json.loads(line)
            greeting["QMP"]["capabilities"] = []
        except (ValueError, LookupError, TypeError, RecursionError):
            self._break(line)
            return
        self._greeting = json.dumps(greeting).encode() + b"\r\n"
        for client in self._clients:
            client.send(self._greeting)

    def _break(self, line: bytes) -> None:
        """End it after what QEMU should not have said; our own client knows how to tell of it."""
        if self._own is not None:
            self._own.send(line)
        if self._qemu is not None:
            self._qemu.close()

    def _pass_on(self, reply: Reply) -> None:
        client, request = self._waiting.pop(reply.number, (None, None))
        if client is None or request is None:
            return  # the spec: clients drop what has an id that they never gave
        if request.members.get("execute") == "qmp_capabilities" and reply.returned:
            self._negotiated = client.negotiated = True
        client.answered(reply.to(request.tag))
        self._note_settled()

    # -- clients -----------------------------------------------------------------------------

    def client_came(self, client: _Client) -> None:
        """Greet a client, once QEMU has greeted us."""
        self._clients.add(client)
        if self._greeting:
            client.send(self._greeting)

    def client_went(self, client: _Client) -> None:
        """Forget a client; what it asked last may still be answered, to nobody."""
        if client in self._clients:
            self._clients.discard(client)
            self._tell(client.peer, "left")
        if self.leaving and not self._clients:
            self._alone.set()
        self._note_settled()

    def admit(self, peer: Peer) -> bool:
        """Tell whether a client may come in: our own user only."""
        allowed = peer.uid == os.getuid()
        self._tell(peer, "connected" if allowed else "refused: another user")
        return allowed

    def _tell(self, peer: Peer, what: str) -> None:
        if peer.pid == os.getpid():
            return
        from qtctl.monitor.processes import process_name

        who = f"{process_name(peer.pid)} (pid {peer.pid})" if peer.pid else "a client"
        self._told(f"{who} {what}")

    def passes_on(self, client: _Client, request: Request | BadRequest) -> bool:
        """Tell whether QEMU is to answer; what is no request, or not for it, we answer here."""
        if isinstance(request, BadRequest):
            return False
        command = request.members.get("execute")
        if not request.sound or not isinstance(command, str):
            return True  # QEMU refuses it, in its own words and under its id
        return command not in _OWN_COMMANDS and (client.negotiated or not self._negotiated)

    def at_once(self, client: _Client, request: Request | BadRequest) -> bool:
        """Tell whether it is for us alone, whatever QEMU still has to answer."""
        return client.negotiated and not isinstance(request, BadRequest)

    def ask(self, client: _Client, request: Request) -> None:
        """Pass a request on to QEMU."""
        self._numbers += 1
        self._waiting[self._numbers] = client, request
        if self._qemu is not None:
            self._qemu.write(request.under(self._numbers))

    def answer(self, client: _Client, request: Request | BadRequest) -> bytes:
        """Answer what is not passed on."""
        if isinstance(request, BadRequest):
            return _refused(request, {})
        tag = {"id": request.members["id"]} if "id" in request.members else {}
        arguments = request.members.get("arguments", {})
        try:
            if client.negotiated:
                value = self._own_command(client, request.members["execute"], arguments)
            else:
                value = self._negotiate(client, request.members["execute"], arguments)
        except BadRequest as bad:
            return _refused(bad, tag)
        return _line({"return": value, **tag})

    def _negotiate(self, client: _Client, command: str, arguments: Mapping[str, Any]) -> Any:
        """Do what QEMU did with us before; the words are QEMU's."""
        if command != "qmp_capabilities":
            raise BadRequest(
                "Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound"
            )
        unknown, wanted = arguments.keys() - {"enable"}, arguments.get("enable", [])
        if unknown:
            raise BadRequest(f"Parameter '{min(unknown)}' is unexpected")
        if not isinstance(wanted, list):
            raise BadRequest("Invalid parameter type for 'enable', expected: array")
        if wanted:
            raise BadRequest(f"Capability {wanted[0]} not available")
        client.negotiated = True
        return {}

    def _own_command(self, client: _Client, command: str, arguments: Mapping[str, Any]) -> Any:
        if command == HELLO:
            client.is_qtctl, client.listens = True, arguments.get("listens") is True
            return {"guest_pid": self.guest_pid}
        if command == LENDER:
            others = self._clients - {client, self._own}
            path = self._meeting and self._meeting.path
            return {
                "pid": os.getpid(),
                "path": path,
                "clients": [one.described() for one in others],
            }
        event, data = arguments.get("event"), arguments.get("data")
        if not isinstance(event, str) or not isinstance(data, dict):
            raise BadRequest("Parameters 'event' and 'data' are needed")
        hearers = [one for one in self._clients if one.is_qtctl]
        for one in hearers:
            one.send(_event(event, data))
        return sum(one.listens for one in hearers)


class _Client(asyncio.Protocol):
    """One client of a lender."""

    def __init__(self, lender: Lender) -> None:
        self.negotiated = self.is_qtctl = self.listens = self.connected = False
        self._lender = lender
        self.peer = Peer(None, None)
        self._transport: asyncio.Transport | None = None
        self._cutter = Cutter()
        self._queue: deque[Request | BadRequest] = deque()
        self._asked = 0
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in, or hang up."""
        self._transport = cast(asyncio.Transport, transport)
        self.peer = peer_of(transport.get_extra_info("socket"))
        if self._lender.leaving or not self._lender.admit(self.peer):
            self._transport.abort()
            return
        self.connected = True
        self._lender.client_came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.connected = False
        self._queue.clear()
        self._lender.client_went(self)

    def data_received(self, data: bytes) -> None:
        """Take what it sends; while we leave, nothing more is begun."""
        if self._lender.leaving:
            return
        self._queue.extend(map(_read, self._cutter.feed(data)))
        self._serve()

    def eof_received(self) -> bool:
        """Take it that there is no more to come; what was asked is still answered."""
        self._ended = True
        return bool(self._asked or self._queue)

    def _serve(self) -> None:
        """Take up what it asked, in its order: a refusal of ours waits for QEMU's answers."""
        while self._queue and self._asked < _AT_QEMU and not self._lender.leaving:
            if self._lender.passes_on(self, request := self._queue[0]):
                self._asked += 1
                self._lender.ask(self, cast(Request, request))
            elif self._asked and not self._lender.at_once(self, request):
                break
            else:
                self.send(self._lender.answer(self, request))
            self._queue.popleft()
        if self._transport is not None and self.connected:
            if len(self._queue) > _QUEUED:
                self._transport.pause_reading()
            elif not self._transport.is_reading():
                self._transport.resume_reading()
            if self._ended and not self._asked:
                self._transport.close()

    def answered(self, data: bytes) -> None:
        """Give it QEMU's answer, and go on with what it asked next."""
        self._asked -= 1
        self.send(data)
        self._serve()

    def send(self, data: bytes) -> None:
        """Send without waiting; hang up on a client that does not read."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
            self._transport.abort()

    def say_farewell(self, event: bytes | None) -> None:
        """Tell a qtctl that nothing of what it still waits for was begun; then say no more."""
        if event is not None and self.is_qtctl:
            self.send(event)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._transport.write_eof()

    def close(self) -> None:
        """Hang up, once it has read what it was sent or makes no move to."""
        if self._transport is not None:
            self._transport.close()

    def described(self) -> dict[str, Any]:
        """Say who it is."""
        return {"pid": self.peer.pid, "qtctl": self.is_qtctl, "listens": self.listens}


class _Qemu(asyncio.Protocol):
    """The lender's connection to QEMU: lines, whole ones."""

    def __init__(self, lender: Lender, sock: socket.socket) -> None:
        self._lender = lender
        self._sock = sock
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the way to QEMU to the lender."""
        self._transport = cast(asyncio.Transport, transport)
        self._lender.qemu_came(self._transport)

    def data_received(self, data: bytes) -> None:
        """Cut lines; a long one comes in many parts."""
        *whole, rest = data.split(b"\n")
        for line in whole:
            self._lender.qemu_said(b"".join((*self._parts, line, b"\n")))
            self._parts.clear()
            self._size = 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > _REPLY_LIMIT_BYTES and self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the lender, with what was begun and never ended."""
        # asyncio reads no more once a write has failed, and QEMU may have answered before it left.
        with contextlib.suppress(OSError):
            while data := self._sock.recv(1 << 16):
                self.data_received(data)
        if self._parts:
            self._lender.qemu_broke_off(b"".join(self._parts))
        self._lender.qemu_went()


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    now = time.time_ns() // 1000
    stamp = {"seconds": now // 1_000_000, "microseconds": now % 1_000_000}
    return _line({"timestamp": stamp, "event": name, "data": dict(data)})


def _refused(bad: BadRequest, tag: Mapping[str, Any]) -> bytes:
    return _line({**tag, "error": {"class": bad.kind, "desc": str(bad)}})


def _read(message: bytes | BadRequest) -> Request | BadRequest:
    try:
        return message if isinstance(message, BadRequest) else read_request(message)
    except BadRequest as bad:
        return bad


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\r\n"
