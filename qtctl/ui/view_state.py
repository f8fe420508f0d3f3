"""What a view shows, and what is done at a key: all of a view but its drawing."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy

from qtctl.analysis.groups import LONGEST
from qtctl.analysis.rates import Sort
from qtctl.commands.formatting import note_words, role_of
from qtctl.commands.registry import Options
from qtctl.errors import QtctlError
from qtctl.records.batch import Batch
from qtctl.records.filters import spelt
from qtctl.records.items import Item
from qtctl.text.style import Style, escaped
from qtctl.ui.actions import action_of
from qtctl.ui.finder import Finder
from qtctl.ui.followed_guest import FollowedGuest
from qtctl.ui.input_line import InputLine, told
from qtctl.ui.marked_spans import MarkedSpans
from qtctl.ui.opened import Opened
from qtctl.ui.overlay import Overlay
from qtctl.ui.row_search import RowSearch
from qtctl.ui.stream_latency import StreamLatency
from qtctl.ui.views import Shown, Views

_NOTHING_SELECTED = "no record is selected: the arrows select one"
_WHEEL_ROWS = 3


class ViewState:
    """The state of a view of ``guest``; ``changed`` is called when it is to be drawn again.

    ``leave`` ends the view, ``choose_guest`` goes on with another guest, ``copy`` puts a text on
    the clipboard, ``page`` returns how many rows a page has, and ``command`` the words of the
    command line that shows the same.
    """

    def __init__(self, style: Style, shown: Shown, sort: Sort, times: str) -> None:
        self.guest: FollowedGuest
        self.changed: Callable[[], None] = lambda: None
        self.leave: Callable[[], None] = lambda: None
        self.choose_guest: Callable[[], None] = lambda: None
        self.copy: Callable[[str], None] = lambda text: None
        self.page: Callable[[], int] = lambda: 1
        self.command: Callable[[], Sequence[str]] = lambda: ()
        self.views = Views(style, shown, sort, lambda: self.guest.latency)
        self.records, self.rates, self.heat = self.views.records, self.views.rates, self.views.heat
        self.times = times
        self.note = ""
        self.over = Overlay()
        self.input = InputLine(self.refuse)
        self._style = style
        self.search = RowSearch(
            self.records, lambda: self.changed(), self.refuse, lambda: self._others()
        )
        records, search, ask, on_rows = self.records, self.search, self.input.ask, self._on_rows
        self.does: Mapping[str, Callable[[], None]] = {
            "quit": lambda: self.leave(),
            "guests": lambda: self.choose_guest(),
            "help": self.over.turn_help,
            "palette": lambda: ask("do", lambda name: self.do(action_of(name).name)),
            "pause": lambda: records.pause(not records.paused),
            "view": lambda: self.show(self.views.next),
            "rates": lambda: self.show("stream" if self.shown == "top" else "top"),
            "pair": self._ask_pair,
            "up": lambda: self._move(1),
            "down": lambda: self._move(-1),
            "page-up": lambda: self._page(1),
            "page-down": lambda: self._page(-1),
            "first": self.views.first,
            "newest": self.views.newest,
            "left": lambda: self.views.right(-1),
            "right": lambda: self.views.right(1),
            "wrap": records.wrap,
            "times": self._next_times,
            "search": on_rows(lambda: ask("search", search.find)),
            "older-hit": on_rows(lambda: search.seek(up=True)),
            "newer-hit": on_rows(lambda: search.seek(up=False)),
            "context": on_rows(search.show_context),
            "filter": self._ask_filter,
            "only": on_rows(lambda: ask("only", records.show_only)),
            "open": self._open,
            "same": on_rows(lambda: search.start(self._seek_same())),
            "span-a": on_rows(lambda: self._mark_span("A")),
            "span-b": on_rows(lambda: self._mark_span("B")),
            "bookmark": on_rows(self._bookmark),
            "disable": self._disable,
            "enable": lambda: ask("enable", lambda text: search.start(self._switch(text, True))),
            "by": self._ask_by,
            "sort": self.rates.next_sort,
            "command": self._tell_command,
            "clear": self._clear,
            "back": self._go_back,
        }
        """What each of ``actions.ACTIONS`` does."""

    # What comes from the guest.

    def lay_out(self) -> None:
        """Lay out the records of the guest that is followed from now on."""
        formatter = self.guest.formatter(self._style, self.times)
        self.records.lay_out_by(formatter, self.guest.formatter(Style(), "abs"))
        self._suggest()

    def take(self, item: Item) -> None:
        """Add an item of the stream."""
        if isinstance(item, Batch):
            self.views.timeline.take(item, time.monotonic())
            self.records.add(item)
        else:
            self.records.note(f"--- {escaped(note_words(item))} ---", role_of(item))
        self._came()

    def write(self, lines: Iterable[str]) -> None:
        """Add messages."""
        for line in lines:
            self.records.note(line, "faint")
        self._came()

    def _came(self) -> None:
        if not self.records.kept.still:  # else nothing that is drawn has changed
            self.changed()

    def _others(self) -> Finder | None:
        return self.over.opened.others if self.over.opened else None

    def options(self, options: Options) -> Options:
        """Return options with which a view begins as this one is now."""
        now = copy(options)
        now.view, now.sort, now.time, now.by = (
            self.shown,
            self.rates.sort,
            self.times,
            self.guest.by,
        )
        now.where = self.guest.where or None
        now.pair = self.guest.latency and self.guest.latency.pair
        return now

    @property
    def shown(self) -> Shown:
        """The view that is shown."""
        return self.views.shown

    # What keys do.

    def do(self, name: str) -> None:
        """Do an action of ``actions.ACTIONS``."""
        self.note = ""
        try:
            self.does[name]()
        except QtctlError as error:
            self.refuse(told(error))

    def refuse(self, message: str) -> None:
        """Show why something was not done."""
        self.note = escaped(message)
        self.changed()

    def cancel(self) -> None:
        """Ask no longer."""
        self.search.try_filter(None)
        self.input.cancel()

    def _go_back(self) -> None:
        if self.over:
            self.over.remove()
        elif self.shown == "stream":
            self.records.look_for("")
        else:
            self.rates.second = None
            self.heat.follow()

    # The views.

    def show(self, shown: Shown) -> None:
        """Show another view, at the time that is selected in this one."""
        self.over.remove()
        self.note = self.views.show(shown)
        self._suggest()

    def _suggest(self) -> None:
        """Suggest pairs of events where a latency is shown and none is measured."""
        if self.shown == "latency" and self.guest.latency is None:
            self.views.suggest(self.guest.suggested_pairs())

    def _ask_pair(self) -> None:
        suggestion = self.guest.latency.pair if self.guest.latency else self.heat.suggestion
        self.input.ask("pair (START,END[,KEY])", self._pair, text=suggestion)

    def _pair(self, pair: str) -> None:
        self.guest.pair_by(pair, tuple(self.records.kept.stretches))
        self._catch_up()
        if self.shown != "latency":
            self.show("latency")

    def _catch_up(self) -> None:
        """Measure the latency in the rows that are kept, meanwhile."""

        async def catch_up(latency: StreamLatency) -> None:
            await asyncio.to_thread(latency.catch_up)
            self.heat.renew()
            self.changed()

        if self.guest.latency is not None:
            self.search.start(catch_up(self.guest.latency))

    def _move(self, up: int) -> None:
        if self.over:
            self.over.up(up, self.records)
        else:
            self.views.up(up)

    def _page(self, up: int) -> None:
        if self.over:
            self._move(up * self.page())
        else:
            self.views.page_up(up, self.page())

    def click(self, line: int, column: int) -> None:
        """Select what is drawn at a place."""
        if not self.over:
            self.views.click(line, column)

    def wheel(self, up: int) -> None:
        """Scroll a turn of the mouse's wheel."""
        if not self.over:
            self.views.up(up * _WHEEL_ROWS)

    def _on_rows(self, action: Callable[[], None]) -> Callable[[], None]:
        """Return an action that is refused while something else is shown in place of its rows."""

        def act() -> None:
            if self.shown == "stream":
                action()
            else:
                keys = "t shows" if self.shown == "top" else "Tab shows"
                self.note = f"this is for records: {keys} them"

        return act

    # Records.

    def _bookmark(self) -> None:
        if self.records.selected is None:
            self.note = _NOTHING_SELECTED
        self.records.bookmark()

    def _next_times(self) -> None:
        self.times = self.records.next_times()
        self.note = f"times: {self.times}"

    def _ask_filter(self) -> None:
        if self.over.opened is not None and (text := self.over.opened.filter):
            self.over.opened = None
            self._filter(text)
        else:
            self.input.ask(self.search.filter_question, self._filter, typed=self._try_filter)

    def _filter(self, text: str) -> None:
        self.search.try_filter(None)
        self.note = escaped(self.guest.filter_by(text, tuple(self.records.kept.stretches)))
        self._catch_up()
        self._suggest()
        found = self.guest.filter
        self.records.show_where(found.mask if found else None)
        words = f"only records where {text} are kept from here" if text else "all records again"
        self.records.note(f"--- {escaped(words)} ---", "faint")

    def _try_filter(self, text: str) -> None:
        """Count how many of the kept records an expression would leave."""
        holds = None
        if text:
            with contextlib.suppress(QtctlError):
                holds = self.guest.compiled(text).mask
        self.search.try_filter(holds)

    def _open(self) -> None:
        if self.over.reading:
            return
        if self.over or self.shown == "stream":
            if self.over.opened is not None and self.over.opened.other is not None:
                self.records.select(self.over.opened.other)
            self.over.opened = self._selected() or self.over.opened
            if self.over.opened is None:
                self.note = _NOTHING_SELECTED
        elif self.shown == "top":
            self._drill()
        elif self.guest.latency is not None:
            self.note = self.views.show_last_end()
        elif self.heat.suggestion:
            self._pair(self.heat.suggestion)

    def _selected(self) -> Opened | None:
        record, number = self.records.record(), self.records.selected
        if record is None or number is None:
            return None
        facts = self.guest.session.facts
        declared, path = facts.declaration(record.name), facts.declarations_path
        in_hex, moment = self.records.in_hex(record.name), self.records.moment(number)
        return Opened(record, number, declared, str(path or ""), in_hex, moment)

    async def _seek_same(self) -> None:
        """Select the next record of the selected one's request, or else the first."""
        here = self.over.opened or self._selected()
        if here is None or here.others is None:
            self.refuse("no record of a request is selected" if here else _NOTHING_SELECTED)
            return
        found = here.other
        if found is None:
            found = await self.search.next_found(here.others, here.number)
        if found is None:
            self.refuse("no record of the request is kept")
            return
        self.records.select(found)
        if self.over.opened is not None:
            self.over.opened = self._selected()
        self.changed()

    def _mark_span(self, name: str) -> None:
        if self.records.selected is None:
            self.note = _NOTHING_SELECTED
            return
        self.note = self.over.mark_span(name, self.records.selected, self.records)

    # Rates.

    def _group(self) -> str | int | None:
        rates = self.rates
        return rates.groups[rates.group] if rates.group < len(rates.groups) else None

    def _drill(self) -> None:
        """Show the records of the selected row of rates."""
        key, by = self._group(), self.guest.by
        if key is None:
            rows = bool(self.rates.groups)
            self.note = f"no filter holds for records without {by}" if rows else "no rates"
        elif isinstance(key, str) and len(key) >= LONGEST:
            self.note = f"only {LONGEST} characters of this text are known: f filters"
        else:
            in_hex = isinstance(key, int) and self.guest.rating.prints_hex
            self.views.shown = "stream"
            self.records.follow()
            self._filter(f"{by} == {hex(key) if in_hex and isinstance(key, int) else repr(key)}")

    def _ask_by(self) -> None:
        if self.over.opened is not None and self.over.opened.selected is not None:
            name = self.over.opened.selected[0]
            self.show("top")
            self._group_by(spelt(name))
            return
        self.input.ask("by (event, tid, ARG)", self._group_by)

    def _group_by(self, by: str) -> None:
        self.guest.group_by(by or "event")

    # Switching events, and the rest.

    def _disable(self) -> None:
        record = self.records.record() if self.shown == "stream" else None
        if self.shown == "top":
            self._disable_group()
        elif record is not None:
            self.search.start(self._switch(record.name, False))
        elif self.shown == "stream":
            self.note = _NOTHING_SELECTED
        else:
            self.note = "records and rates have events to switch off: Tab shows them"

    def _disable_group(self) -> None:
        if self.guest.by != "event":
            self.note = "rates by event have events to switch off: b changes that"
        elif (event := self._group()) is not None and not self.over:
            self.search.start(self._switch(str(event), False))
        else:
            self.note = "no event is selected"

    async def _switch(self, pattern: str, on: bool) -> None:
        try:
            await self.guest.switch(pattern, on)
        except QtctlError as error:
            self.refuse(told(error))
        else:
            self.note = f"{'on' if on else 'off'}: {escaped(pattern)}"
            self.changed()

    def _tell_command(self) -> None:
        self.over.told = shlex.join(self.command())
        self.copy(self.over.told)

    def _clear(self) -> None:
        self.over.remove()
        self.over.spans = MarkedSpans()
        self.records.clear()
        self.guest.rating.group_by(self.guest.rating.by)
        self.rates.second = None
        self.heat.follow()
        if self.guest.latency is not None:
            self.guest.latency.clear()
