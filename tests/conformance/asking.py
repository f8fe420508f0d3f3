"""Asks a list of calls over a raw socket and makes the answers comparable."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Sequence
from typing import Any

from .calls import Call

_SECONDS = 60.0
#: Ends every call, so that a call with no answer, or two, is seen as such.
#: Before negotiation it is refused, under its id all the same.
_MARK = "end-of-call"
_FENCE = json.dumps({"execute": "query-name", "id": _MARK})


class Asker:
    """A raw client."""

    def __init__(self, address: str) -> None:
        self._link = socket.socket(socket.AF_UNIX)
        self._link.settimeout(_SECONDS)
        self._link.connect(address)
        self._lines = self._link.makefile("rb")
        self.greeting = json.loads(self._lines.readline())

    def ask(self, call: Call) -> list[Any]:
        """Send one call and return everything that was said to it, events too."""
        self._link.sendall(call.encode() + _FENCE.encode())
        heard = []
        with contextlib.suppress(ConnectionResetError):  # it quit, and never read the fence
            for line in self._lines:
                message = json.loads(line)
                if message.get("id") == _MARK:
                    break
                heard.append(message)
        return heard

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._link.close()


def ask_all(address: str, calls: Sequence[Call], folder: str) -> list[list[Any]]:
    """Ask every call on one connection; the last one may end the guest."""
    asker = Asker(address)
    try:
        answers = [[asker.greeting]]
        for call in calls:
            answers.append(asker.ask(call.replace("{dir}", folder)))
        return answers
    finally:
        asker.close()


def normal(value: Any, folder: str = "", key: str = "") -> Any:
    """Replace what legitimately differs from one guest to the next."""
    if isinstance(value, dict):
        return {name: normal(inner, folder, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [normal(inner, folder, key) for inner in value]
    if key in ("seconds", "microseconds", "thread-id") and isinstance(value, int):
        return "N"
    if key == "package":
        return "PACKAGE"
    if not isinstance(value, str):
        return value
    text = value.replace(folder, "DIR") if folder else value
    text = re.sub(r"unix:[^,]*qmp\.sock", "unix:SOCKET", text)
    text = re.sub(r"(thread_id=|\"trace-)\d+", r"\1N", text)
    # 7.2.22Debian 1:7.2+dfsg-7: number and package run together.
    text = re.sub(r"^(\d+\.\d+\.\d+)\S.*", r"\1PACKAGE", text)
    text = re.sub(r"^(\d+\.\d+\.\d+)(?:PACKAGE)?\r\n", r"\1\r\n", text)
    # Only the distance within one conversation could be compared, and fences stretch it.
    return re.sub(r"^\d+:\d+: JSON", "L:C: JSON", text)


def unordered(value: Any) -> str:
    """Key that ignores the order of an object's members, which QEMU takes from a hash."""
    return json.dumps(value, sort_keys=True)
