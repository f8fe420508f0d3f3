"""What a lender answers itself, without QEMU: negotiation, its own commands, and bad requests.

The error texts of the negotiation are QEMU's (``monitor/qmp.c`` of QEMU 7.2).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from qtctl.monitor.requests import BadRequest, Request

HELLO, ANNOUNCE, LENDER = "x-qtctl-hello", "x-qtctl-announce", "x-qtctl-lender"
"""Commands that the lender answers itself; QEMU never sees them."""

OWN_COMMANDS = (HELLO, ANNOUNCE, LENDER)


class LentClient(Protocol):
    """A client of a lender, as commands see it."""

    negotiated: bool
    is_qtctl: bool
    shows_news: bool

    def send(self, data: bytes) -> None:
        """Send bytes without waiting."""

    def described(self) -> dict[str, Any]:
        """Return its pid and kind, as ``x-qtctl-lender`` lists them."""


class LenderFacts(Protocol):
    """The facts about a lender that its commands return."""

    guest_pid: int | None

    @property
    def path(self) -> str | None:
        """The socket on which it lends; None where it could not be made."""

    def clients(self, *, but: LentClient) -> Iterable[LentClient]:
        """Return all clients except one, this process's own left out too."""

    def everybody(self) -> Iterable[LentClient]:
        """Return all clients."""


def answer(lender: LenderFacts, client: LentClient, request: Request | BadRequest) -> bytes:
    """Return the reply to a request that is not forwarded to QEMU."""
    if isinstance(request, BadRequest):
        return error_message(request, {})
    tag = {"id": request.members["id"]} if "id" in request.members else {}
    command, arguments = request.members["execute"], request.members.get("arguments", {})
    try:
        if not client.negotiated:
            value = _negotiate(client, command, arguments)
        elif command == HELLO:
            value = _hello(lender, client, arguments)
        elif command == LENDER:
            value = _describe(lender, client)
        else:
            value = _announce(lender, arguments)
    except BadRequest as bad:
        return error_message(bad, tag)
    return message({"return": value, **tag})


def message(members: Mapping[str, Any]) -> bytes:
    """Encode a QMP message as QEMU does."""
    return json.dumps(members).encode() + b"\r\n"


def event_message(name: str, data: Mapping[str, Any]) -> bytes:
    """Encode an event of the lender's own, with the time of now."""
    now = time.time_ns() // 1000
    stamp = {"seconds": now // 1_000_000, "microseconds": now % 1_000_000}
    return message({"timestamp": stamp, "event": name, "data": dict(data)})


def error_message(bad: BadRequest, tag: Mapping[str, Any]) -> bytes:
    """Encode an error reply; ``tag`` holds the ``id`` of its request, if any."""
    return message({**tag, "error": {"class": bad.kind, "desc": str(bad)}})


def _negotiate(client: LentClient, command: str, arguments: Mapping[str, Any]) -> Any:
    """Negotiate with a client, after QEMU has negotiated with this process."""
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


def _hello(lender: LenderFacts, client: LentClient, arguments: Mapping[str, Any]) -> Any:
    client.is_qtctl, client.shows_news = True, arguments.get("listens") is True
    return {"guest_pid": lender.guest_pid}


def _describe(lender: LenderFacts, client: LentClient) -> Any:
    clients = [one.described() for one in lender.clients(but=client)]
    return {"pid": os.getpid(), "path": lender.path, "clients": clients}


def _announce(lender: LenderFacts, arguments: Mapping[str, Any]) -> int:
    """Send an event to every qtctl; return how many of them show news."""
    event, data = arguments.get("event"), arguments.get("data")
    if not isinstance(event, str) or not isinstance(data, dict):
        raise BadRequest("Parameters 'event' and 'data' are needed")
    qtctls = [one for one in lender.everybody() if one.is_qtctl]
    for one in qtctls:
        one.send(event_message(event, data))
    return sum(one.shows_news for one in qtctls)
