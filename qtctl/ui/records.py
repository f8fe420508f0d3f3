"""The records of a view: scrolled, selected, searched, filtered and laid out. Needs no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from prompt_toolkit.formatted_text import StyleAndTextTuples

from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import Int64Array, Record
from qtctl.text.cells import plain, wrap
from qtctl.text.style import Style, escaped
from qtctl.ui.finder import Around, Finder, Holds, text_finder
from qtctl.ui.painting import SELECTED, fragments
from qtctl.ui.scrollback import Note, Scrollback, Stretch, Visible, VisibleRows
from qtctl.ui.sidebar import sidebar
from qtctl.writers.row_times import FORMS, moment
from qtctl.writers.rows import RowFormatter

CONTEXT = 3
"""Rows before and behind a found one."""
_SIDEWAYS = 8
_FURTHEST = 1 << 13
"""At most so many columns are scrolled to the right, so that the way back is not endless."""
_NOTES = 1000
_INDENT = 4


@dataclass(slots=True)
class Drawn:
    """What is drawn of the rows: their numbers, and the number and text of each line."""

    numbers: Sequence[int]
    lines: Sequence[tuple[int, str]]


class Records:
    """The rows of a view; ``formatter`` lays out records, ``plain`` returns the text to search.

    Rows hold still while one is selected, or while ``paused``. ``only`` and ``filter`` hide rows.
    """

    def __init__(self, style: Style) -> None:
        self.kept = Scrollback()
        self.paused = False
        self.selected: int | None = None
        self.bookmarks: set[int] = set()
        self.search = self.only = ""
        self.finder: Finder | None = None
        self._only: Finder | None = None
        self._filter: Finder | None = None
        self._context = 0
        self._bottom = 0
        self._notes: list[tuple[int, str]] = []
        self._style = style
        self.formatter = RowFormatter(style, "abs", {}, ())
        self._plain = RowFormatter(Style(), "abs", {}, ())
        self._drawn = Drawn((), ())

    def lay_out_by(self, formatter: RowFormatter, plain: RowFormatter) -> None:
        """Lay out records by another formatter from now on; ``plain`` makes the texts to search."""
        formatter.wrap, formatter.left = self.formatter.wrap, self.formatter.left
        formatter.times.begin_as(self.formatter.times)
        self.formatter, self._plain = formatter, plain
        self.look_for(self.search)
        self.show_only(self.only)

    # Rows come.

    def add(self, batch: Batch) -> None:
        """Add records at the end."""
        self.formatter.times.begin(batch)
        self.kept.add(batch)

    def note(self, text: str, role: str) -> None:
        """Add a safe text as a note at the end; ``note`` and ``bad`` stand in the bar."""
        self._notes = [*self._notes[-_NOTES:], (self.kept.total, role)]
        self.kept.add(Note(text, role))

    def clear(self) -> None:
        """Remove all rows."""
        self.kept.clear()
        self.follow()

    # Which rows are shown.

    @property
    def rows(self) -> VisibleRows:
        """The visible rows."""
        return VisibleRows(self.kept.stretches, self._visible())

    def _visible(self) -> Visible:
        hiding: list[Callable[[Stretch], Int64Array]] = []
        if self._context and self.finder is not None:
            hiding.append(Around(self.finder, self.kept.stretches, self._context))
        for finder in (self._only, self._filter):
            if finder is not None:
                hiding.append(finder.rows)
        if not hiding:
            return lambda stretch: None

        def visible(stretch: Stretch) -> Int64Array:
            rows = hiding[0](stretch)
            for one in hiding[1:]:
                rows = np.intersect1d(rows, one(stretch), assume_unique=True)
            return rows

        return visible

    def finders(self) -> list[Finder]:
        """Return what is to be searched for, the most wanted first."""
        return [one for one in (self._filter, self._only, self.finder) if one is not None]

    def look_for(self, text: str) -> None:
        """Search for a text, or for none if it is empty."""
        self.search = text
        self.finder = text_finder(text, self._plain.rows) if text else None
        self._context = self._context if text else 0

    def show_only(self, text: str) -> None:
        """Hide the rows without a text; hide none if it is empty."""
        self.only = text
        self._only = text_finder(text, self._plain.rows) if text else None

    def show_where(self, holds: Holds | None) -> None:
        """Hide the records for which ``holds`` does not hold; hide none if it is None."""
        self._filter = None if holds is None else Finder(holds, lambda note: True)

    def around_hits(self) -> bool:
        """Show only the rows around hits, or all again; return whether there is a search."""
        self._context = 0 if self._context or self.finder is None else CONTEXT
        return self.finder is not None

    # Selecting and scrolling.

    def pause(self, paused: bool) -> None:
        """Let the rows hold still, or go on with the newest."""
        if not paused:
            self.follow()
        self.paused = paused
        self._hold(paused)

    def _hold(self, still: bool) -> None:
        if still and not self.kept.still:
            self._bottom = self.kept.total - 1
        self.kept.hold(still)

    def follow(self) -> None:
        """Select no row, and go on with the newest unless paused."""
        self.selected = None
        self._bottom = self.rows.end - 1
        if not self.paused:
            self._hold(False)

    def move(self, count: int) -> None:
        """Select the row ``count`` rows further up, or down if it is negative."""
        self._hold(True)
        here = self._bottom if self.selected is None else self.selected
        rows = self.rows
        if self.selected is None:
            found = next(rows.up(here), None)
            count = max(0, count - 1) if count > 0 else count
        else:
            found = self.selected
        if found is not None and count:
            way = rows.up(found) if count > 0 else rows.down(found)
            steps = list(islice(way, abs(count) + 1))
            if count < 0 and len(steps) <= abs(count):
                self.follow()
                return
            found = steps[-1] if steps else found
        self.selected = found

    def select(self, number: int) -> None:
        """Select a row."""
        self._hold(True)
        self.selected = number

    def select_line(self, line: int) -> None:
        """Select the row that is drawn at a line, from 0."""
        if 0 <= line < len(self._drawn.lines):
            self.select(self._drawn.lines[line][0])

    def first(self) -> None:
        """Select the first row."""
        self._hold(True)
        self.selected = next(self.rows.down(self.rows.first), None)

    def next_hit(self, *, up: bool) -> bool:
        """Select the nearest found row above or below; return False if there is none yet."""
        if self.finder is None:
            return False
        hits = self.rows_of(self.finder)
        here = self.rows.end if self.selected is None else self.selected
        found = next(hits.up(here - 1) if up else hits.down(here + 1), None)
        if found is not None:
            self.select(found)
        return found is not None

    def rows_of(self, finder: Finder) -> VisibleRows:
        """Return the visible rows that a finder has found."""
        visible = self._visible()

        def found(stretch: Stretch) -> Int64Array:
            rows, shown = finder.rows(stretch), visible(stretch)
            return rows if shown is None else np.intersect1d(rows, shown, assume_unique=True)

        return VisibleRows(self.kept.stretches, found)

    def sideways(self, steps: int) -> None:
        """Scroll the arguments to the right, or to the left if negative."""
        left = self.formatter.left + steps * _SIDEWAYS
        self.formatter.left = min(max(0, left), _FURTHEST)

    def wrap(self) -> None:
        """Wrap long records, or crop them."""
        self.formatter.wrap = not self.formatter.wrap

    def next_times(self) -> str:
        """Print times in the next form, and return it."""
        times = self.formatter.times
        times.form = FORMS[(FORMS.index(times.form) + 1) % len(FORMS)]
        return times.form

    def hold_still(self) -> None:
        """Let the rows hold still, to select one soon."""
        self._hold(True)

    def hit_words(self) -> str:
        """Return how many rows have what is searched for, in words; empty without a search."""
        if self.finder is None:
            return ""
        hits, searched = self.finder.count(self.kept.stretches)
        rows = self.rows.end - self.rows.first
        so_far = f" in {searched:,} of {rows:,} rows so far" if searched < rows else ""
        return f"{hits:,} with {escaped(self.search)!r}{so_far}"

    def bookmark(self) -> None:
        """Bookmark the selected row, or remove its bookmark."""
        if self.selected is not None:
            self.bookmarks ^= {self.selected}

    def record(self) -> Record | None:
        """Return the selected record; None if it is a note, or no row is selected."""
        if self.selected is None:
            return None
        stretch, place = self.rows.at(self.selected)
        if stretch.batch is None:
            return None
        return next(stretch.batch.select(slice(place, place + 1)).records())

    def moment_ns(self) -> int | None:
        """Return the time of the selected record, or of the one above a note; None without."""
        rows = self.rows
        for number in rows.up(self.selected) if self.selected is not None else ():
            stretch, place = rows.at(number)
            if stretch.batch is not None:
                return int(stretch.batch.time_ns[place])
        return None

    def events(self) -> set[str]:
        """Return the names of the events of which records are kept."""
        batches = [one.batch for one in self.kept.stretches if one.batch is not None]
        codes = ((one, np.flatnonzero(np.bincount(one.event + 1))) for one in batches)
        return {one.names[code - 1] for one, found in codes for code in found.tolist() if code}

    def moment(self, number: int) -> str:
        """Return the whole time of a record's row."""
        stretch, place = self.rows.at(number)
        assert stretch.batch is not None
        batch = stretch.batch
        wall = bool(batch.arrived[place]) or batch.clock is not Clock.MONOTONIC
        return moment(int(batch.time_ns[place]), wall=wall)

    def in_hex(self, event: str) -> frozenset[str]:
        """Return the arguments of an event that are printed in hex."""
        return self.formatter.hex_arguments.get(event, frozenset())

    def rows_found(self, finder: Finder | None) -> VisibleRows:
        """Return the rows that a finder has found, also those that are hidden; None finds none."""
        return VisibleRows(()) if finder is None else VisibleRows(self.kept.stretches, finder.rows)

    def lines_found(
        self, finder: Finder, number: int, height: int, width: int
    ) -> list[tuple[int, str]]:
        """Return the rows that a finder has found, and a line of each: the nearest to a row."""
        rows = self.rows_found(finder)
        before = list(islice(rows.up(number), height))[::-1]
        behind = list(islice(rows.down(number + 1), height // 2))
        numbers = before[-(height - len(behind)) :] + behind
        formatter, wrapped = self.formatter, self.formatter.wrap
        formatter.wrap = False
        try:
            return list(self._lines(rows, numbers, width))
        finally:
            formatter.wrap = wrapped

    # Drawing.

    def body(self, height: int, width: int) -> StyleAndTextTuples:
        """Return ``height`` lines of ``width`` columns."""
        self._drawn = self._lay_out(height, width)
        found: StyleAndTextTuples = []
        for place, (number, line) in enumerate(self._drawn.lines):
            selected = number == self.selected
            found += [("", "\n")] if place else []
            base = SELECTED if selected else ""
            found += fragments(line, match=self.search, base=base)
            if selected and (room := width - len(plain(line))) > 0:
                found.append((SELECTED, " " * room))
        return found

    def bar(self, height: int) -> StyleAndTextTuples:
        """Return the bar at the side of what was drawn last."""
        rows, numbers = self.rows, self._drawn.numbers
        shown = (numbers[0], numbers[-1] + 1) if numbers else (rows.first, rows.end)
        hits = []
        if self.finder is not None:
            finder = self.finder
            hits = [finder.rows(one) + one.first for one in self.kept.stretches]
        notes = {"mark": "note", "loss": "bad"}
        places = {sign: [n for n, role in self._notes if role == notes[sign]] for sign in notes}
        return sidebar(
            height,
            (rows.first, rows.end),
            shown,
            {**places, "hit": hits, "bookmark": sorted(self.bookmarks)},
            unicode=self._style.unicode,
        )

    def _lay_out(self, height: int, width: int) -> Drawn:
        rows = self.rows
        bottom = self._bottom if self.kept.still else rows.end - 1
        numbers = list(islice(rows.up(bottom), height))[::-1]
        if len(numbers) < height:
            numbers += islice(rows.down(bottom + 1), height - len(numbers))
        upwards = True
        if self.selected is not None and numbers:
            if self.selected < numbers[0]:
                numbers, upwards = list(islice(rows.down(self.selected), height)), False
            elif self.selected > numbers[-1]:
                numbers = list(islice(rows.up(self.selected), height))[::-1]
        lines = list(self._lines(rows, numbers, width))
        if len(lines) > height:
            lines = self._fitting(lines, height, upwards)
        if numbers:
            self._bottom = lines[-1][0] if lines else numbers[-1]
        return Drawn(sorted({number for number, _ in lines}), lines)

    def _fitting(
        self, lines: list[tuple[int, str]], height: int, upwards: bool
    ) -> list[tuple[int, str]]:
        """Return ``height`` of the lines, among them those of the selected row."""
        begin = len(lines) - height if upwards else 0
        if self.selected is not None:
            own = [place for place, (number, _) in enumerate(lines) if number == self.selected]
            if own:
                begin = min(begin, own[0])
                begin = max(begin, min(own[0], own[-1] + 1 - height))
        return lines[begin : begin + height]

    def _lines(
        self, rows: VisibleRows, numbers: Sequence[int], width: int
    ) -> Iterator[tuple[int, str]]:
        formatter = self.formatter
        formatter.width = width
        formatter.times.resume()
        for before in rows.up(numbers[0] - 1) if numbers else ():
            stretch, place = rows.at(before)
            if stretch.batch is not None and stretch.batch.event[place] >= 0:
                formatter.times.resume(stretch.batch, place)
                break
        for stretch, places in rows.runs(numbers):
            if isinstance(stretch.content, Note):
                begin, end = self._style.colours(stretch.content.role)
                note = f"{begin}{stretch.content.text}{end}"
                texts = ["\n".join(wrap(note, _INDENT, width))]
            else:
                texts = formatter.rows(stretch.content.select(places))
            for place, text in zip(places.tolist(), texts, strict=True):
                for line in text.split("\n"):
                    yield stretch.first + place, line
