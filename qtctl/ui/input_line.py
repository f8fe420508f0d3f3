"""A line of input at the foot of the view, for one question at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.widgets import TextArea

from qtctl.errors import QtctlError

Question: TypeAlias = str | Callable[[], str]
"""What is asked; a function returns what stands there now."""


def told(error: QtctlError) -> str:
    """Return an error with its hint, in one line."""
    return f"{error.message}: {error.hint}" if error.hint else error.message


class InputLine:
    """Asks questions; ``failed`` is called with the message of a wrong answer.

    ``widget`` is to be shown while ``asking``.
    """

    def __init__(self, failed: Callable[[str], None]) -> None:
        self._failed = failed
        self._asked: tuple[Question, Callable[[str], None]] | None = None
        self._typed: Callable[[str], None] | None = None
        self.asking = Condition(lambda: self._asked is not None)
        self.widget = TextArea(
            height=1, multiline=False, prompt=self._prompt, accept_handler=self._accept
        )
        self.widget.buffer.on_text_changed += lambda _: self._changed()

    def ask(
        self,
        question: Question,
        then: Callable[[str], None],
        typed: Callable[[str], None] | None = None,
        text: str = "",
    ) -> None:
        """Ask a question, and call ``then`` with the answer; a QtctlError refuses it.

        ``typed`` is called with what is typed so far; ``text`` is what stands there at first.
        """
        self._typed = None
        self._asked = question, then
        self.widget.text = text
        self.widget.buffer.cursor_position = len(text)
        self._typed = typed

    def cancel(self) -> None:
        """Withdraw the question."""
        self._asked = None

    def _changed(self) -> None:
        if self._typed is not None and self._asked is not None:
            self._typed(self.widget.text.strip())

    def _prompt(self) -> AnyFormattedText:
        if self._asked is None:
            return ""
        question = self._asked[0]
        return f"{question if isinstance(question, str) else question()}: "

    def _accept(self, buffer: object) -> bool:
        if self._asked is not None:
            _, then = self._asked
            self._asked = None
            try:
                then(self.widget.text.strip())
            except QtctlError as error:
                self._failed(told(error))
        return False
