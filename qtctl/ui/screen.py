"""Where a console shows lines: talk and results whole, records thinned for the eye.

Nobody waits for a terminal here. What a slow one has no room for is counted like the rest of a
flood; files, filters and counts get every record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from qtctl.commands.output import MakeLines
from qtctl.text.style import Style
from qtctl.ui.row_limiter import WINDOW_S, RowLimiter

_DRAW_S = 0.04
"""Lines that come closer together than this are drawn together."""
MOST_ROWS = 1000
"""Rows of an answer that are drawn: nobody scrolls back through more of them."""


class Screen:
    """The :class:`~qtctl.commands.output.Output` of a console's verbs, shared by all of them.

    ``draw`` puts lines on the terminal; ``ready`` tells whether it takes more without waiting.
    """

    error: OSError | None = None
    tells_news = True
    most_rows: int | None = MOST_ROWS

    def __init__(
        self, style: Style, draw: Callable[[Sequence[str]], None], ready: Callable[[], bool]
    ) -> None:
        self._style = style
        self._draw = draw
        self._ready = ready
        self._loop = asyncio.get_running_loop()
        self._thinner = RowLimiter()
        self._pending: list[str] = []
        self._drawing: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._drawn_at = 0.0

    def write(self, lines: Iterable[str]) -> None:
        """Show lines that are no records."""
        self._tell_left_out()
        self._show(lines)

    async def put(self, lines: MakeLines, records: int = 0) -> None:
        """Show a line that is no record, or as many of the records as are worth drawing."""
        if not records:
            self.write(lines(0))
            return
        drawn = self._thinner.take(records, self._loop.time()) if self._ready() else 0
        if drawn:
            self._tell_left_out()
            self._show(lines(drawn))
        if drawn < records:
            self._thinner.leave_out(records - drawn)
            if self._telling is None:
                self._telling = self._loop.call_later(2 * WINDOW_S, self._tell_left_out)

    async def finish(self, timeout_s: float) -> bool:
        """Draw what is left."""
        self.flush()
        return True

    def check(self) -> None:
        """Nothing fails here: a terminal that is gone ends the console."""

    def flush(self) -> None:
        """Draw now what waits to be drawn."""
        self._tell_left_out()
        self._draw_pending()

    def _tell_left_out(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if self._thinner.left_out:
            self._show([self._style.paint(self._thinner.tell(), "faint")])

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
