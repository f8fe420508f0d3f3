"""The offset between the clocks of two hosts, estimated from answered pings (as NTP, RFC 5905)."""

from __future__ import annotations

from typing import NamedTuple


class Offset(NamedTuple):
    """How far another host's clock is ahead of this one's, in ns: at most ``bound_ns`` off."""

    ahead_ns: int
    bound_ns: int

    @property
    def words(self) -> str:
        """The offset and its bound in words."""
        way = "ahead of" if self.ahead_ns >= 0 else "behind"
        bound = f"(within {_seconds(self.bound_ns)})"
        return f"its clock is {_seconds(abs(self.ahead_ns))} {way} this one's {bound}"


def offset_of(sent_ns: int, received_ns: int, answered_ns: int, back_ns: int) -> Offset:
    """Return the offset by one ping: times here, there, there and here.

    The true offset is within the bound, however the time on the way is split: the way there took
    no less than nothing, and neither did the way back.
    """
    ahead = ((received_ns - sent_ns) + (answered_ns - back_ns)) // 2
    away = max(0, (back_ns - sent_ns) - (answered_ns - received_ns))
    return Offset(ahead, away // 2 + 1)


def _seconds(ns: int) -> str:
    """Return a time in words, rounded up to a unit that fits."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000)):
        if ns >= size:
            return f"{ns / size:,.0f} {unit}" if ns >= 100 * size else f"{ns / size:.3g} {unit}"
    return f"{ns / 1_000_000:.3f} ms"
