"""The full-screen view of one guest: records of its events as they come, rates, or a latency.

``qtctl pane`` shows it beside the work, ``qtctl top`` in the terminal itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TypeAlias

from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.application.current import set_app
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import ConditionalContainer, HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from prompt_toolkit.mouse_events import MouseEvent, MouseEventType

from qtctl.analysis.rates import Sort
from qtctl.commands.context import Context
from qtctl.commands.following import check_lost
from qtctl.commands.formatting import say_sums
from qtctl.commands.registry import Options
from qtctl.config import settings
from qtctl.errors import QtctlError, unexpected
from qtctl.events.selection import Selection
from qtctl.records.counts import Counts
from qtctl.text.style import Style, escaped
from qtctl.text.tables import cut
from qtctl.text.units import short
from qtctl.ui.actions import configured_actions
from qtctl.ui.followed_guest import FollowedGuest
from qtctl.ui.input_line import told
from qtctl.ui.painting import SELECTED, colour_depth, fragments
from qtctl.ui.picker import pick_guest
from qtctl.ui.screen import ScreenContext
from qtctl.ui.stream_rates import check
from qtctl.ui.view_state import ViewState
from qtctl.ui.views import Shown

_TICK_S = 0.5
_REDRAW_S = 0.03
_ROOMY = 60
"""From so many columns on, the bar shows whole numbers."""
_WHEEL = {MouseEventType.SCROLL_UP: 1, MouseEventType.SCROLL_DOWN: -1}

Call: TypeAlias = Callable[[Options, Selection, str, Path | None], list[str]]
"""Returns the arguments of the command line that shows a view."""


class _Clickable(FormattedTextControl):
    """Text whose mouse events a function gets."""

    def __init__(
        self, text: Callable[[], StyleAndTextTuples], clicked: Callable[[MouseEvent], None]
    ) -> None:
        super().__init__(text)
        self._on_click = clicked

    def mouse_handler(self, mouse_event: MouseEvent) -> None:
        """Pass on a mouse event."""
        self._on_click(mouse_event)


class View:
    """Draws the state of a view, and passes on keys; :meth:`run` shows it until it is left."""

    def __init__(self, style: Style, shown: Shown, sort: Sort, times: str = "abs") -> None:
        self.state = ViewState(style, shown, sort, times)
        self._style = style
        self._left = False
        self._actions = configured_actions(settings())
        self._app = self._application()
        self.state.changed = self._app.invalidate
        self.state.leave = self.leave
        self.state.copy = self._copy
        self.state.page = lambda: max(1, self._size()[0] - 1)

    def _application(self) -> Application[None]:
        asking = self.state.input.asking
        beside = Condition(lambda: self.state.shown == "stream" and not self.state.over)
        body = _Clickable(self._body, self._clicked)
        side = Window(FormattedTextControl(self._side), width=1, always_hide_cursor=True)
        lines = [
            Window(FormattedTextControl(self._bar), height=1, style="reverse"),
            VSplit([Window(body, always_hide_cursor=True), ConditionalContainer(side, beside)]),
            ConditionalContainer(self.state.input.widget, asking),
            ConditionalContainer(Window(FormattedTextControl(self._foot), height=1), ~asking),
        ]
        return Application(
            Layout(HSplit(lines), focused_element=self.state.input.widget),
            key_bindings=self._keys(asking),
            full_screen=True,
            mouse_support=True,
            color_depth=colour_depth(self._style),
            min_redraw_interval=_REDRAW_S,
            terminal_size_polling_interval=None,
        )

    async def run(self) -> None:
        """Show the view until it is left or the terminal is gone."""
        working = [asyncio.ensure_future(work) for work in (self._tick(), self.state.search.run())]
        try:
            await self._app.run_async(
                pre_run=self._begun, handle_sigint=False, set_exception_handler=False
            )
        except (EOFError, OSError):
            pass  # the terminal went away with its pane: nobody could read an error
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, self.state.search.close(), return_exceptions=True)

    async def pick_guest(self) -> str | None:
        """Let the user choose another guest, in place of the view; return its TARGET."""
        session = self.state.guest.session
        here = None if session.guest is None else session.guest.pid
        with set_app(self._app):
            async with in_terminal():
                target = await pick_guest(self._style, here=here)
        return None if target == str(here) else target

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
            self._make_lines(again=not self.state.records.paused)
            now = self._bar(), self._lines()
            if now != before:
                self._app.invalidate()
            before = now
            await asyncio.sleep(_TICK_S)

    # Drawing, from top to bottom.

    def _bar(self) -> str:
        state, guest = self.state, self.state.guest
        session, counts = guest.session, guest.counts
        name = session.guest and (session.guest.name or str(session.guest.pid))
        parts = [escaped(name or session.where)]
        if guest.away:
            parts.append("GONE")
        if state.records.kept.still:
            parts.append("PAUSED" if state.records.paused else "BACK")
        parts.append(f"{short(guest.rating.per_s())}/s")
        lost = short(counts.lost) + ("+" if counts.unknown_losses else "")
        read = f"{counts.read:,}" if self._size()[1] >= _ROOMY else short(counts.read)
        parts += [f"{read} read", f"{lost} lost"]
        if guest.where:
            parts.append(f"where {escaped(guest.where)}")
        if state.records.only:
            parts.append(f"only {escaped(state.records.only)!r}")
        return self._drawable(cut("  ".join(parts), self._size()[1]))

    def _body(self) -> StyleAndTextTuples:
        self.state.search.drawn()
        rows, width = self._size()
        if self.state.over:
            names, size = self.state.guest.names.thread, self._size()
            over = self.state.over.lines(
                self._style, self._actions, self.state.records, names, size
            )
            return self._text(*over)
        if self.state.shown != "stream":
            self._make_lines(again=False)
            return self._text(*self._lines())
        return self.state.records.body(rows, max(1, width - 1))

    def _lines(self) -> tuple[Sequence[str], int]:
        """Return the lines of rates or of the latency, and the place of the selected one."""
        state = self.state
        if state.shown == "top":
            return state.rates.lines, state.rates.selected
        if state.shown == "stream":
            return (), -1
        if state.guest.latency is None:
            return state.heat.suggesting(*self._size())
        return state.heat.lines, -1

    def _make_lines(self, *, again: bool) -> None:
        """Make the lines of rates or of the latency: ``again`` also if only the numbers changed."""
        state = self.state
        if state.shown == "top":
            state.rates.draw(state.guest.rating, *self._size(), again=again)
        elif state.shown == "latency" and state.guest.latency is not None:
            still = state.records.paused
            state.heat.draw(state.guest.latency, *self._size(), still=still, again=again)

    def _text(self, lines: Sequence[str], selected: int = -1) -> StyleAndTextTuples:
        """Return the lines that there is room for, among them the selected one."""
        found: StyleAndTextTuples = []
        rows, _ = self._size()
        begin = max(0, selected + 1 - rows)
        for place, line in enumerate(lines[begin : begin + rows], begin):
            found += [("", "\n")] if found else []
            found += fragments(self._drawable(line), base=SELECTED if place == selected else "")
        return found

    def _side(self) -> StyleAndTextTuples:
        return self.state.records.bar(self._size()[0])

    def _foot(self) -> StyleAndTextTuples:
        if self.state.note:
            return [("", self._drawable(self.state.note))]
        keys = self.state.over.keys if self.state.over else "h: help, q: quit"
        parts = [self.state.records.hit_words(), keys]
        return [("fg:ansibrightblack", self._drawable("  ".join(filter(None, parts))))]

    def _size(self) -> tuple[int, int]:
        """Rows and columns of the body."""
        size = self._app.output.get_size()
        return max(1, size.rows - 2), max(1, size.columns)

    def _drawable(self, line: str) -> str:
        return line if self._style.unicode else line.encode("ascii", "replace").decode()

    # Keys, the mouse, and the input line at the foot.

    def _keys(self, asking: Condition) -> KeyBindings:
        bindings = KeyBindings()
        for action in self._actions:
            for key in action.keys:

                def run(event: KeyPressEvent, name: str = action.name) -> None:
                    self.state.do(name)

                bindings.add(key, filter=~asking, eager=True)(run)

        @bindings.add("c-c", filter=asking, eager=True)
        @bindings.add("escape", filter=asking, eager=True)
        def cancel(event: KeyPressEvent) -> None:
            self.state.cancel()

        return bindings

    def _clicked(self, event: MouseEvent) -> None:
        if event.event_type is MouseEventType.MOUSE_DOWN:
            self.state.click(event.position.y, event.position.x)
        elif event.event_type in _WHEEL:
            self.state.wheel(_WHEEL[event.event_type])

    def _copy(self, text: str) -> None:
        """Put a text on the clipboard of the terminal (OSC 52; tmux passes it on if it may)."""
        copied = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()
        self._app.output.write_raw(f"\x1b]52;c;{copied}\x07")
        self._app.output.flush()


async def view(
    context: Context,
    options: Options,
    selection: Selection,
    shown: Shown,
    call: Call,
) -> int:
    """Show a guest full screen until the view is left or stopped; return the exit code.

    Another guest that is chosen in the view takes the place of the first, which is restored.
    """
    context.stops = True
    inner = ScreenContext(**{one.name: getattr(context, one.name) for one in fields(context)})
    clock, counts = asyncio.get_running_loop().time, Counts()
    end = None if options.duration is None else clock() + options.duration
    async with contextlib.AsyncExitStack() as held:
        drawn = await held.enter_async_context(_opened(inner, options, selection, shown, call))
        while True:
            moving = _Moving(inner, drawn, options, call)
            try:
                await _run(context, drawn, moving, None if end is None else end - clock())
            finally:
                await moving.close(held)
            counts += drawn.state.guest.counts
            if moving.to is None:
                break
            drawn, options = moving.to, moving.options
    if options.strict:
        check_lost(counts)
    return 0


@contextlib.asynccontextmanager
async def _opened(
    context: ScreenContext, options: Options, selection: Selection, shown: Shown, call: Call
) -> AsyncIterator[View]:
    """Follow a guest, and yield a view of it that is not shown yet; restore the guest behind it."""
    drawn = View(context.out_style, shown, options.sort, options.time)
    state = drawn.state
    pair = getattr(options, "pair", None)
    async with context.attached(lend=True) as session:
        await check(session, selection, options.where, options.by, pair)
        guest = state.guest = FollowedGuest(
            context, options, session, selection, state.take, state.lay_out
        )
        state.command = lambda: [
            "qtctl",
            *call(
                state.options(options), guest.selection, session.target, session.facts.events_all
            ),
        ]
        await guest.open()
        context.screen = state
        try:
            yield drawn
        finally:
            context.screen = None
            await guest.close()
            say_sums(context, guest.counts)


class _Moving:
    """Lets the user choose another guest in a view, and opens a view of it: ``to``.

    ``options`` are those with which it begins.
    """

    def __init__(self, context: ScreenContext, drawn: View, options: Options, call: Call) -> None:
        self.to: View | None = None
        self.options = options
        self._context, self._drawn, self._call = context, drawn, call
        self._held = contextlib.AsyncExitStack()
        self._choosing: asyncio.Task[None] | None = None
        drawn.state.choose_guest = self._begin

    def _begin(self) -> None:
        if self._choosing is None or self._choosing.done():
            self._choosing = asyncio.ensure_future(self._choose())

    async def _choose(self) -> None:
        state = self._drawn.state
        try:
            if (target := await self._drawn.pick_guest()) is None:
                return
            context = replace(self._context, target=target, events_all=None, screen=state)
            options, selection = state.options(self.options), state.guest.selection
            opened = _opened(context, options, selection, state.shown, self._call)
            self.to = await self._held.enter_async_context(opened)
        except Exception as error:
            state.refuse(told(error if isinstance(error, QtctlError) else unexpected(error)))
        else:
            self.options = options
            self._drawn.leave()

    async def stop(self) -> None:
        """Choose no longer."""
        if self._choosing is not None:
            self._choosing.cancel()
            await asyncio.gather(self._choosing, return_exceptions=True)

    async def close(self, held: contextlib.AsyncExitStack) -> None:
        """Close ``held``, the guest of before, and let it hold the one that was chosen."""
        await held.aclose()
        held.push_async_exit(self._held)


async def _run(context: Context, drawn: View, moving: _Moving, seconds: float | None) -> None:
    """Follow and draw until the view is left or stopped, at most for some seconds.

    Raises: what :meth:`FollowedGuest.follow` does.
    """
    guest = drawn.state.guest
    showing = asyncio.ensure_future(drawn.run())
    following = asyncio.ensure_future(guest.follow())
    stopped = asyncio.ensure_future(context.stop.wait())
    try:
        await asyncio.wait(
            {showing, following, stopped}, timeout=seconds, return_when="FIRST_COMPLETED"
        )
    finally:
        await moving.stop()  # the list is shown in place of the view
        guest.stop()
        drawn.leave()
        stopped.cancel()
        await showing
    await following
