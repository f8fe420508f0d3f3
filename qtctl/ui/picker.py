"""A list to choose from on a terminal: arrows, letters that filter it, Enter, Esc."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Point
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input, create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import HSplit, Layout, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from prompt_toolkit.output import Output
from prompt_toolkit.widgets import TextArea

from qtctl.commands.ps import HEADER, guest_rows
from qtctl.errors import ConnectionFailed
from qtctl.text.style import Style, counted
from qtctl.text.tables import cut, table
from qtctl.ui.painting import SELECTED, colour_depth, fragments

_KEYS = "Enter: choose, Esc: back"


class Choices:
    """Rows of cells, those of them that have all typed words, and the selected one. Pure."""

    def __init__(self, rows: Sequence[Sequence[str]], selected: int = 0) -> None:
        self._texts = [" ".join(row).lower() for row in rows]
        self.shown = list(range(len(rows)))
        self.place = selected

    @property
    def selected(self) -> int | None:
        """The number of the selected row; None where none is shown."""
        return self.shown[self.place] if self.shown else None

    def narrow(self, typed: str) -> None:
        """Show the rows that have all words of a text, ignoring case."""
        before, words = self.selected, typed.lower().split()
        texts = enumerate(self._texts)
        self.shown = [number for number, text in texts if all(word in text for word in words)]
        self.place = self.shown.index(before) if before in self.shown else 0

    def move(self, down: int) -> None:
        """Select another row, at most the first or last."""
        self.place = max(0, min(len(self.shown) - 1, self.place + down))


class Picker:
    """Draws a table of at least one row; :meth:`run` returns the number of the chosen one."""

    def __init__(
        self,
        style: Style,
        what: str,
        header: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        selected: int = 0,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._style, self._what = style, what
        self._header, self._rows = header, rows
        self._choices = Choices(rows, selected)
        self._drawn: tuple[int, list[StyleAndTextTuples]] = (0, [])
        self._typed = TextArea(height=1, multiline=False, prompt=f"{what}: ")
        self._typed.buffer.on_text_changed += lambda _: self._choices.narrow(self._typed.text)
        listed = FormattedTextControl(
            self._list, get_cursor_position=lambda: Point(0, self._choices.place)
        )
        self._window = Window(listed, always_hide_cursor=True)
        self._app: Application[int | None] = Application(
            Layout(
                HSplit(
                    [
                        self._typed,
                        Window(FormattedTextControl(lambda: self._lines()[0]), height=1),
                        self._window,
                        Window(FormattedTextControl(self._foot), height=1),
                    ]
                ),
                focused_element=self._typed,
            ),
            key_bindings=self._keys(),
            full_screen=True,
            color_depth=colour_depth(style),
            # That of a prompt or view would take the Escape with which this list is left: half a
            # second after its last key it flushes what its parser holds.
            input=input or create_input(sys.stdin),
            output=output,
            terminal_size_polling_interval=None,
        )

    async def run(self) -> int | None:
        """Show the list until a row is chosen, or it is left: then return None."""
        try:
            return await self._app.run_async(handle_sigint=False, set_exception_handler=False)
        except (EOFError, OSError):  # the terminal is gone
            return None

    def _lines(self) -> list[StyleAndTextTuples]:
        """Return the header and the rows at the width of the terminal."""
        width = self._app.output.get_size().columns
        if self._drawn[0] != width:
            drawn = table(replace(self._style, width=width), self._header, self._rows)
            self._drawn = width, [fragments(line) for line in drawn]
        return self._drawn[1]

    def _list(self) -> StyleAndTextTuples:
        lines = self._lines()
        found: StyleAndTextTuples = []
        for place, number in enumerate(self._choices.shown):
            look = f" {SELECTED}" if place == self._choices.place else ""
            found += [(part[0] + look, part[1]) for part in lines[number + 1]]
            found.append(("", "\n"))
        return found[:-1]

    def _foot(self) -> StyleAndTextTuples:
        shown, every = len(self._choices.shown), len(self._rows)
        count = counted(every, self._what)
        text = f"{count if shown == every else f'{shown} of {count}'}  {_KEYS}"
        return [("fg:ansibrightblack", cut(text, self._app.output.get_size().columns))]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        def moves(down: int, *names: str) -> None:
            for name in names:
                keys.add(name, eager=True)(lambda event: self._choices.move(down))

        def page(times: int, name: str) -> None:
            def move(event: KeyPressEvent) -> None:
                info = self._window.render_info
                self._choices.move(times * max(1, info.window_height if info else 1))

            keys.add(name, eager=True)(move)

        moves(-1, "up", "c-p", "s-tab")
        moves(1, "down", "c-n", "tab")
        page(-1, "pageup")
        page(1, "pagedown")

        @keys.add("enter", eager=True)
        def choose(event: KeyPressEvent) -> None:
            if self._choices.selected is not None:
                event.app.exit(result=self._choices.selected)

        @keys.add("escape", eager=True)
        @keys.add("c-c", eager=True)
        @keys.add("c-d", eager=True)
        @keys.add("c-g", eager=True)
        def leave(event: KeyPressEvent) -> None:
            event.app.exit()

        return keys


async def pick_guest(
    style: Style,
    *,
    here: int | None = None,
    output: Output | None = None,
) -> str | None:
    """Let the user choose a running guest; return its TARGET, None if the list was left.

    ``here`` is the pid that is selected at first.

    Raises:
        ConnectionFailed: none runs.
    """
    rows = await asyncio.to_thread(guest_rows)
    if not rows:
        raise ConnectionFailed("no QEMU guest was found", hint="qtctl -t SOCKET, or qtctl demo")
    listed = [row[0] for row in rows]
    place = listed.index(str(here)) if str(here) in listed else 0
    picker = Picker(style, "guest", HEADER, rows, selected=place, output=output)
    chosen = await picker.run()
    return None if chosen is None else listed[chosen]
