"""The rates of a view: a row of them and a second of the last minute are selected. No terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from qtctl.analysis.rates import HISTORY_S, SORTS, Key, Sort
from qtctl.text.bars import sparkline
from qtctl.text.style import Style
from qtctl.text.tables import cut
from qtctl.ui.rate_table import rate_table
from qtctl.ui.stream_rates import StreamRates
from qtctl.ui.timeline import Timeline

_FOOT = 2
_LEAST_HEIGHT = 6
"""In fewer rows only the table is shown."""


class RatesView:
    """Rates by group, sorted by ``sort``; ``group`` is the place of the selected one in ``groups``.

    Below stand the records of each of the last seconds. While one of them is selected (``second``,
    of the monotonic clock), the rates are those in that second, and hold still.
    """

    def __init__(self, style: Style, sort: Sort, timeline: Timeline) -> None:
        self.sort = sort
        self.groups: Sequence[Key] = ()
        self.group = 0
        self.second: int | None = None
        self.lines: list[str] = []
        self._style = style
        self._timeline = timeline
        self._entered: int | None = None
        self._made: object = None
        self._first = 0
        self._rows = 0

    @property
    def selected(self) -> int:
        """The line of the selected group."""
        return self.group + 1

    # The time that is shared.

    def enter(self, moment: int | None) -> str:
        """Select the second in which the records of a time came; None: show the rates of now.

        Returns a note if that second is not kept.
        """
        second = None if moment is None else self._timeline.second_of(moment)
        kept = second is not None and self._oldest() <= second <= int(time.monotonic())
        self.second = self._entered = second if kept else None
        if moment is None or kept:
            return ""
        return "that time is not in the last minute: these are the rates of now"

    def leave(self, moment: int | None) -> int | None:
        """Return the time of the selected second, or ``moment`` if it is still that."""
        if self.second == self._entered:
            return moment
        return None if self.second is None else self._timeline.time_of(self.second)

    def _oldest(self) -> int:
        return int(time.monotonic()) - HISTORY_S + 1

    # Keys and the mouse.

    def move(self, down: int) -> None:
        """Select the group ``down`` rows further down."""
        self.group = max(0, min(len(self.groups) - 1, self.group + down))

    def sideways(self, seconds: int) -> None:
        """Select a later second, or an earlier one if negative; behind the last, go on."""
        newest = int(time.monotonic())
        second = newest - 1 if self.second is None else self.second + seconds
        self.second = None if second > newest else max(self._oldest(), second)

    def first(self) -> None:
        """Select the first group."""
        self.group = 0

    def follow(self) -> None:
        """Select the last group, and no second."""
        self.group, self.second = max(0, len(self.groups) - 1), None

    def click(self, line: int, column: int) -> None:
        """Select the group, or the second, that is drawn at a place."""
        if self._rows and line >= self._rows:
            self.second = max(self._oldest(), min(self._first + column, int(time.monotonic())))
        elif 0 < line <= len(self.groups):
            self.group = line - 1

    def next_sort(self) -> None:
        """Sort by the next column."""
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]

    # Drawing.

    def draw(self, rating: StreamRates, height: int, width: int, *, again: bool) -> None:
        """Make ``lines`` of this moment: if something else is to be shown, or ``again``."""
        wanted = (self.sort, rating.by, self.second, height, width)
        if wanted == self._made and (not again or self.second is not None):
            return
        if self.second is not None and self.second < self._oldest():
            self.second = None  # it went by while it was selected
            wanted = (self.sort, rating.by, None, height, width)
        self._made = wanted
        footed = height >= _LEAST_HEIGHT
        room = height - _FOOT * footed
        snapshot = rating.snapshot(self.sort, max(1, room - 2), self.second)
        title = f"{rating.title} (by {self.sort})"
        style = replace(self._style, width=width)
        self.lines = list(rate_table(style, snapshot, rating.label, title=title))
        self.groups = [key for key, _ in snapshot.keyed()]
        self._rows = room if footed else 0
        if footed:
            self.lines = [*self.lines[:room], *[""] * (room - len(self.lines))]
            self.lines += self._foot(snapshot.whole.history, width)

    def _foot(self, history: Sequence[int], width: int) -> list[str]:
        """Return a line with a bar for each second, and one that tells what is selected."""
        shown = history[-min(len(history), width) :]
        self._first = int(time.monotonic()) - len(shown) + 1
        bars = sparkline(shown, len(shown), unicode=self._style.unicode)
        if self.second is None:
            return [bars, cut(f"the last {len(shown)} s; Left selects a second", width)]
        place = self.second - self._first
        if 0 <= place < len(shown):
            bars = f"{bars[:place]}\x1b[7m{bars[place]}\x1b[0m{bars[place + 1 :]}"
        count = history[place - len(shown)] if -len(history) <= place - len(shown) < 0 else 0
        came = self._timeline.clock_words(self._timeline.time_of(self.second))
        return [bars, cut(f"{came}  {count:,} records in this second", width)]
