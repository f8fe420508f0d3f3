"""What a lender says itself, without QEMU: its own commands, events and errors.

The error texts of the negotiation are QEMU's (``monitor/qmp.c`` of QEMU 7.2).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from qtctl.monitor.requests import BadRequest

HELLO, ANNOUNCE, LENDER = "x-qtctl-hello", "x-qtctl-announce", "x-qtctl-lender"
"""Commands that the lender answers itself; QEMU never sees them."""

OWN_COMMANDS = (HELLO, ANNOUNCE, LENDER)


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


def check_negotiation(command: str, arguments: Mapping[str, Any]) -> None:
    """Check the first command of a client, after QEMU has negotiated with this process.

    Raises:
        BadRequest: QEMU would refuse it.
    """
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
