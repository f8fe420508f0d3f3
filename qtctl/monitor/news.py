"""QMP events as :data:`~qtctl.model.News`, in a queue that bounds how many are shown.

Names and members: ``docs/interop/qmp-spec`` and ``qapi/*.json`` of QEMU 7.2 to 11.1.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from qtctl.model import Control, GuestEvent, Mark, News

MARK, CONTROL, LEFT = "X_QTCTL_MARK", "X_QTCTL_CONTROL", "X_QTCTL_LEFT"
"""Events that a lender sends beside QEMU's: a console's mark, its switch, and the lender's end."""

CHATTER = frozenset(
    (
        *("BALLOON_CHANGE", "JOB_STATUS_CHANGE", "MEMORY_DEVICE_SIZE_CHANGE", "MIGRATION_PASS"),
        *("NIC_RX_FILTER_CHANGED", "RTC_CHANGE", "VSERPORT_CHANGE"),
        *("SPICE_CONNECTED", "SPICE_DISCONNECTED", "SPICE_INITIALIZED"),
        *("VNC_CONNECTED", "VNC_DISCONNECTED", "VNC_INITIALIZED"),
    )
)
"""Routine events that come by the dozen; they are not shown."""
_LAST_S = (1 << 63) // 1_000_000_000 - 1
"""The last whole second that a time in ns can hold."""
_PER_NAME_PER_S = 20
_NAMES_PER_S = 50
_QUEUED = 1000


def news_of(event: Mapping[str, Any]) -> News | None:
    """Convert a QMP event; None for routine events and for malformed ones."""
    name, data = event.get("event"), event.get("data", {})
    if not isinstance(name, str) or not isinstance(data, Mapping) or name in CHATTER:
        return None
    at_ns = _time_ns(event.get("timestamp"))
    match name, data:
        case "X_QTCTL_MARK", {"text": str(text)}:
            return Mark(text, at_ns)
        case "X_QTCTL_CONTROL", {"action": str(action), "patterns": [*words], "changed": int(n)}:
            pid = data.get("pid")
            by = pid if isinstance(pid, int) else 0
            return Control(action, tuple(map(str, words)), n, at_ns, by)
        case _ if name.startswith("X_QTCTL_"):
            return None
    return GuestEvent(name, data, at_ns)


def _time_ns(stamp: object) -> int:
    """Return Unix time in ns; our own where QEMU sends -1 since its clock failed."""
    match stamp:
        case {"seconds": int(seconds), "microseconds": int(micros)} if (
            0 <= seconds <= _LAST_S and 0 <= micros < 1_000_000
        ):
            return seconds * 1_000_000_000 + micros * 1000
    return time.time_ns()


class EventQueue:
    """A bounded queue of news; of a flood it keeps a part and counts what it drops."""

    def __init__(self) -> None:
        self._news: deque[News] = deque()
        self._filled = asyncio.Event()
        self._second = 0
        self._counts: Counter[type | str] = Counter()
        self._dropped = 0
        self._reported_at = 0.0

    def put(self, news: News) -> None:
        """Append news, or count it as dropped."""
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._counts.clear()
        kind = news.name if isinstance(news, GuestEvent) else type(news)
        known = kind in self._counts or len(self._counts) < _NAMES_PER_S
        if len(self._news) < _QUEUED and known and self._counts[kind] < _PER_NAME_PER_S:
            self._counts[kind] += 1
            self._news.append(news)
            self._filled.set()
        else:
            self._dropped += 1

    async def wait(self) -> None:
        """Wait until the queue holds something."""
        await self._filled.wait()

    def take(self, *, last: bool = False) -> list[News]:
        """Remove and return all news, in order of arrival.

        A :class:`Mark` at the end reports how many were dropped: once a second, and with ``last``.
        """
        self._filled.clear()
        taken = list(self._news)
        self._news.clear()
        now = time.monotonic()
        if self._dropped and (last or now - self._reported_at >= 1):
            words = f"{self._dropped} QMP events came too fast and are not shown"
            taken.append(Mark(words, time.time_ns()))
            self._dropped, self._reported_at = 0, now
        return taken
