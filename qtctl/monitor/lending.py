"""Lending a monitor: QMP takes one client, so the process that holds it serves QMP to all others.

The lender routes messages between QEMU and its clients, this process's own among them. A request is
forwarded under an id of the lender's, so that ids of clients may be anything and never collide;
replies are not parsed. QEMU has only a few requests of each client at a time, so no client can
crowd out the rest, and none waits for another to read. Out-of-band execution is not offered.
Source: ``docs/interop/qmp-spec`` and ``monitor/qmp.c`` of QEMU 7.2.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from qtctl.monitor.lender_commands import (
    HELLO,
    LENDER,
    OWN_COMMANDS,
    check_negotiation,
    error_message,
    event_message,
    message,
)
from qtctl.monitor.lender_links import ClientProtocol, QemuProtocol
from qtctl.monitor.news import LEFT
from qtctl.monitor.processes import process_name
from qtctl.monitor.rendezvous import Rendezvous
from qtctl.monitor.requests import (
    BadRequest,
    Reply,
    Request,
    id_of,
    new_token,
    read_reply,
)
from qtctl.monitor.sockets import Peer

_DRAIN_TIMEOUT_S = 1.0
_FLUSH_TIMEOUT_S = 0.3


class Lender:
    """Serves one monitor to many clients, from :meth:`begin` until :meth:`leave`.

    ``guest_pid`` is the process that serves the monitor, for clients that ask; None where it is not
    visible. ``path`` is the socket on which it lends; None before :meth:`publish`. ``log`` gets a
    line when a client connects or leaves.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self.guest_pid: int | None = None
        self.path: str | None = None
        self.leaving = False
        self._log = log
        self._clients: set[ClientProtocol] = set()
        self._pending: dict[str, tuple[ClientProtocol, Request]] = {}
        self._last_number, self._token = 0, new_token()
        self._greeting = b""
        self._negotiated = False
        self._qemu: asyncio.Transport | None = None
        self._own = ClientProtocol(self)
        self._server: asyncio.Server | None = None
        self._rendezvous: Rendezvous | None = None
        self._drained = asyncio.Event()
        self._no_clients = asyncio.Event()

    async def begin(self, qemu: socket.socket, own: socket.socket) -> None:
        """Connect QEMU with this process's own client; others connect after :meth:`publish`."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self._own, sock=own)
        self._qemu, _ = await loop.create_connection(lambda: QemuProtocol(self, qemu), sock=qemu)

    async def publish(self, rendezvous: Rendezvous) -> None:
        """Accept other clients at the rendezvous.

        Raises:
            OSError: the socket cannot be made there.
        """
        self._rendezvous = rendezvous
        listening = rendezvous.listen()
        self.path = rendezvous.path
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: ClientProtocol(self), sock=listening
        )
        rendezvous.publish()

    async def leave(self) -> None:
        """Finish the requests that QEMU has, then close all connections.

        Every qtctl of which QEMU has no request is sent :data:`~qtctl.monitor.news.LEFT`: the rest
        of its requests was not begun. Takes about a second at most; the guest is left as it is.
        """
        self._stop_listening()
        self.leaving = True
        self._own.close()  # its commands are done
        self._note_drained()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), _DRAIN_TIMEOUT_S)
        unfinished = {client for client, _ in self._pending.values()}
        for client in list(self._clients):
            client.finish(None if client in unfinished else event_message(LEFT, {}))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._no_clients.wait(), _FLUSH_TIMEOUT_S)
        self.end()

    def end(self) -> None:
        """Close all connections at once, the one to QEMU too."""
        self.leaving = True
        self._stop_listening()
        self._close_clients()
        if self._qemu is not None:
            self._qemu.close()

    def _stop_listening(self) -> None:
        if self._rendezvous is not None:
            self._rendezvous.withdraw()
        if self._server is not None:
            self._server.close()
            self._server = None

    def _close_clients(self) -> None:
        for client in list(self._clients):
            client.close()

    def _note_drained(self) -> None:
        awaited = any(client in self._clients for client, _ in self._pending.values())
        if self.leaving and not awaited:
            self._drained.set()

    # -- QEMU --------------------------------------------------------------------------------

    def on_qemu_lost(self, rest: bytes) -> None:
        """Close all connections, as QEMU has; our own client reports an unfinished line."""
        self._own.send(rest)
        self._qemu = None
        self._stop_listening()
        self._close_clients()
        self._pending.clear()
        self._note_drained()

    def on_qemu_line(self, line: bytes) -> None:
        """Route a line of QEMU's to the clients that it is for."""
        if not self._greeting:
            self._take_greeting(line)
            return
        try:
            parsed = read_reply(line)
        except (ValueError, RecursionError):
            self._abort(line)
            return
        if isinstance(parsed, Reply):
            self._route_reply(parsed)
        elif "event" in parsed:
            for client in list(self._clients):
                if client.negotiated:
                    client.send(line)
        elif "error" in parsed and "id" not in parsed:
            self._abort(line)
        else:
            self._own.send(line)  # it belongs to no command, and our own client reports that

    def _take_greeting(self, line: bytes) -> None:
        """Keep QEMU's greeting and send it on, without the capabilities that are not lent."""
        try:
            greeting = json.loads(line)
            greeting["QMP"]["capabilities"] = []
        except (ValueError, LookupError, TypeError, RecursionError):
            self._abort(line)
            return
        self._greeting = message(greeting)
        for client in self._clients:
            client.send(self._greeting)

    def _abort(self, line: bytes) -> None:
        """Disconnect QEMU after a line that breaks the protocol; our own client reports it."""
        self._own.send(line)
        if self._qemu is not None:
            self._qemu.close()

    def _route_reply(self, reply: Reply) -> None:
        client, request = self._pending.pop(reply.issued, (None, None))
        if client is None or request is None:
            return  # the spec: clients drop what has an id that they never gave
        if request.members.get("execute") == "qmp_capabilities" and reply.returned:
            self._negotiated = client.negotiated = True
        client.on_reply(reply.to(request.tag))
        self._note_drained()

    # -- clients -----------------------------------------------------------------------------

    def admits(self, peer: Peer) -> bool:
        """Return whether a client may connect: only processes of this user may."""
        allowed = peer.uid == os.getuid()
        self._log_client(peer, "connected" if allowed else "refused: another user")
        return allowed

    def on_client_connected(self, client: ClientProtocol) -> None:
        """Register a client, and greet it if QEMU has greeted us."""
        self._clients.add(client)
        if self._greeting:
            client.send(self._greeting)

    def on_client_lost(self, client: ClientProtocol) -> None:
        """Forget a client; replies to its last requests are dropped."""
        if client in self._clients:
            self._clients.discard(client)
            self._log_client(client.peer, "left")
        if self.leaving and not self._clients:
            self._no_clients.set()
        self._note_drained()

    def is_for_qemu(self, client: ClientProtocol, request: Request | BadRequest) -> bool:
        """Return whether a request is forwarded to QEMU rather than answered here."""
        if isinstance(request, BadRequest):
            return False
        command = request.members.get("execute")
        if not request.sound or not isinstance(command, str):
            return True  # QEMU refuses it, in its own words and under its id
        return command not in OWN_COMMANDS and (client.negotiated or not self._negotiated)

    def answer(self, client: ClientProtocol, request: Request | BadRequest) -> bytes:
        """Return the reply to a request that is not forwarded to QEMU."""
        if isinstance(request, BadRequest):
            return error_message(request, {})
        tag = {"id": request.members["id"]} if "id" in request.members else {}
        command, arguments = request.members["execute"], request.members.get("arguments", {})
        try:
            return message({"return": self._execute(client, command, arguments), **tag})
        except BadRequest as bad:
            return error_message(bad, tag)

    def _execute(self, client: ClientProtocol, command: str, arguments: Mapping[str, Any]) -> Any:
        if not client.negotiated:
            check_negotiation(command, arguments)
            client.negotiated = True
            return {}
        if command == HELLO:
            client.is_qtctl, client.shows_news = True, arguments.get("listens") is True
            return {"guest_pid": self.guest_pid}
        if command == LENDER:
            clients = [
                {"pid": one.peer.pid, "qtctl": one.is_qtctl, "listens": one.shows_news}
                for one in self._clients - {client, self._own}
            ]
            return {"pid": os.getpid(), "path": self.path, "clients": clients}
        event, data = arguments.get("event"), arguments.get("data")
        if not isinstance(event, str) or not isinstance(data, dict):
            raise BadRequest("Parameters 'event' and 'data' are needed")
        qtctls = [one for one in self._clients if one.is_qtctl]
        for one in qtctls:
            one.send(event_message(event, data))
        return sum(one.shows_news for one in qtctls)

    def forward(self, client: ClientProtocol, request: Request) -> None:
        """Send a request to QEMU under the next id, which bears the token of a qtctl."""
        self._last_number += 1
        issued = id_of(request.sender or self._token, self._last_number)
        self._pending[issued] = client, request
        if self._qemu is not None:
            self._qemu.write(request.under(issued))

    def _log_client(self, peer: Peer, action: str) -> None:
        if peer.pid == os.getpid():
            return
        who = f"{process_name(peer.pid)} (pid {peer.pid})" if peer.pid else "a client"
        self._log(f"{who} {action}")
