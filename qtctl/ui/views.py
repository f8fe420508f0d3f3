"""Records, rates and latency: the views of one pane, which share the time that is selected."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Literal, TypeAlias

from qtctl.analysis.rates import Sort
from qtctl.text.style import Style
from qtctl.ui.heat_view import HeatView
from qtctl.ui.rates_view import RatesView
from qtctl.ui.records import Records
from qtctl.ui.stream_latency import StreamLatency
from qtctl.ui.timeline import SECOND_NS, Timeline

Shown: TypeAlias = Literal["stream", "top", "latency"]
SHOWN: tuple[Shown, ...] = ("stream", "top", "latency")
"""The views, in the order in which Tab goes round."""


class Views:
    """The three views, of which ``shown`` is drawn; keys and mouse select in that one.

    ``moment`` is the time that they share, in ns of the records' clock: that of the selected
    record, or second; None: the newest. ``measured`` returns the latency that is measured.
    """

    def __init__(
        self,
        style: Style,
        shown: Shown,
        sort: Sort,
        measured: Callable[[], StreamLatency | None],
    ) -> None:
        self.timeline = Timeline()
        self.records = Records(style)
        self.rates = RatesView(style, sort, self.timeline)
        self.heat = HeatView(style, self.timeline)
        self.shown = shown
        self.moment: int | None = None
        self._measured = measured

    @property
    def next(self) -> Shown:
        """The view to which Tab goes."""
        return SHOWN[(SHOWN.index(self.shown) + 1) % len(SHOWN)]

    def show(self, shown: Shown) -> str:
        """Show a view, at the time that is selected in the one of now; return a note for people."""
        match self.shown:
            case "stream":
                self.moment = self.records.moment_ns()
            case "top":
                self.moment = self.rates.leave(self.moment)
            case "latency":
                self.moment = self.heat.leave(self.moment)
        self.shown = shown
        if shown == "stream":
            return self._show_records()
        if shown == "top":
            return self.rates.enter(self.moment)
        self.heat.enter(self.moment)
        return ""

    def _show_records(self) -> str:
        if self.moment is not None and self.moment != self.records.moment_ns():
            return self.show_record(self.moment)
        if self.moment is None and self.records.selected is not None:
            self.records.follow()
        return ""

    def show_record(self, time_ns: int, events: Collection[str] | None = None) -> str:
        """Show records, and select the first from a time on, of ``events`` if they are given."""
        self.shown, self.moment = "stream", time_ns
        found = self.records.rows.first_at(time_ns, events)
        if found is None:
            return "no record of that time, or later, is kept"
        self.records.select(found)
        if (self.records.moment_ns() or 0) < time_ns + SECOND_NS:
            return ""
        return "no record of that second is kept: this is the next one"

    def show_last_end(self) -> str:
        """Show the record that ended the last pair of the selected cell of the heat map."""
        latency = self._measured()
        end = None if latency is None else self.heat.last_end(latency)
        if latency is None or end is None:
            return "no pair is in the selected cell: the arrows select another"
        return self.show_record(end, latency.question.ends)

    def suggest(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Suggest pairs of events, first those of which records came."""
        seen = self.records.events()
        self.heat.suggest(sorted(pairs, key=lambda pair: not seen.issuperset(pair)))

    # Keys and the mouse.

    def up(self, rows: int) -> None:
        """Select what is some rows further up, or down if negative."""
        if self.shown == "stream":
            self.records.move(rows)
        elif self.shown == "top":
            self.rates.move(-rows)
        elif self._measured() is None:
            self.heat.choose(-rows)
        else:
            self.heat.move(rows)

    def page_up(self, pages: int, rows: int) -> None:
        """Select what is some pages of ``rows`` further up; in the heat map, earlier."""
        if self.shown == "latency":
            self.heat.page(-pages)
        else:
            self.up(pages * rows)

    def right(self, steps: int) -> None:
        """Select a later second, or an earlier one if negative; scroll the rows of records."""
        if self.shown == "stream":
            self.records.sideways(steps)
        else:
            (self.rates if self.shown == "top" else self.heat).sideways(steps)

    def first(self) -> None:
        """Select what is first."""
        self._one().first()

    def newest(self) -> None:
        """Go on with the newest."""
        self._one().follow()

    def _one(self) -> Records | RatesView | HeatView:
        if self.shown == "stream":
            return self.records
        return self.rates if self.shown == "top" else self.heat

    def click(self, line: int, column: int) -> None:
        """Select what is drawn at a place."""
        if self.shown == "stream":
            self.records.select_line(line)
        elif self.shown == "top":
            self.rates.click(line, column)
        else:
            self.heat.click(line, column)
