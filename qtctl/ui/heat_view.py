"""The latency of a view as a heat map: its cells are selected by keys or mouse. No terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from qtctl.analysis.heat import SECONDS, Cells, HeatMap, ends_of
from qtctl.text.cells import wrap
from qtctl.text.style import Style, escaped
from qtctl.text.tables import cut
from qtctl.text.units import duration_words
from qtctl.ui.heat_picture import Frame, axis, edge_words, legend, picture
from qtctl.ui.stream_latency import StreamLatency, Sums
from qtctl.ui.timeline import SECOND_NS, Timeline

_AROUND = 3
"""Lines above and below the rows: what is measured, the times, and what is selected."""


class HeatView:
    """A heat map of a latency: rows of buckets, columns of seconds of the records' clock.

    ``second`` and ``bucket`` are those of the selected cell; while one is selected the map holds
    still, but for the counts. Where no latency is measured, ``suggestions`` are selected from.
    """

    def __init__(self, style: Style, timeline: Timeline) -> None:
        self.second: int | None = None
        self.bucket: int | None = None
        self.suggestions: Sequence[tuple[str, str]] = ()
        self.place = 0
        self._style = style
        self._timeline = timeline
        self._entered: int | None = None
        self._newest = self._oldest = self._right = 0
        self._frame = Frame(0, 1, 0, 1, 1, 0)
        self._listed: int | None = None
        self._made: object = None
        self.lines: list[str] = []

    # The time that is shared.

    def enter(self, moment: int | None) -> None:
        """Select the second of a time; None: go on with the newest."""
        self.second = self._entered = None if moment is None else moment // SECOND_NS
        self.bucket = None

    def leave(self, moment: int | None) -> int | None:
        """Return the begin of the selected second, or ``moment`` if it is still in that."""
        if self.second == self._entered:
            return moment
        return None if self.second is None else self.second * SECOND_NS

    # Keys and the mouse.

    @property
    def suggestion(self) -> str:
        """The selected pair, as ``--pair`` takes it; empty without one."""
        return ",".join(self.suggestions[self.place]) if self.suggestions else ""

    def suggest(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Suggest pairs, and select the first."""
        self.suggestions, self.place = pairs, 0

    def choose(self, down: int) -> None:
        """Select the suggestion ``down`` further down."""
        self.place = max(0, min(len(self.suggestions) - 1, self.place + down))

    def move(self, up: int) -> None:
        """Select the cell ``up`` rows further up."""
        if self.second is None:
            self.sideways(0)
            return
        frame = self._frame
        row = max(0, min(frame.rows - 1, frame.row_of(self.bucket or 0) + up))
        self.bucket = frame.buckets(row)[0]

    def sideways(self, seconds: int) -> None:
        """Select a later second, or an earlier one if negative; behind the newest, go on."""
        second = self._newest if self.second is None else self.second + seconds
        if second > self._newest:
            self.follow()
        else:
            self.second = max(self._oldest, second)

    def page(self, pages: int) -> None:
        """Select a second that is some pages later, or earlier."""
        self.sideways(pages * self._frame.columns)

    def first(self) -> None:
        """Select the first second that is kept."""
        self.second = self._oldest

    def follow(self) -> None:
        """Select nothing, and go on with the newest second."""
        self.second = self.bucket = None

    def click(self, line: int, column: int) -> None:
        """Select the cell, or the suggestion, that is drawn at a place."""
        if self._listed is not None:
            self.place = max(0, min(len(self.suggestions) - 1, line - self._listed))
            return
        frame, place = self._frame, column - self._frame.label
        if 1 <= line <= frame.rows and place >= 0:
            self.second = max(self._oldest, min(self._newest, frame.first + place))
            self.bucket = frame.buckets(frame.rows - line)[0]

    def last_end(self, latency: StreamLatency) -> int | None:
        """Return when the last pair of the selected cell ended; None: it has none."""
        if self.second is None or self.bucket is None:
            return None
        first, count = self._frame.buckets(self._frame.row_of(self.bucket))
        with latency.lock:
            return latency.map.last_end(self.second, first, count)

    # Drawing.

    def suggesting(self, height: int, width: int) -> tuple[list[str], int]:
        """Return the lines that ask for a pair of events, and which of them is selected."""
        words = "no pair of events is measured: P asks for START,END[,KEY]"
        if self.suggestions:
            words += "; Enter measures the selected one"
        lines = list(wrap(words, 0, width))
        room = max(1, height - len(lines))
        begin = max(0, min(self.place - room + 1, len(self.suggestions) - room))
        shown = self.suggestions[begin : begin + room]
        head = len(lines)
        self._listed = head - begin
        lines += [cut(escaped(",".join(pair)), width) for pair in shown]
        return lines, head + self.place - begin if shown else -1

    def draw(
        self, latency: StreamLatency, height: int, width: int, *, still: bool, again: bool
    ) -> None:
        """Make ``lines`` of this moment: if something else is to be shown, or ``again``.

        ``still``: it goes on to no further second.
        """
        if again or self._made != (latency, self.second, self.bucket, height, width):
            self.lines = self._lines(latency, height, width, still=still)
            self._made = (latency, self.second, self.bucket, height, width)

    def renew(self) -> None:
        """Let the next drawing show what has come meanwhile."""
        self._made = None

    def _lines(self, latency: StreamLatency, height: int, width: int, *, still: bool) -> list[str]:
        self._listed = None
        sums = latency.sums()
        head = self._style.paint(cut(escaped(latency.question.words), width), "faint")
        with latency.lock:
            heat = latency.map
            if not sums.pairs and heat.high < 0:
                return [head, *self._nothing(sums, width)][:height]
            self._follow_time(heat, still=still)
            frame = Frame.fit(heat, self._right, height - _AROUND, width)
            if self.second is not None:
                # What is selected is in the picture, also where this became narrower.
                right = min(max(self._right, self.second), self.second + frame.columns - 1)
                frame = Frame.fit(heat, right, height - _AROUND, width)
                self._right = right
            cells, lost = frame.cells(heat), heat.lost(frame.first, frame.columns)
        self._frame = frame
        cursor = self._cursor(cells)
        foot = self._selected(cells, cursor, lost) if cursor else self._summary(sums, cells)
        return [
            head,
            *picture(self._style, frame, cells, cursor),
            axis(self._style, frame, lost, self._timeline, cursor and cursor[1]),
            cut(foot, width),
        ]

    def _follow_time(self, heat: HeatMap, *, still: bool) -> None:
        now_ns = self._timeline.now_ns(time.monotonic())
        now = heat.newest if now_ns is None else now_ns // SECOND_NS
        # Where clocks differ, only that of the pairs counts.
        self._newest = max(heat.newest, now) if now - heat.newest < SECONDS else heat.newest
        self._oldest = heat.first
        if self.second is None and not (still and self._right):
            self._right = self._newest

    def _cursor(self, cells: Cells) -> tuple[int, int] | None:
        if self.second is None:
            return None
        frame = self._frame
        column = max(0, min(frame.columns - 1, self.second - frame.first))
        if self.bucket is None and cells[:, column].any():  # the fullest one of the second
            self.bucket = frame.buckets(int(np.argmax(cells[:, column])))[0]
        return frame.row_of(self.bucket or 0), column

    def _selected(self, cells: Cells, cursor: tuple[int, int], lost: list[bool]) -> str:
        """Return the selected cell in numbers."""
        row, column = cursor
        low, high = ends_of(*self._frame.buckets(row))
        span = f"{edge_words(low)} .. {edge_words(high)}" if high else f"from {edge_words(low)}"
        when = self._timeline.clock_words((self._frame.first + column) * SECOND_NS)
        losses = ", records lost" if lost[column] else ""
        return f"{when}  {span}: {cells[row, column]:,} of {cells[:, column].sum():,}{losses}"

    def _summary(self, sums: Sums, cells: Cells) -> str:
        parts = [f"{sums.pairs:,} pairs"]
        shades = legend(self._style, int(cells.max(initial=0)))
        parts += [shades] if shades else []
        if sums.percentiles:
            middle, high = map(duration_words, sums.percentiles)
            parts.append(f"p50 {middle}, p99 {high}")
        parts += [f"{count:,} {words}" for words, count in sums.reasons]
        return "  ".join(parts)

    def _nothing(self, sums: Sums, width: int) -> Iterator[str]:
        told = ["no pair yet", *(f"{count:,} {words}" for words, count in sums.reasons)]
        yield from wrap("; ".join(told), 0, width)
        for text in sums.warnings:
            yield from wrap(text, 0, width)
