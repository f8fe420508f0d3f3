"""Completion of the prompt's line, as prompt_toolkit asks for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples

from qtctl.commands.completion import targets
from qtctl.commands.defaults import aliases
from qtctl.errors import QtctlError
from qtctl.model import Declaration
from qtctl.text.style import escaped
from qtctl.ui.completion import Vocabulary, matched, suggest
from qtctl.ui.console import Console


class ConsoleCompleter(Completer):
    """Completes the verbs and arguments of a console. Runs in a thread, and asks no guest."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield completions at the cursor; on an empty line only if they are requested."""
        if not document.text and not complete_event.completion_requested:
            return
        console = self._console
        known = Vocabulary(
            console.table,
            console.state.states,
            self._declared(),
            _sets,
            aliases(),
            targets,
        )
        for found in suggest(document.text_before_cursor, known):
            typed = document.text_before_cursor[-found.replaces :] if found.replaces else ""
            yield Completion(
                found.text,
                start_position=-found.replaces,
                display=marked(found.text, typed),
                display_meta=escaped(found.meta),
            )

    def _declared(self) -> Mapping[str, Declaration]:
        try:
            return self._console.session.facts.declarations.by_name
        except QtctlError:
            return {}


def marked(text: str, typed: str) -> StyleAndTextTuples:
    """Return a text for the menu, with the letters marked that were typed."""
    shown = escaped(text)
    places = set(matched(typed, text)) if shown == text else set()
    return [
        ("class:completion-menu.match" if match else "", "".join(shown[place] for place in run))
        for match, run in itertools.groupby(range(len(shown)), places.__contains__)
    ]


def _sets() -> Iterator[tuple[str, str]]:
    from qtctl.events.sets import names, read_set

    for name in names():
        try:
            yield name, read_set(name).about
        except QtctlError as error:
            yield name, error.message
