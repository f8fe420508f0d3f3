"""Colours of a line as it is typed: what is known, and what no verb, option or event is called.

Pure, but for :class:`TypedLine`, through which prompt_toolkit asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from typing import NamedTuple

from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.lexers import Lexer

from qtctl.commands.parsing import SHARED
from qtctl.commands.registry import CommandTable
from qtctl.commands.slots import Slot, divided, is_comment, scan_line, slot
from qtctl.events.patterns import is_pattern, set_name
from qtctl.model import EventState

_MOST_CHARS = 4000
"""So much of a text that was pasted gets colours."""

Span = tuple[int, int, str]
"""The begin and end of a part of the text, and its kind, a class of prompt_toolkit's styles."""


class KnownWords(NamedTuple):
    """The words that a line can have: verbs, the guest's events, and the user's aliases."""

    table: CommandTable
    states: Mapping[str, EventState]
    aliases: Mapping[str, str]

    def spans(self, text: str) -> Iterator[Span]:
        """Yield the parts of a text that have a colour, in order.

        Their kinds are ``verb``, ``option``, ``event``, ``value``, ``comment``, and ``unknown`` for
        a word that is complete and not known; what is still being typed is not.
        """
        begin = 0
        for line in divided(text):
            if is_comment(line):
                yield begin, begin + len(line), "comment"
            else:
                for first, last, kind in self._of_line(line):
                    yield begin + first, begin + last, kind
            begin += len(line) + 1

    def _of_line(self, line: str) -> Iterator[Span]:
        words, _ = scan_line(line)
        if len(words) > 1 and words[0].text == "qtctl":
            del words[0]
        for number, word in enumerate(words):
            before = [one.text for one in words[: number + 1]]
            place = slot(before, self.table, SHARED, self.aliases)
            begin = word.begin
            if place.lead.endswith("="):  # --where=EXPR
                begin += len(place.lead)
                yield word.begin, begin, "option"
            if kind := self._kind(place, typing=number == len(words) - 1):
                yield begin, word.end, kind

    def _kind(self, place: Slot, *, typing: bool) -> str:
        """Return the kind of a word, empty for none; ``typing``: it may go on."""
        text = place.text
        match place.kind:
            case "verb":
                names = {*self.table.summaries, *self.aliases}
                return _known("verb", text, names, typing=typing)
            case "option":
                flags = {flag for one in place.options for flag in (*one.flags, *one.hidden)}
                return _known("option", text, flags | {"-h", "--help", "--"}, typing=typing)
            case "choice":
                return _known("value", text, {*place.choices}, typing=typing)
            case "event":
                if is_pattern(text) or set_name(text) is not None or not self.states:
                    return "event"
                return _known("event", text, self.states.keys(), typing=typing)
            case "filter" | "argument":
                return "value"
        return ""


def _known(kind: str, text: str, names: Container[str], *, typing: bool) -> str:
    if text in names:
        return kind
    return "" if typing or not text else "unknown"


class TypedLine(Lexer):
    """Colours the line of a prompt; ``found`` returns the spans of a text."""

    def __init__(self, found: Callable[[str], Iterator[Span]]) -> None:
        self._found = found

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """Return a function from the number of a line to its parts with their styles."""
        kinds = [""] * len(document.text)
        for begin, end, kind in self._found(document.text[:_MOST_CHARS]):
            kinds[begin:end] = [f"class:{kind}"] * (end - begin)
        lines = list[StyleAndTextTuples]()
        at = 0
        for line in document.lines:
            lines.append([*zip(kinds[at : at + len(line)], line, strict=True)])
            at += len(line) + 1
        return lambda number: lines[number] if number < len(lines) else []
