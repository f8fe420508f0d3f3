"""Unix time from clocks of the kernel, and from local times without a year."""

from __future__ import annotations

import functools
import re
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone, tzinfo

_DAY_S = 86400
_TRIES = 5
_STEP_NS = 100_000
"""A difference from the offset before that is no error of measuring it: the clock was set."""


def unix_offset_ns(clock: int = time.CLOCK_MONOTONIC) -> int:
    """Return Unix time minus a clock, in ns, to about 1 us."""
    return measured_offset_ns(clock)[0]


def measured_offset_ns(clock: int = time.CLOCK_MONOTONIC) -> tuple[int, int]:
    """Return Unix time minus a clock, and by how much that may be wrong, both in ns."""
    tries = []
    for _ in range(_TRIES):
        before = time.clock_gettime_ns(clock)
        now = time.time_ns()
        after = time.clock_gettime_ns(clock)
        tries.append((after - before, now - (before + after) // 2))
    span, offset_ns = min(tries)
    return offset_ns, (span + 1) // 2


class UnixOffset:
    """Unix time minus CLOCK_MONOTONIC; changes only when the clock is set."""

    def __init__(self) -> None:
        self._offset_ns, self.error_ns = measured_offset_ns()

    def ns(self) -> int:
        """Measure it and return it, in ns."""
        fresh = unix_offset_ns()
        if abs(fresh - self._offset_ns) > _STEP_NS:
            self._offset_ns = fresh
        return self._offset_ns


@functools.cache
def shared_offset() -> UnixOffset:
    """Return the offset of this process: times of several buffers of the kernel compare exactly."""
    return UnixOffset()


def yearless_unix_s(
    month: int, day: int, second: int, now_s: int, zone: tzinfo | None = None
) -> int:
    """Return Unix time in s of a second of a day in a zone, in the latest year not in the future.

    Without a zone it is a local day. Returns -1 if these years have no such day.
    """
    year = time.localtime(now_s).tm_year
    for guess in (year + 1, year, year - 1):
        with suppress(ValueError):  # February 29
            moment = datetime(guess, month, day, tzinfo=zone) + timedelta(seconds=second)
            if moment.timestamp() <= now_s + _DAY_S:
                return int(moment.timestamp())
    return -1


def zone_of(text: bytes) -> tzinfo | None:
    """Return the zone of ``Z``, ``UTC``, ``+0200``, ``GMT+2``, ``Europe/Berlin``; None: local time.

    Raises:
        ValueError: it is another zone's name, which may mean several zones.
    """
    name, sign, shift = re.fullmatch(r"(.*?)(?:([+-])([\d:]+))?", text.decode()).groups()  # type: ignore[union-attr]
    if "/" in name:
        return _zone_named(text.decode())
    if name.upper() in ("Z", "UTC", "GMT") or (sign and not name):
        digits = (shift or "0").replace(":", "")
        hours, minutes = (digits[:-2], digits[-2:]) if len(digits) > 2 else (digits, "0")
        ahead = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-ahead if sign == "-" else ahead)
    if name and (sign or name not in time.tzname):
        raise ValueError(f"{text!r} may be several zones")
    return None


def _zone_named(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(f"{name!r} is no zone that is known here") from error
