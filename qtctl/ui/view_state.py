"""What a view shows, and what is done at a key: all of a view but its drawing."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from copy import copy
from typing import Literal, TypeAlias

from qtctl.analysis.groups import LONGEST
from qtctl.analysis.rates import SORTS, Key, Sort
from qtctl.commands.formatting import note_words, role_of
from qtctl.commands.registry import Options
from qtctl.errors import QtctlError
from qtctl.records.batch import Batch
from qtctl.records.filters import spelt
from qtctl.records.items import Item
from qtctl.text.style import Style, escaped
from qtctl.ui.actions import ACTIONS, action_of
from qtctl.ui.finder import Finder
from qtctl.ui.followed_guest import FollowedGuest
from qtctl.ui.input_line import InputLine, told
from qtctl.ui.marked_spans import MarkedSpans
from qtctl.ui.opened import Opened
from qtctl.ui.records import Records

Shown: TypeAlias = Literal["stream", "top"]
_NOTHING_SELECTED = "no record is selected: the arrows select one"
_NOTHING_SOUGHT = "nothing is searched for: / searches"


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
        self.records = Records(style)
        self.shown, self.sort, self.times = shown, sort, times
        self.note = ""
        self.helping = False
        self.help_top = 0
        self.told = ""
        self.opened: Opened | None = None
        self.spans = MarkedSpans()
        self.comparing = False
        self.groups: Sequence[Key] = ()
        self.group = 0
        self.input = InputLine(self.refuse)
        self._style = style
        self._preview: Finder | None = None
        self._wanted = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        records, ask, on_rows = self.records, self.input.ask, self._on_rows
        self.does: Mapping[str, Callable[[], None]] = {
            "quit": lambda: self.leave(),
            "guests": lambda: self.choose_guest(),
            "help": self._help,
            "palette": lambda: ask("do", lambda name: self.do(action_of(name).name)),
            "pause": lambda: records.pause(not records.paused),
            "view": self._next_view,
            "up": lambda: self._move(1),
            "down": lambda: self._move(-1),
            "page-up": lambda: self._move(self.page()),
            "page-down": lambda: self._move(-self.page()),
            "first": lambda: self._go(first=True),
            "newest": lambda: self._go(first=False),
            "left": lambda: records.sideways(-1),
            "right": lambda: records.sideways(1),
            "wrap": records.wrap,
            "times": self._next_times,
            "search": lambda: ask("search", self._find),
            "older-hit": on_rows(lambda: self._seek(up=True)),
            "newer-hit": on_rows(lambda: self._seek(up=False)),
            "context": self._show_context,
            "filter": self._ask_filter,
            "only": lambda: ask("only", records.show_only),
            "open": self._open,
            "same": on_rows(lambda: self._start(self._seek_same())),
            "span-a": on_rows(lambda: self._mark_span("A")),
            "span-b": on_rows(lambda: self._mark_span("B")),
            "bookmark": on_rows(self._bookmark),
            "disable": self._disable,
            "enable": lambda: ask("enable", lambda text: self._start(self._switch(text, True))),
            "by": self._ask_by,
            "sort": self._next_sort,
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

    def take(self, item: Item) -> None:
        """Add an item of the stream."""
        if isinstance(item, Batch):
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

    async def search(self) -> None:
        """Search the rows in the background for all that is searched for, until cancelled."""
        while True:
            self._wanted.clear()
            stretches = tuple(self.records.kept.stretches)
            began, found = time.monotonic(), False
            for finder in self._finders():
                if found := await asyncio.to_thread(finder.step, stretches):
                    self.changed()
                    break
            if not found:
                await self._wanted.wait()
            elif not self.records.kept.still:
                # While rows still come, a search must not take the time of a whole core.
                await asyncio.sleep(time.monotonic() - began)

    def drawn(self) -> None:
        """Go on searching: there may be other rows, or something else to search for."""
        if self._finders():
            self._wanted.set()

    async def close(self) -> None:
        """End what was begun."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _finders(self) -> list[Finder]:
        others = self.opened.others if self.opened else None
        return [one for one in (self._preview, others, *self.records.finders()) if one is not None]

    def options(self, options: Options) -> Options:
        """Return options with which a view begins as this one is now."""
        now = copy(options)
        now.view, now.sort, now.time, now.by = self.shown, self.sort, self.times, self.guest.by
        if self.guest.filter is not None:
            conditions = filter(None, (options.where, self.guest.filter.text))
            now.where = " and ".join(f"({one})" for one in conditions)
        return now

    @property
    def overlaid(self) -> bool:
        """Whether help, a text, a record or a comparison is shown in place of the rows."""
        return self.helping or self.comparing or bool(self.told) or self.opened is not None

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
        self._preview = None
        self.input.cancel()

    def _help(self) -> None:
        self.helping, self.help_top = not self.helping, 0

    def _uncover(self) -> None:
        self.helping = self.comparing = False
        self.opened, self.told = None, ""

    def _go_back(self) -> None:
        if self.overlaid:
            self._uncover()
        else:
            self.records.look_for("")

    def _next_view(self) -> None:
        self._uncover()
        self.shown = "stream" if self.shown == "top" else "top"

    def _move(self, up: int) -> None:
        if self.helping:
            self.help_top = max(0, min(len(ACTIONS) - 1, self.help_top - up))
        elif self.opened is not None:
            self.opened.move(-up)
        elif self.shown == "top":
            self.group = max(0, min(len(self.groups) - 1, self.group - up))
        else:
            self.records.move(up)

    def _go(self, *, first: bool) -> None:
        if self.shown == "top":
            self.group = 0 if first else max(0, len(self.groups) - 1)
        elif first:
            self.records.first()
        else:
            self.records.follow()

    def _on_rows(self, action: Callable[[], None]) -> Callable[[], None]:
        """Return an action that is refused while rates are shown in place of its rows."""

        def act() -> None:
            if self.shown == "top":
                self.note = "this is for records: t shows them"
            else:
                action()

        return act

    def _bookmark(self) -> None:
        if self.records.selected is None:
            self.note = _NOTHING_SELECTED
        self.records.bookmark()

    def _next_times(self) -> None:
        self.times = self.records.next_times()
        self.note = f"times: {self.times}"

    def _find(self, text: str) -> None:
        self.records.look_for(text or self.records.search)
        self._seek(up=True)

    def _seek(self, *, up: bool) -> None:
        if self.records.finder is None:
            self.note = _NOTHING_SOUGHT
        else:
            self.records.hold_still()
            self._start(self._seek_hit(self.records.finder, up=up))

    async def _seek_hit(self, finder: Finder, *, up: bool) -> None:
        """Select the next hit, once the search has come to it."""
        records = self.records
        stretches = tuple(records.kept.stretches)
        while finder is records.finder:
            if records.next_hit(up=up):
                break
            if not await asyncio.to_thread(finder.step, stretches):
                if not records.next_hit(up=up):
                    where = "above" if up else "below"
                    self.refuse(f"no other row {where} has {records.search!r}")
                break
        self.changed()

    def _show_context(self) -> None:
        if not self.records.around_hits():
            self.note = _NOTHING_SOUGHT

    def _ask_filter(self) -> None:
        if self.opened is not None and (text := self.opened.filter):
            self.opened = None
            self._filter(text)
        else:
            self.input.ask(self._question, self._filter, typed=self._try_filter)

    def _question(self) -> str:
        if self._preview is None:
            return "filter"
        count, searched = self._preview.count(self.records.kept.stretches)
        return f"filter ({count:,} of {searched:,} stay)"

    def _filter(self, text: str) -> None:
        self._preview = None
        self.guest.filter_by(text)
        found = self.guest.filter
        self.records.show_where(found.mask if found else None)
        words = f"only records where {text} are kept from here" if text else "all records again"
        self.records.note(f"--- {escaped(words)} ---", "faint")

    def _try_filter(self, text: str) -> None:
        """Count how many of the kept records an expression would leave."""
        self._preview = None
        if text:
            try:
                self._preview = Finder(self.guest.compiled(text).mask, lambda note: False)
            except QtctlError:
                return

    def _open(self) -> None:
        if self.helping or self.told or self.comparing:
            return
        if self.shown == "top" and not self.overlaid:
            self._drill()
            return
        self.opened = self._selected() or self.opened
        if self.opened is None:
            self.note = _NOTHING_SELECTED

    def _selected(self) -> Opened | None:
        record, number = self.records.record(), self.records.selected
        if record is None or number is None:
            return None
        facts = self.guest.session.facts
        declared, path = facts.declaration(record.name), facts.declarations_path
        in_hex, moment = self.records.in_hex(record.name), self.records.moment(number)
        return Opened(record, number, declared, str(path or ""), in_hex, moment)

    def _drill(self) -> None:
        """Show the records of the selected row of rates."""
        key, by = None, self.guest.by
        if self.group < len(self.groups):
            key = self.groups[self.group]
        if key is None:
            self.note = f"no filter holds for records without {by}" if self.groups else "no rates"
        elif isinstance(key, str) and len(key) >= LONGEST:
            self.note = f"only {LONGEST} characters of this text are known: f filters"
        else:
            in_hex = isinstance(key, int) and self.guest.rating.prints_hex
            self.shown = "stream"
            self.records.follow()
            self._filter(f"{by} == {hex(key) if in_hex and isinstance(key, int) else repr(key)}")

    async def _seek_same(self) -> None:
        """Select the next record of the selected one's request, or else the first."""
        here = self.opened or self._selected()
        if here is None or here.others is None:
            self.refuse("no record of a request is selected" if here else _NOTHING_SELECTED)
            return
        self.records.hold_still()
        stretches = tuple(self.records.kept.stretches)
        while await asyncio.to_thread(here.others.step, stretches):
            pass
        rows = self.records.rows_of(here.others)
        found = next(rows.down(here.number + 1), None)
        found = next(rows.down(rows.first), None) if found is None else found
        if found is None:
            self.refuse("no record of the request is kept")
            return
        self.records.select(found)
        if self.opened is not None:
            self.opened = self._selected()
        self.changed()

    def _mark_span(self, name: str) -> None:
        if self.records.selected is None:
            self.note = _NOTHING_SELECTED
            return
        self.note = self.spans.mark(name, self.records.selected)
        self.comparing = self.spans.whole
        if self.comparing:
            self.spans.compare(self.records.rows)

    def _disable(self) -> None:
        if self.shown == "top":
            self._disable_group()
        elif (record := self.records.record()) is not None:
            self._start(self._switch(record.name, False))
        else:
            self.note = _NOTHING_SELECTED

    def _disable_group(self) -> None:
        if self.guest.by != "event":
            self.note = "rates by event have events to switch off: b changes that"
        elif self.group < len(self.groups) and not self.overlaid:
            self._start(self._switch(str(self.groups[self.group]), False))
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

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _ask_by(self) -> None:
        if self.opened is not None and self.opened.selected is not None:
            name, self.opened = self.opened.selected[0], None
            self.shown = "top"
            self._group(spelt(name))
            return
        self.input.ask("by (event, tid, ARG)", self._group)

    def _group(self, by: str) -> None:
        self.guest.group_by(by or "event")

    def _next_sort(self) -> None:
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]

    def _tell_command(self) -> None:
        self.told = shlex.join(self.command())
        self.copy(self.told)

    def _clear(self) -> None:
        self._uncover()
        self.spans = MarkedSpans()
        self.records.clear()
        self.guest.rating.group_by(self.guest.rating.by)
