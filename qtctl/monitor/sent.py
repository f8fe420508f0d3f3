"""The requests that this process sent to a guest: what shows them in its trace."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from qtctl.monitor.requests import own_token

_KEPT = 256
NEVER_NS = 1 << 63


@dataclass(slots=True, eq=False)
class SentRequest:
    """A request; ``answered_ns`` is 0 before the answer. Both times are Unix times."""

    event: str
    arguments: Mapping[str, object]
    sent_ns: int
    answered_ns: int = 0
    taken: bool = False


class Flight(NamedTuple):
    """From when until when a request was at QEMU, or on its way; it has ``size`` bytes at least."""

    from_ns: int
    until_ns: int
    size: int


@dataclass(slots=True, eq=False)
class Sent:
    """The last requests of this process to one guest; ``mark`` is in the ids of all of them."""

    mark: str = field(default_factory=lambda: f"qtctl-{own_token()}-")
    _requests: deque[SentRequest] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def add(self, command: str, arguments: Mapping[str, object] | None) -> SentRequest:
        """Note a request that is sent now."""
        event = command.replace("-", "_")
        request = SentRequest(event, dict(arguments or {}), time.time_ns())
        self._requests.append(request)
        return request

    def between(self, from_ns: int, until_ns: int) -> list[Flight]:
        """Return the flights of the requests that overlap a time."""
        flights = [
            Flight(one.sent_ns, one.answered_ns or until_ns, len(one.event) + _words(one.arguments))
            for one in tuple(self._requests)
        ]
        return [one for one in flights if one.from_ns <= until_ns and from_ns <= one.until_ns]

    def take(self, event: str, arguments: object, from_ns: int, until_ns: int) -> bool:
        """Return whether QEMU handled such a request between two times; each counts once.

        ``event`` is the command as the names of events have it; ``arguments`` of None are any.
        """
        for request in tuple(self._requests):
            alike = request.event == event and arguments in (None, request.arguments)
            ended_ns = request.answered_ns or until_ns
            if alike and not request.taken and request.sent_ns <= until_ns and from_ns <= ended_ns:
                request.taken = True
                return True
        return False


def _words(arguments: Mapping[str, object]) -> int:
    return sum(len(name) + len(str(value)) for name, value in arguments.items())
