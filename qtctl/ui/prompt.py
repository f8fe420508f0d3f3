"""The prompt: an edited line, records above it, a bar below it.

prompt_toolkit (checked with 3.0.53) edits the line. We draw the lines above it ourselves, for
prompt_toolkit would leave raw mode for that, so that keys typed meanwhile are echoed among the
records, and would ask the terminal for its cursor position each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import TextIO, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style as Styles

from qtctl.commands.context import Context
from qtctl.commands.registry import CommandTable
from qtctl.session.session import Session
from qtctl.text.style import escaped
from qtctl.ui.completer import ConsoleCompleter
from qtctl.ui.console import Console
from qtctl.ui.history import open_history
from qtctl.ui.screen import Screen
from qtctl.ui.terminal import Terminal

PROMPT = "qtctl> "
_MENU_ROWS = 8
_SWITCH_S = 0.001
"""A key waits at most so long for a thread that decodes; Python's default of 5 ms is noticeable."""
_STYLES = Styles([("bottom-toolbar", "reverse"), ("prompt", "bold")])


async def run_prompt(context: Context, session: Session, verbs: CommandTable) -> int:
    """Run a prompt on ``session`` until it is left; return the exit code."""
    sys.setswitchinterval(_SWITCH_S)
    with contextlib.closing(Terminal(sys.stdout.fileno(), context.stop.set)) as terminal:
        prompt = Prompt(context, session, verbs, terminal)
        await prompt.run()
    return 0


class _TerminalOutput(Vt100_Output):
    """Draws on a terminal without asking for its cursor position."""

    def __init__(self, terminal: Terminal, term: str | None, depth: ColorDepth | None) -> None:
        super().__init__(
            cast(TextIO, terminal),
            lambda: Size(*reversed(terminal.size())),
            term=term,
            default_color_depth=depth,
            enable_bell=False,
            enable_cpr=False,
        )
        self.held = False

    def get_rows_below_cursor_position(self) -> int:
        """Return 1: use no more rows than are drawn."""
        return 1

    def flush(self) -> None:
        """Write the buffered output, unless it is ``held`` to be written at once."""
        if not self.held:
            super().flush()


class _LineEditor(PromptSession[None]):
    """Reserves lines for the completion menu only while it is open."""

    @property
    def reserve_space_for_menu(self) -> int:
        """The number of reserved lines."""
        menu = self.default_buffer.complete_state
        return _MENU_ROWS if menu is not None and menu.completions else 0

    @reserve_space_for_menu.setter
    def reserve_space_for_menu(self, rows: int) -> None:
        pass


class Prompt:
    """A prompt on a terminal."""

    def __init__(
        self, context: Context, session: Session, verbs: CommandTable, terminal: Terminal
    ) -> None:
        self._context = context
        self._bar = ""
        self._terminal = terminal
        depth = None if context.out_style.colour else ColorDepth.DEPTH_1_BIT
        self._output = _TerminalOutput(terminal, os.environ.get("TERM"), depth)
        self._screen = Screen(context.out_style, self._draw, terminal.ready)
        self._console = Console(
            context, session, verbs, screen=self._screen, changed=self._invalidate, ask=self._ask
        )
        self._question = ""
        self._answer: asyncio.Future[bool] | None = None
        self._asking = asyncio.Lock()
        history, why_not = open_history()
        if why_not:
            context.say(why_not)
        self._lines = _LineEditor(
            lambda: [("class:prompt", self._question or PROMPT)],
            input=create_input(sys.stdin),
            output=self._output,
            history=history,
            enable_history_search=True,
            auto_suggest=AutoSuggestFromHistory(),
            key_bindings=self._keys(),
            bottom_toolbar=lambda: self._bar,
            style=_STYLES,
            color_depth=depth,
            completer=ConsoleCompleter(self._console),
            complete_in_thread=True,
            complete_while_typing=False,  # that would always keep lines free for the menu
        )
        typed = CompleteEvent(text_inserted=True)
        buffer = self._lines.default_buffer
        buffer.on_text_insert += lambda _: buffer.start_completion(complete_event=typed)
        self._app = self._lines.app
        self._app.terminal_size_polling_interval = None
        buffer.accept_handler = self._accept

    async def run(self) -> None:
        """Read lines until the prompt is left."""
        leaving = asyncio.ensure_future(self._exit_when_left())
        self._context.interrupt = self._console.interrupt
        try:
            with contextlib.suppress(EOFError):
                await self._app.run_async(handle_sigint=False, set_exception_handler=False)
        finally:
            self._context.interrupt = None
            leaving.cancel()
            await self._console.leave()
            self._screen.flush()

    async def _exit_when_left(self) -> None:
        await self._console.left.wait()
        if self._app.is_running and not self._app.is_done:
            self._app.exit()

    def _accept(self, buffer: Buffer) -> bool:
        """Print the line among the records and run it; return False: empty the buffer."""
        typed = buffer.text.encode("utf-8", "surrogateescape")  # bytes that are not UTF-8
        text = typed.decode("utf-8", "replace")
        if self._answer is not None:
            self._screen.write([f"{self._question}{escaped(text)}"])
            self._answer_question(text.strip().lower() in ("y", "yes"))
            return False
        for line in text.splitlines():
            self._screen.write([f"{PROMPT}{escaped(line)}"])
            if line.strip():
                self._console.submit(line)
        return False

    async def _ask(self, question: str) -> bool:
        """Ask a question in place of the prompt, and then restore the typed text."""
        buffer = self._lines.default_buffer
        async with self._asking:
            typed = buffer.document
            self._question, self._answer = f"{escaped(question)} [y/N] ", asyncio.Future()
            buffer.reset()
            self._app.invalidate()
            try:
                return await self._answer
            finally:
                self._question, self._answer = "", None
                buffer.reset(typed)
                self._app.invalidate()

    def _answer_question(self, yes: bool) -> None:
        """Answer the question once: more keys may come before it is removed."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(yes)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("c-c")
        def _(event: KeyPressEvent) -> None:
            if self._answer is not None:
                self._answer_question(False)
            elif event.current_buffer.text:
                event.current_buffer.reset()
            else:
                self._console.interrupt()

        @keys.add("c-d")
        def _(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.delete()
            else:
                event.app.exit()

        return keys

    def _invalidate(self) -> None:
        before, self._bar = self._bar, self._console.bar()
        if self._bar != before:
            self._app.invalidate()

    def _draw(self, lines: Sequence[str]) -> None:
        """Draw lines above the edited one, with one write."""
        text = "".join(f"{line}\r\n" for line in lines)
        if not self._app.is_running:
            self._terminal.write(text)
            return
        self._output.held = True
        try:
            self._app.renderer.erase(leave_alternate_screen=False)
            self._output.write_raw(text)
            assert self._app.context is not None  # it runs
            context = self._app.context.copy()
            context.run(self._app.renderer.render, self._app, self._app.layout)
        finally:
            self._output.held = False
            self._output.flush()
