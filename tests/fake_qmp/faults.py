"""What can be wrong with a monitor, by name.

A fault is written ``NAME``, ``NAME:ARG`` or ``NAME:ARG:ARG``; ``*N`` at the end lets it happen N
times only. COMMAND restricts a fault to one QMP command; without it every command but
``qmp_capabilities`` is hit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: name -> (what its arguments are, what it does)
FAULTS: dict[str, tuple[str, str]] = {
    "no-greeting": ("", "never says anything on a connection"),
    "late-greeting": ("SECONDS", "greets only after a while"),
    "greeting-byte-by-byte": ("", "sends the greeting in single bytes"),
    "garbage-greeting": ("", "greets with bytes that are no JSON"),
    "wrong-greeting": ("", "greets with JSON that is not QMP's"),
    "greeting-without": ("MEMBER", "greets without a member: version, qemu, major or capabilities"),
    "hangup-at-connect": ("", "closes before greeting"),
    "hangup-after-greeting": ("", "closes right after greeting"),
    "refuse-negotiation": ("", "answers qmp_capabilities with an error"),
    "hangup-before-reply": ("COMMAND", "runs the command, then closes without a reply"),
    "hangup-mid-reply": ("COMMAND", "closes in the middle of the reply"),
    "no-reply": ("COMMAND", "neither runs the command nor replies"),
    "applied-but-unanswered": ("COMMAND", "runs the command (trace-event-set-state), no reply"),
    "late-reply": ("SECONDS:COMMAND", "runs the command and replies after a while"),
    "error-reply": ("COMMAND", "replies with an error, does not run the command"),
    "wrong-id": ("COMMAND", "replies with another id"),
    "missing-id": ("COMMAND", "replies without the id"),
    "id-less-error": ("COMMAND", "replies with an error without an id"),
    "deep-json": ("COMMAND", "replies with lists nested 100,000 deep"),
    "huge-line": ("COMMAND", "replies with one line of 12 MB"),
    "split-json": ("COMMAND", "sends the reply in pieces: a thousand of 1 to 7 bytes, then larger"),
    "invalid-utf8": ("COMMAND", "replies with a string that is not UTF-8"),
    "control-characters": ("COMMAND", "puts ESC, BEL and C1 bytes into names and texts of replies"),
    "reply-not-object": ("KIND:COMMAND", "replies with a list, or a number if KIND is number"),
    "odd": ("SHAPE:COMMAND", "replies with a value of another shape: see ODD"),
    "id-list": ("COMMAND", "replies under an id that is a list"),
    "huge-number": ("COMMAND", "replies with an integer of 5,000 digits"),
    "event-flood": ("N", "sends N events (10,000) after negotiation"),
    "freeze": ("N", "stops reading and answering after N commands (1)"),
}

#: What no QEMU returns, by the name of their shape.
ODD: dict[str, object] = {
    "null": None,
    "text": "x",
    "number": 7,
    "huge": 10**30,
    "list": [[]],
    "numbers": [1, 2],
    "empty": {},
    "nulls": [None],
    "nested": {"name": {}, "status": [], "guest_pid": "x", "pid": [], "clients": 1, "qemu": 1},
    "unnamed": [{"name": [], "state": {}, "thread-id": [1], "id": {}, "path": 0}],
    "state": [{"name": "virtio_blk_handle_read", "state": "perhaps"}],
    "surrogate": [{"name": "\ud800", "state": "enabled"}],
}

#: Faults that hit one command unless told otherwise.
_USUALLY = {"applied-but-unanswered": "trace-event-set-state"}


class FaultError(ValueError):
    """A fault spelled wrong."""


@dataclass(slots=True)
class Fault:
    """One fault and how often it may still happen."""

    name: str
    arguments: dict[str, str]
    left: int | None = None

    def hits(self, command: str) -> bool:
        """Tell whether a command is hit."""
        wanted = self.arguments.get("COMMAND") or _USUALLY.get(self.name)
        return command == wanted if wanted else command != "qmp_capabilities"

    @property
    def seconds(self) -> float:
        """Delay it asks for."""
        return float(self.arguments["SECONDS"])

    def count(self, otherwise: int) -> int:
        """Return the number it asks for."""
        return int(self.arguments.get("N") or otherwise)


def parse(text: str) -> Fault:
    """Read one fault."""
    body, star, times = text.partition("*")
    name, *given = body.split(":")
    if name not in FAULTS:
        raise FaultError(f"no fault {name!r}; there are {', '.join(FAULTS)}")
    slots = [slot for slot in FAULTS[name][0].split(":") if slot]
    if len(given) > len(slots):
        raise FaultError(f"{name} takes {FAULTS[name][0] or 'no argument'}, not {body!r}")
    fault = Fault(name, dict(zip(slots, given, strict=False)), int(times) if star else None)
    if "SECONDS" in slots and not fault.arguments.get("SECONDS"):
        raise FaultError(f"{name} needs SECONDS")
    return fault


class Faults:
    """The faults that are switched on; asking for one that applies uses it up."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._faults = [parse(text) for text in texts]

    def take(self, name: str, command: str | None = None) -> Fault | None:
        """Return the fault if it is on, has turns left and hits the command."""
        for fault in self._faults:
            if fault.name != name or fault.left == 0:
                continue
            if command is not None and not fault.hits(command):
                continue
            if fault.left is not None:
                fault.left -= 1
            return fault
        return None
