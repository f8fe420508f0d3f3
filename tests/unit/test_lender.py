"""Races of a lender that need control of both of its sockets."""

from __future__ import annotations

import asyncio
import json
import socket

from qtctl.monitor.lending import Lender

_SECONDS = 60.0


class Peer:
    """A blocking end of a connection whose other end the lender has, read in a thread."""

    def __init__(self) -> None:
        self.lenders, self._ours = socket.socketpair()
        self._ours.settimeout(_SECONDS)
        self._lines = self._ours.makefile("rb")

    def send(self, message: object) -> None:
        self._ours.sendall(json.dumps(message).encode() + b"\r\n")

    async def receive(self) -> object:
        return json.loads(await asyncio.to_thread(self._lines.readline) or b"null")

    def close(self) -> None:
        self._lines.close()
        self._ours.close()


async def test_replies_sent_before_qemu_closed_are_routed() -> None:
    qemu, client = Peer(), Peer()
    lender = Lender(lambda _: None)
    await lender.begin(qemu.lenders, client.lenders)
    greeting: object = {"QMP": {"version": {}, "capabilities": []}}
    qemu.send(greeting)
    assert await client.receive() == greeting
    client.send({"execute": "quit", "id": "a"})
    asked = await qemu.receive()
    assert isinstance(asked, dict)
    # The lender finds that it can write no more before it reads what came: the request is first.
    client.send({"execute": "query-status", "id": "b"})
    qemu.send({"return": {}, "id": asked["id"]})
    qemu.close()
    try:
        assert await client.receive() == {"return": {}, "id": "a"}
        assert await client.receive() is None
    finally:
        lender.end()
        client.close()
