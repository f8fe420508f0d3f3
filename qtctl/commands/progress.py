"""Progress of long work: one line on a terminal's stderr, drawn by rich."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Self

from qtctl.commands.context import Context
from qtctl.text.status_line import REDRAW_S, StatusLine
from qtctl.text.style import Style
from qtctl.text.units import short


class Progress:
    """A bar for work of ``total`` bytes or seconds (None: unknown), its rate and the time left.

    ``label`` returns what stands behind the bar, such as ``12 MiB of 340 MiB``. The line is
    rewritten at most every half second, on a terminal only, not with ``-q``, and not in a console,
    which draws for itself. ``alone``: no data is written to the terminal meanwhile. What is
    reported on stderr clears the line, as does the end of a ``with``.
    """

    def __init__(
        self,
        context: Context,
        total: float | None,
        label: Callable[[float], str],
        *,
        alone: bool = True,
    ) -> None:
        self._line = context.status_line() if alone else StatusLine(Style())
        self._total = total
        self._label = label
        self._began = time.monotonic()
        self._due = self._began + REDRAW_S

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def update(self, done: float) -> None:
        """Show that ``done`` of the total is done, if the line is due."""
        if self._line.style.terminal and time.monotonic() >= self._due:
            self._due = time.monotonic() + REDRAW_S
            self._line.draw(self._draw(done))

    def clear(self) -> None:
        """Empty the line, so that other text can be written."""
        self._line.clear()

    def _draw(self, done: float) -> str:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        from qtctl.text.tables import render

        took = time.monotonic() - self._began
        words = self._label(done)
        if self._total:
            share = min(1.0, done / self._total)
            words = f"{share:4.0%}  {words}"
            if done:
                words += f"  {_clock(took / share - took)} left"
        style = self._line.style
        grid = Table.grid(padding=(0, 2, 0, 0))
        cells: list[ProgressBar | Text] = []
        room = style.width - len(words) - 2
        if self._total and room >= 8 and style.unicode:
            width = min(40, room)
            cells.append(ProgressBar(self._total, min(done, self._total), width=width))
            grid.add_column(width=width)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_row(*cells, Text(words))
        return next(render(style, grid), "")


def bytes_progress(context: Context, size: int | None, *, alone: bool = True) -> Progress:
    """Return the progress of reading ``size`` bytes (None or 0: unknown)."""
    began = time.monotonic()
    of = f" of {size >> 20} MiB" if size else ""

    def label(done: float) -> str:
        rate = done / max(time.monotonic() - began, 1e-9)
        return f"{int(done) >> 20} MiB{of}  {short(rate)}B/s"

    return Progress(context, size or None, label, alone=alone)


def _clock(seconds: float) -> str:
    """Return a number of seconds as ``1:05`` or ``2:03:04``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
