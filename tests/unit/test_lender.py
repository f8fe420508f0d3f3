"""What a lender does at moments that only sockets in hand can arrange."""

from __future__ import annotations

import asyncio
import json
import socket

from qtctl.monitor.lending import Lender

_SECONDS = 60.0


class Line:
    """A blocking end of a connection whose other end the lender has, read in a thread."""

    def __init__(self) -> None:
        self.lenders, self._ours = socket.socketpair()
        self._ours.settimeout(_SECONDS)
        self._lines = self._ours.makefile("rb")

    def say(self, message: object) -> None:
        self._ours.sendall(json.dumps(message).encode() + b"\r\n")

    async def hear(self) -> object:
        return json.loads(await asyncio.to_thread(self._lines.readline) or b"null")

    def hang_up(self) -> None:
        self._lines.close()
        self._ours.close()


async def test_what_qemu_answered_before_it_left_is_passed_on() -> None:
    qemu, client = Line(), Line()
    lender = Lender(lambda _: None)
    await lender.begin(qemu.lenders, client.lenders)
    greeting: object = {"QMP": {"version": {}, "capabilities": []}}
    qemu.say(greeting)
    assert await client.hear() == greeting
    client.say({"execute": "quit", "id": "a"})
    asked = await qemu.hear()
    assert isinstance(asked, dict)
    # The lender finds that it can write no more before it reads what came: the request is first.
    client.say({"execute": "query-status", "id": "b"})
    qemu.say({"return": {}, "id": asked["id"]})
    qemu.hang_up()
    try:
        assert await client.hear() == {"return": {}, "id": "a"}
        assert await client.hear() is None
    finally:
        lender.end()
        client.hang_up()
