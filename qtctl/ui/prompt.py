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
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import TextIO, TypeVar, cast

from prompt_toolkit import PromptSession
from prompt_toolkit.application import in_terminal
from prompt_toolkit.application.current import set_app
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.data_structures import Size
from prompt_toolkit.filters import Condition, has_completions, has_selection, is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import create_input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import CompletionsMenu, Dimension, Window
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style as Styles

from qtctl.commands.context import Context
from qtctl.commands.defaults import aliases
from qtctl.commands.registry import CommandTable
from qtctl.commands.slots import divided, is_comment, read_line
from qtctl.session.session import Session
from qtctl.text.style import Style, escaped
from qtctl.ui.completer import ConsoleCompleter
from qtctl.ui.console import Console
from qtctl.ui.history import open_history
from qtctl.ui.pager import page, pager_of
from qtctl.ui.painting import look_of
from qtctl.ui.picker import pick_guest
from qtctl.ui.screen import Screen
from qtctl.ui.terminal import Terminal
from qtctl.ui.toolbar import OPEN, QUESTION, READY, SEARCH, TYPED, toolbar
from qtctl.ui.typed_line import KnownWords, Span, TypedLine

PROMPT = "qtctl> "
_CONTINUED = " ....> "
_MENU_ROWS = 8
"""So many rows has the menu while a word is typed; once Tab was pressed it takes what it needs."""
_DRAIN_S = 1.0
_SWITCH_S = 0.001
"""A key waits at most so long for a thread that decodes; Python's default of 5 ms is noticeable."""
_T = TypeVar("_T")
_ROLES = (("option", "key"), ("event", "event"), ("value", "good"), ("comment", "faint"))


async def run_prompt(
    context: Context, session: Session, verbs: CommandTable, held: contextlib.AsyncExitStack
) -> int:
    """Run a prompt on ``session``, which ``held`` closes; return the exit code."""
    sys.setswitchinterval(_SWITCH_S)
    with contextlib.closing(Terminal(sys.stdout.fileno(), context.stop.set)) as terminal:
        prompt = Prompt(context, session, verbs, held, terminal)
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
    """Reserves rows for the completion menu only while it is open."""

    @property
    def reserve_space_for_menu(self) -> int:
        """The number of reserved rows."""
        menu = self.default_buffer.complete_state
        if menu is None or not menu.completions:
            return 0
        wanted = _MENU_ROWS if menu.complete_index is None else len(menu.completions)
        most = self.output.get_size().rows - 3  # the line, the bar, and one row above
        return max(1, min(max(wanted, _MENU_ROWS), most))

    @reserve_space_for_menu.setter
    def reserve_space_for_menu(self, rows: int) -> None:
        pass

    def fit_menu(self) -> None:
        """Let the menu have all the rows that are reserved: prompt_toolkit's has at most 16."""
        for container in self.layout.walk():
            if isinstance(container, CompletionsMenu):
                menu = container.content
                assert isinstance(menu, Window)
                menu.height = lambda: Dimension(min=1, max=max(1, self.reserve_space_for_menu))


def styles(style: Style) -> Styles:
    """Return the looks of the prompt's parts, in the colours of ``style``."""

    def look(role: str) -> str:
        return look_of(style.colours(role)[0])

    return Styles(
        [
            ("bottom-toolbar", "reverse"),
            ("bottom-toolbar.key", "bold"),
            ("completion-menu.match", "bold underline"),
            ("prompt", "bold"),
            ("verb", "bold"),
            ("unknown", look("bad")),
            *((name, look(role)) for name, role in _ROLES),
        ]
    )


class Prompt:
    """A prompt on a terminal."""

    def __init__(
        self,
        context: Context,
        session: Session,
        verbs: CommandTable,
        held: contextlib.AsyncExitStack,
        terminal: Terminal,
    ) -> None:
        self._context = context
        self._bar = ""
        self._terminal = terminal
        depth = None if context.out_style.colour else ColorDepth.DEPTH_1_BIT
        self._output = _TerminalOutput(terminal, os.environ.get("TERM"), depth)
        self._screen = Screen(context.out_style, self._draw, self._ready)
        self._console = Console(
            context,
            session,
            verbs,
            held=held,
            screen=self._screen,
            changed=self._invalidate,
            ask=self._ask,
            pick=self._pick,
            page=self._page,
        )
        self._held: list[str] | None = None
        self._away = asyncio.Lock()
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
            bottom_toolbar=self._toolbar,
            multiline=Condition(lambda: self._answer is None and self._is_open()),
            prompt_continuation=lambda width, line, wrapped: "" if wrapped else _CONTINUED,
            lexer=TypedLine(self._spans),
            style=styles(context.out_style),
            color_depth=depth,
            completer=ConsoleCompleter(self._console),
            complete_in_thread=True,
            complete_while_typing=False,  # that would always keep lines free for the menu
        )
        self._lines.fit_menu()
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
        # The colours of a line need the declaration of its verb; no key is to wait for its import.
        asyncio.get_running_loop().run_in_executor(None, tuple, self._console.table.rows.values())
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
        for line in divided(text):
            first, *more = map(escaped, line.split("\n"))
            self._screen.write([f"{PROMPT}{first}", *(f"{_CONTINUED}{one}" for one in more)])
            if line.strip():
                self._console.width = self._terminal.size()[0]
                self._console.submit(line)
        return False

    def _is_open(self) -> bool:
        """Return whether a quotation is open, so that Enter begins another line."""
        last = divided(self._lines.default_buffer.text)[-1]
        return not is_comment(last) and read_line(last)[1] is not None

    def _spans(self, text: str) -> Iterator[Span]:
        if self._answer is not None:
            return iter(())
        console = self._console
        return KnownWords(console.table, console.state.states, aliases()).spans(text)

    def _toolbar(self) -> StyleAndTextTuples:
        if self._answer is not None:
            keys = QUESTION
        elif self._lines.layout.is_searching:
            keys = SEARCH
        elif self._is_open():
            keys = OPEN
        else:
            keys = TYPED if self._lines.default_buffer.text else READY
        return toolbar(self._bar, keys, self._terminal.size()[0])

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

        @keys.add("c-c", filter=~is_searching)
        def _(event: KeyPressEvent) -> None:
            if self._answer is not None:
                self._answer_question(False)
            elif event.current_buffer.text:
                event.current_buffer.reset()
            else:
                self._console.interrupt()

        @keys.add("c-d", filter=~is_searching)
        def _(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.delete()
            else:
                event.app.exit()

        free = ~is_searching & ~has_completions & ~has_selection

        @keys.add("c-g", filter=free & Condition(lambda: self._answer is None))
        def _(event: KeyPressEvent) -> None:
            self._console.submit("use")

        @keys.add("escape", "enter", filter=~is_searching)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        return keys

    def _invalidate(self) -> None:
        before, self._bar = self._bar, self._console.bar()
        if self._bar != before:
            self._app.invalidate()

    def _draw(self, lines: Sequence[str]) -> None:
        """Draw lines above the edited one, with one write."""
        if self._held is not None:
            self._held += lines
            return
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

    def _ready(self) -> bool:
        return self._held is None and self._terminal.ready()

    async def _page(self, lines: Sequence[str]) -> bool:
        """Show an answer in the user's pager if it is longer than the screen; return whether.

        Nothing is paged while a line is typed.
        """
        words = pager_of(os.environ)
        is_short = len(lines) < self._terminal.size()[1]
        busy = not self._app.is_running or self._away.locked()
        if not words or is_short or busy or self._lines.default_buffer.text:
            return False
        try:
            await self._elsewhere(page(words, lines))
        except OSError:
            return False
        self._screen.write([f"({len(lines):,} lines, shown by {words[0]})"])
        return True

    async def _pick(self) -> str | None:
        """Let the user choose one of the running guests; return its TARGET."""
        style = replace(self._context.out_style, width=self._terminal.size()[0])
        guest = self._console.session.guest
        here = None if guest is None else guest.pid
        return await self._elsewhere(pick_guest(style, here=here, output=self._output))

    async def _elsewhere(self, work: Coroutine[None, None, _T]) -> _T | None:
        """Give the terminal to ``work``, and return its result; None if the prompt was left.

        Meanwhile what would be shown is held, and Ctrl-C is not for jobs.
        """
        async with self._away:
            self._held = []
            self._context.interrupt = lambda: None
            try:
                with set_app(self._app):
                    async with in_terminal():
                        await self._terminal.drain(_DRAIN_S)
                        return await self._until_left(work)
            finally:
                held, self._held = self._held, None
                self._context.interrupt = self._console.interrupt
                self._screen.write(held)

    async def _until_left(self, work: Coroutine[None, None, _T]) -> _T | None:
        """Run ``work``; cancel it if the prompt is left."""
        working = asyncio.ensure_future(work)
        left = asyncio.ensure_future(self._console.left.wait())
        try:
            await asyncio.wait({working, left}, return_when="FIRST_COMPLETED")
        finally:
            working.cancel()
            left.cancel()
            await asyncio.gather(working, left, return_exceptions=True)
        return None if working.cancelled() else working.result()
