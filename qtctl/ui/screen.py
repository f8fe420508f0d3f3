"""The output of a console: messages and results in full, records at a rate that can be read.

Nothing waits for the terminal. Records that a slow one has no room for are counted like the rest of
a flood; files, filters and counts get every record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from qtctl.commands.context import Context
from qtctl.commands.output import MakeLines
from qtctl.text.status_line import StatusLine
from qtctl.text.style import Style

WINDOW_S = 0.25
ROWS_A_WINDOW = 25
BURST = 200
"""So many may be drawn at once after a pause: a burst is worth reading whole."""
_DRAW_S = 0.04
"""Lines that come within this time are drawn together."""
MOST_ROWS = 1000
"""At most so many rows of an answer are drawn."""


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

    def report(self) -> str:
        """Return a line with the number left out, empty if it is 0; reset the number."""
        count, self.left_out = self.left_out, 0
        return f"... {count:,} more, counted and not drawn" if count else ""


class Screen:
    """The :class:`~qtctl.commands.output.Output` shared by the verbs of a console.

    ``draw`` writes lines to the terminal; ``ready`` returns whether it takes more without waiting.
    """

    error: Exception | None = None
    tells_news = True
    most_rows: int | None = MOST_ROWS

    def __init__(
        self, style: Style, draw: Callable[[Sequence[str]], None], ready: Callable[[], bool]
    ) -> None:
        self._style = style
        self._draw = draw
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self._limiter = RowLimiter()
        self._pending: list[str] = []
        self._drawing: asyncio.TimerHandle | None = None
        self._reporting: asyncio.TimerHandle | None = None
        self._drawn_at = 0.0

    def write(self, lines: Iterable[str]) -> None:
        """Show lines that are no records."""
        self._report_left_out()
        self._show(lines)

    async def put(self, lines: MakeLines, records: int = 0) -> None:
        """Show lines that are no records, or as many records as the limiter passes."""
        if not records:
            self.write(lines(0))
            return
        drawn = self._limiter.take(records, self._loop.time()) if self._ready() else 0
        if drawn:
            self._report_left_out()
            self._show(lines(drawn))
        if drawn < records:
            self._limiter.left_out += records - drawn
            if self._reporting is None:
                self._reporting = self._loop.call_later(2 * WINDOW_S, self._report_left_out)

    async def finish(self, timeout_s: float) -> bool:
        """Draw the rest; return True."""
        self.flush()
        return True

    def check(self) -> None:
        """Do nothing: if the terminal is gone, the console ends."""

    def flush(self) -> None:
        """Draw now."""
        self._report_left_out()
        self._draw_pending()

    def _report_left_out(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        if self._limiter.left_out:
            self._show([self._style.paint(self._limiter.report(), "faint")])

    def _show(self, lines: Iterable[str]) -> None:
        self._pending += lines
        if self._drawing is None and self._pending:
            wait_s = self._drawn_at + _DRAW_S - self._loop.time()
            self._drawing = self._loop.call_later(max(0.0, wait_s), self._draw_pending)

    def _draw_pending(self) -> None:
        if self._drawing is not None:
            self._drawing.cancel()
            self._drawing = None
        if self._pending:
            lines, self._pending = self._pending, []
            self._draw(lines)
            self._drawn_at = self._loop.time()


class Messages(Protocol):
    """Where messages are shown among other things."""

    def write(self, lines: Iterable[str]) -> None:
        """Show lines that are safe to print."""


@dataclass(slots=True)
class ScreenContext(Context):
    """Writes on the screen while there is one, and on stdout and stderr before and after."""

    screen: Messages | None = field(default=None, kw_only=True)

    def status_line(self) -> StatusLine:
        """Return a line that draws nothing while there is a screen."""
        return Context.status_line(self) if self.screen is None else StatusLine(Style())

    def write(self, lines: Iterable[str]) -> None:
        """Write lines of data."""
        if self.screen is None:
            Context.write(self, lines)
        else:
            self.screen.write(lines)

    def talk(self, lines: Iterable[str]) -> None:
        """Write messages."""
        if self.screen is None:
            Context.talk(self, lines)
        else:
            self.screen.write(lines)
