"""A line of input at the foot of the view, for one question at a time."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import AnyFormattedText
from prompt_toolkit.widgets import TextArea

from qtctl.errors import QtctlError


class InputLine:
    """Asks questions; ``failed`` is called with the message of a wrong answer.

    ``widget`` is to be shown while ``asking``.
    """

    def __init__(self, failed: Callable[[str], None]) -> None:
        self._failed = failed
        self._asked: tuple[str, Callable[[str], None]] | None = None
        self.asking = Condition(lambda: self._asked is not None)
        self.widget = TextArea(
            height=1, multiline=False, prompt=self._prompt, accept_handler=self._accept
        )

    def ask(self, question: str, then: Callable[[str], None]) -> None:
        """Ask a question, and call ``then`` with the answer; a QtctlError refuses it."""
        self._asked = question, then
        self.widget.text = ""

    def cancel(self) -> None:
        """Withdraw the question."""
        self._asked = None

    def _prompt(self) -> AnyFormattedText:
        return f"{self._asked[0]}: " if self._asked else ""

    def _accept(self, buffer: object) -> bool:
        if self._asked is not None:
            _, then = self._asked
            self._asked = None
            try:
                then(self.widget.text.strip())
            except QtctlError as error:
                self._failed(error.message)
        return False
