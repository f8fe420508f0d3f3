"""Unix time from clocks of the kernel, and from local times without a year."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone, tzinfo

_DAY_S = 86400
_TRIES = 5
_STEP_NS = 100_000
"""A difference from the offset before that is no error of measuring it: the clock was set."""


def unix_offset_ns(clock: int = time.CLOCK_MONOTONIC) -> int:
    """Return Unix time minus a clock, in ns, to about 1 us."""
    tries = []
    for _ in range(_TRIES):
        before = time.clock_gettime_ns(clock)
        now = time.time_ns()
        after = time.clock_gettime_ns(clock)
        tries.append((after - before, now - (before + after) // 2))
    return min(tries)[1]


class UnixOffset:
    """Unix time minus CLOCK_MONOTONIC; changes only when the clock is set."""

    def __init__(self) -> None:
        self._offset_ns = unix_offset_ns()

    def ns(self) -> int:
        """Measure it and return it, in ns."""
        fresh = unix_offset_ns()
        if abs(fresh - self._offset_ns) > _STEP_NS:
            self._offset_ns = fresh
        return self._offset_ns


def local_unix_s(month: int, day: int, second: int, now_s: int) -> int:
    """Return Unix time in s of a second of a local day, in the latest year not in the future.

    Returns -1 if these years have no such day.
    """
    year = time.localtime(now_s).tm_year
    for guess in (year + 1, year, year - 1):
        with suppress(ValueError):  # February 29
            moment = datetime(guess, month, day) + timedelta(seconds=second)
            if moment.timestamp() <= now_s + _DAY_S:
                return int(moment.timestamp())
    return -1


def zone_of(text: bytes) -> tzinfo | None:
    """Return the zone of ``Z``, ``UTC``, ``+0200`` or ``+02:00``; None for local time.

    Raises:
        ValueError: it is another zone's name, which may mean several zones.
    """
    if text in (b"Z", b"UTC", b"GMT"):
        return UTC
    if text[:1] in (b"+", b"-"):
        digits = text[1:].replace(b":", b"")
        shift = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        return timezone(shift if text[:1] == b"+" else -shift)
    if text and text.decode() not in time.tzname:
        raise ValueError(f"{text!r} may be several zones")
    return None
