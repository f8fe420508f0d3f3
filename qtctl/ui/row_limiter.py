"""Limiting the records drawn a second to what can be read, and counting the others. Pure."""

from __future__ import annotations

WINDOW_S = 0.25
ROWS_A_WINDOW = 25
BURST = 200
"""So many may be drawn at once after a pause: a burst is worth reading whole."""


class RowLimiter:
    """Passes ``BURST`` records at once and then ``ROWS_A_WINDOW`` every ``WINDOW_S``.

    The rows of one window are consecutive records of the guest. ``left_out`` counts the records
    that were not passed since :meth:`report`.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._allowed = BURST
        self._window = 0

    def take(self, records: int, now_s: float) -> int:
        """Return how many of the next ``records`` to draw; ``now_s`` is a monotonic clock.

        Report ``left_out`` before drawing them: those came earlier.
        """
        window = int(now_s / WINDOW_S)
        gained = max(0, window - self._window) * ROWS_A_WINDOW
        self._window = max(window, self._window)
        self._allowed = min(BURST, self._allowed + gained)
        drawn = min(records, self._allowed)
        self._allowed -= drawn
        return drawn

    def leave_out(self, records: int) -> None:
        """Count records that are not drawn."""
        self.left_out += records

    def report(self) -> str:
        """Return a line with the number left out, empty if it is 0; reset the number."""
        count, self.left_out = self.left_out, 0
        return f"... {count:,} more, counted and not drawn" if count else ""
