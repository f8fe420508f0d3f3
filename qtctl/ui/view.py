"""The full-screen view of one guest: the records of its events as they come, or their rates.

``qtctl pane`` shows it beside the work, ``qtctl top`` in the terminal itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Literal, TypeAlias

from prompt_toolkit.application import Application
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import ANSI, StyleAndTextTuples, to_formatted_text
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import ConditionalContainer, HSplit, Layout, Window
from prompt_toolkit.layout.controls import FormattedTextControl

from qtctl.analysis.rates import SORTS, Sort
from qtctl.commands.context import Context
from qtctl.commands.following import check_lost
from qtctl.commands.formatting import say_sums
from qtctl.commands.registry import Options
from qtctl.events.selection import Selection
from qtctl.text.style import Style, escaped
from qtctl.text.units import short
from qtctl.ui.followed_guest import FollowedGuest
from qtctl.ui.input_line import InputLine
from qtctl.ui.rate_table import rate_table
from qtctl.ui.screen import ScreenContext
from qtctl.ui.scrollback import Scrollback, holds
from qtctl.ui.stream_rates import check

Shown: TypeAlias = Literal["stream", "top"]

_TICK_S = 0.5
_REDRAW_S = 0.05
_ROOMY = 60
"""From so many columns on, the bar shows whole numbers."""
_KEYS = (
    ("space p", "pause: rows stay, counters go on"),
    ("t Tab", "switch between records and rates"),
    ("f", "filter: records for which an expression holds"),
    ("&", "only rows with a text"),
    ("/ n N", "search upwards, again, downwards"),
    ("Up PgUp Home", "scroll back (also k g)"),
    ("End", "go on with the newest (also G)"),
    ("s b", "rates: next sort column, count by ..."),
    ("c", "clear"),
    ("h ?", "this help; Esc leaves it, and a search"),
    ("q Ctrl-C", "leave and give the guest back"),
)


class View:
    """Draws a followed guest and handles keys; :meth:`run` shows it until it is left."""

    def __init__(self, style: Style, shown: Shown, sort: Sort) -> None:
        self.rows = Scrollback()
        self.guest: FollowedGuest
        self._style = style
        self._shown = shown
        self._sort = sort
        self._table: list[str] = []
        self._note = ""
        self._helping = False
        self._left = False
        self._search = ""
        self._input = InputLine(self._refuse)
        self._app = self._application()

    def _application(self) -> Application[None]:
        asking = self._input.asking
        foot = Window(FormattedTextControl(self._foot), height=1)
        body = Window(FormattedTextControl(self._body), wrap_lines=True, always_hide_cursor=True)
        lines = [
            Window(FormattedTextControl(self._bar), height=1, style="reverse"),
            body,
            ConditionalContainer(self._input.widget, asking),
            ConditionalContainer(foot, ~asking),
        ]
        return Application(
            Layout(HSplit(lines), focused_element=self._input.widget),
            key_bindings=self._keys(asking),
            full_screen=True,
            min_redraw_interval=_REDRAW_S,
            terminal_size_polling_interval=None,
        )

    def draw(self, lines: Iterable[str]) -> None:
        """Add lines of the stream, and redraw soon."""
        self.rows.add(lines)
        self._app.invalidate()

    async def run(self) -> None:
        """Show the view until it is left or the terminal is gone."""
        ticking = asyncio.ensure_future(self._tick())
        try:
            await self._app.run_async(
                pre_run=self._begun, handle_sigint=False, set_exception_handler=False
            )
        except (EOFError, OSError):
            pass  # the terminal went away with its pane: nobody could read an error
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)

    def leave(self) -> None:
        """End :meth:`run`, also if it has not begun yet."""
        self._left = True
        if self._app.is_running and not self._app.is_done:
            self._app.exit()

    def _begun(self) -> None:
        if self._left:
            self._app.exit()

    async def _tick(self) -> None:
        """Redraw regularly what changes without a row: rates and counts."""
        before: object = None
        while True:
            if not self.rows.paused:
                self._table = self._tabulate() if self._shown == "top" else []
            now = self._bar(), self._table
            if now != before:
                self._app.invalidate()
            before = now
            await asyncio.sleep(_TICK_S)

    # Drawing, from top to bottom.

    def _bar(self) -> str:
        session, counts = self.guest.session, self.guest.counts
        name = session.guest and (session.guest.name or str(session.guest.pid))
        parts = [escaped(name or session.where)]
        if self.guest.away:
            parts.append("GONE")
        if self.rows.paused or self.rows.scrolled:
            parts.append("PAUSED" if self.rows.paused else "BACK")
        parts.append(f"{short(self.guest.rating.per_s())}/s")
        lost = short(counts.lost) + ("+" if counts.unknown_losses else "")
        read = f"{counts.read:,}" if self._size()[1] >= _ROOMY else short(counts.read)
        parts += [f"{read} read", f"{lost} lost"]
        if self.guest.filter is not None:
            parts.append(f"where {escaped(self.guest.filter.text)}")
        if self.rows.only:
            parts.append(f"only {escaped(self.rows.only)!r}")
        return self._drawable("  ".join(parts))

    def _body(self) -> StyleAndTextTuples:
        rows, width = self._size()
        lines: Sequence[str]
        if self._helping:
            lines = [f"{keys:13} {what}" for keys, what in _KEYS][:rows]
        elif self._shown == "top":
            lines = self._table[:rows]
        else:
            lines = self.rows.window(rows, width)
        found: StyleAndTextTuples = []
        for number, line in enumerate(lines):
            style = "reverse" if self._search and holds(line, self._search) else ""
            found += [("", "\n")] if number else []
            found += to_formatted_text(ANSI(self._drawable(line)), style)
        return found

    def _foot(self) -> StyleAndTextTuples:
        if self._note:
            return [("", self._drawable(self._note))]
        spared = self.guest.not_drawn
        hidden = f"{short(spared)} not drawn  " if spared else ""
        return [("fg:ansibrightblack", f"{hidden}h: help, q: quit")]

    def _size(self) -> tuple[int, int]:
        """Rows and columns of the body."""
        size = self._app.output.get_size()
        return max(1, size.rows - 2), max(1, size.columns)

    def _drawable(self, line: str) -> str:
        return line if self._style.unicode else line.encode("ascii", "replace").decode()

    def _tabulate(self) -> list[str]:
        """Return the table of rates at this moment."""
        rows, width = self._size()
        rating = self.guest.rating
        snapshot = rating.snapshot(self._sort, max(1, rows - 2))
        style = Style(width, self._style.colour, self._style.unicode)
        title = f"{rating.title} (by {self._sort})"
        return list(rate_table(style, snapshot, rating.label, title=title))

    # Keys, and the input line at the foot.

    def _keys(self, asking: Condition) -> KeyBindings:
        bindings = KeyBindings()

        def on(*keys: str) -> Callable[[Callable[[], None]], None]:
            def bind(act: Callable[[], None]) -> None:
                def run(event: KeyPressEvent) -> None:
                    self._note = ""
                    act()

                for key in keys:
                    bindings.add(key, filter=~asking, eager=True)(run)

            return bind

        def page() -> int:
            return max(1, self._size()[0] - 1)

        on("q", "c-c")(self.leave)
        on("space", "p")(lambda: self.rows.pause(not self.rows.paused))
        on("t", "tab")(self._switch)
        on("c")(self._clear)
        on("h", "?")(self._help)
        on("escape")(self._escape)
        on("s")(self._sort_next)
        on("f")(lambda: self._input.ask("filter", lambda text: self.guest.filter_by(text)))
        on("&")(lambda: self._input.ask("only", self._only))
        on("/")(lambda: self._input.ask("search", self._find))
        on("b")(lambda: self._input.ask("by (event, tid, ARG)", self._group))
        on("n")(lambda: self._find_again(True))
        on("N")(lambda: self._find_again(False))
        on("up", "k")(lambda: self.rows.scroll(1))
        on("down", "j")(lambda: self.rows.scroll(-1))
        on("pageup")(lambda: self.rows.scroll(page()))
        on("pagedown")(lambda: self.rows.scroll(-page()))
        on("home", "g")(lambda: self.rows.scroll(1 << 30))
        on("end", "G")(lambda: self.rows.scroll(-(1 << 30)))

        @bindings.add("c-c", filter=asking, eager=True)
        @bindings.add("escape", filter=asking, eager=True)
        def cancel(event: KeyPressEvent) -> None:
            self._input.cancel()

        return bindings

    def _switch(self) -> None:
        self._shown = "stream" if self._shown == "top" else "top"
        self._table = self._tabulate()

    def _clear(self) -> None:
        self.rows.clear()
        self.guest.rating.group_by(self.guest.rating.by)
        self._table = self._tabulate()

    def _help(self) -> None:
        self._helping = not self._helping

    def _escape(self) -> None:
        self._helping, self._search = False, ""

    def _sort_next(self) -> None:
        self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        self._table = self._tabulate()

    def _refuse(self, message: str) -> None:
        self._note = escaped(message)

    def _only(self, text: str) -> None:
        self.rows.only = text

    def _find(self, text: str) -> None:
        self._search = text or self._search
        self._find_again(True)

    def _find_again(self, up: bool) -> None:
        if self._search and not self.rows.find(self._search, up):
            self._note = f"no other row {'above' if up else 'below'} has {escaped(self._search)!r}"

    def _group(self, by: str) -> None:
        self.guest.group_by(by or "event")
        self._table = self._tabulate()


async def view(context: Context, options: Options, selection: Selection, shown: Shown) -> int:
    """Show a guest full screen until the view is left or stopped; return the exit code."""
    context.stops = True
    inner = ScreenContext(**{one.name: getattr(context, one.name) for one in fields(context)})
    drawn = View(context.out_style, shown, options.sort)
    async with inner.attached(lend=True) as session:
        await check(session, selection, options.where, options.by)
        guest = drawn.guest = FollowedGuest(inner, options, session, selection, drawn.draw)
        await guest.open()
        inner.screen = guest.screen
        try:
            await _run(inner, options, drawn, guest)
        finally:
            inner.screen = None
            await guest.close()
            say_sums(context, guest.counts)
    if options.strict:
        check_lost(guest.counts)
    return 0


async def _run(context: Context, options: Options, drawn: View, guest: FollowedGuest) -> None:
    """Follow and draw until the view is left or stopped.

    Raises: what :meth:`FollowedGuest.follow` does.
    """
    showing = asyncio.ensure_future(drawn.run())
    following = asyncio.ensure_future(guest.follow())
    stopped = asyncio.ensure_future(context.stop.wait())
    try:
        await asyncio.wait(
            {showing, following, stopped}, timeout=options.duration, return_when="FIRST_COMPLETED"
        )
    finally:
        guest.stop()
        drawn.leave()
        stopped.cancel()
        await showing
    await following
