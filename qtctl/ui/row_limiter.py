"""How many records a second are drawn for the eye, and the count of those that are not. Pure."""

from __future__ import annotations

WINDOW_S = 0.25
ROWS_A_WINDOW = 25
BURST = 200
"""What may be drawn at once after a while of silence: a burst is worth reading whole."""


class RowLimiter:
    """Lets through ``BURST`` records at once and then ``ROWS_A_WINDOW`` every ``WINDOW_S``.

    Rows of one window come together, so that they follow each other in the guest as well.
    ``left_out`` counts the records that were not let through and not told of yet.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self._allowed = BURST
        self._window = 0

    def take(self, records: int, now_s: float) -> int:
        """Return how many of the next ``records`` to draw; ``now_s`` is any clock that only grows.

        Tell of ``left_out`` before drawing them: the others came earlier.
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

    def tell(self) -> str:
        """Return the line that tells of what was left out, empty if nothing was; forget it."""
        count, self.left_out = self.left_out, 0
        return f"... {count:,} more, counted and not drawn" if count else ""
