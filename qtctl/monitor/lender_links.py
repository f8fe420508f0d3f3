"""The connections of a lender: to its clients, and to QEMU."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import Protocol, cast

from qtctl.monitor.messages import MessageLines
from qtctl.monitor.requests import BadRequest, Request, Splitter, read_request
from qtctl.monitor.sockets import Peer, peer_of

UNREAD_LIMIT_BYTES = 32 << 20
"""A client that leaves more than this unread is disconnected."""
_REPLY_LIMIT_BYTES = 64 << 20
_IN_FLIGHT = 8
"""Requests of one client that QEMU has at a time."""
_QUEUED = 8
"""Requests of one client that may wait here before it is read on."""


class Router(Protocol):
    """The lender, as its connections see it."""

    leaving: bool
    """Whether it begins no more requests."""

    def admits(self, peer: Peer) -> bool:
        """Return whether a client may connect."""

    def on_client_connected(self, client: ClientProtocol) -> None:
        """Register a client."""

    def on_client_lost(self, client: ClientProtocol) -> None:
        """Forget a client."""

    def is_for_qemu(self, client: ClientProtocol, request: Request | BadRequest) -> bool:
        """Return whether a request is forwarded to QEMU rather than answered here."""

    def forward(self, client: ClientProtocol, request: Request) -> None:
        """Send a request to QEMU."""

    def answer(self, client: ClientProtocol, request: Request | BadRequest) -> bytes:
        """Return the reply to a request that is not forwarded to QEMU."""

    def on_qemu_line(self, line: bytes) -> None:
        """Route a message of QEMU's."""

    def on_qemu_lost(self, rest: bytes) -> None:
        """End; ``rest`` is a line that QEMU did not finish."""


class ClientProtocol(asyncio.Protocol):
    """One client of a lender."""

    def __init__(self, lender: Router) -> None:
        self.negotiated = self.is_qtctl = self.shows_news = False
        self.peer = Peer(None, None)
        self._lender = lender
        self._transport: asyncio.Transport
        self._splitter = Splitter()
        self._queue: deque[Request | BadRequest] = deque()
        self._in_flight = 0
        self._input_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the client, or disconnect one that is not admitted."""
        self._transport = cast(asyncio.Transport, transport)
        self.peer = peer_of(transport.get_extra_info("socket"))
        if self._lender.leaving or not self._lender.admits(self.peer):
            self._transport.abort()
            return
        self._lender.on_client_connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop its requests that are still queued."""
        self._queue.clear()
        self._lender.on_client_lost(self)

    def data_received(self, data: bytes) -> None:
        """Queue requests; a lender that leaves begins no more of them."""
        if self._lender.leaving:
            return
        self._queue.extend(map(_parsed, self._splitter.feed(data)))
        self._serve()

    def eof_received(self) -> bool:
        """Keep the connection open until the requests before the end of input are answered."""
        self._input_ended = True
        return bool(self._in_flight or self._queue)

    def _serve(self) -> None:
        """Begin queued requests in order.

        A reply of the lender's own waits for replies of QEMU's to earlier requests, unless the
        request is well formed and the client has negotiated.
        """
        while self._queue and self._in_flight < _IN_FLIGHT and not self._lender.leaving:
            if self._lender.is_for_qemu(self, request := self._queue[0]):
                self._in_flight += 1
                self._lender.forward(self, cast(Request, request))
            elif self._in_flight and not (self.negotiated and isinstance(request, Request)):
                break
            else:
                self.send(self._lender.answer(self, request))
            self._queue.popleft()
        if len(self._queue) > _QUEUED:
            self._transport.pause_reading()
        elif not self._transport.is_reading():
            self._transport.resume_reading()
        if self._input_ended and not self._in_flight:
            self._transport.close()

    def on_reply(self, data: bytes) -> None:
        """Send a reply of QEMU's, and begin the next requests."""
        self._in_flight -= 1
        self.send(data)
        self._serve()

    def send(self, data: bytes) -> None:
        """Send without waiting; disconnect a client that does not read."""
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
            self._transport.abort()

    def finish(self, event: bytes | None) -> None:
        """Send a last event to a qtctl, if any, and end the output."""
        if event is not None and self.is_qtctl:
            self.send(event)
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self._transport.write_eof()

    def close(self) -> None:
        """Close the connection once what was sent is flushed."""
        self._transport.close()


class QemuProtocol(asyncio.Protocol):
    """A lender's connection to QEMU, split into messages."""

    def __init__(self, lender: Router, sock: socket.socket) -> None:
        self._lender = lender
        self._sock = sock
        self._transport: asyncio.Transport
        self._rest = bytearray()
        self._lines = MessageLines()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Split lines; a long one comes in many parts."""
        *whole, rest = data.split(b"\n")
        for line in whole:
            message = self._lines.add(b"".join((self._rest, line, b"\n")))
            self._rest.clear()
            if message is not None:
                self._lender.on_qemu_line(message)
        self._rest += rest
        if len(self._rest) > _REPLY_LIMIT_BYTES:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Read what QEMU sent before it closed the connection, then notify the lender."""
        # asyncio reads no more once a write has failed, and QEMU may have answered before it left.
        with contextlib.suppress(OSError):
            while data := self._sock.recv(1 << 16):
                self.data_received(data)
        self._lender.on_qemu_lost(bytes(self._rest))


def _parsed(raw: bytes | BadRequest) -> Request | BadRequest:
    try:
        return raw if isinstance(raw, BadRequest) else read_request(raw)
    except BadRequest as bad:
        return bad
