"""Finding what kind of word is being typed, by the command table. Pure: words in, a slot out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from qtctl.commands.defaults import alias_words
from qtctl.commands.registry import Arg, Command, CommandTable


class Slot(NamedTuple):
    """The word that is being typed: ``text`` so far, after ``lead`` in the same word.

    ``kind`` is the kind of word: ``verb``, ``option``, ``choice``, ``event``, ``file``,
    ``target``, ``backend``, ``argument``, ``filter``; or empty if unknown. ``options`` are the
    options possible there, ``choices`` the words of a choice, ``before`` the positional words of
    the verb so far.
    """

    kind: str
    text: str
    lead: str = ""
    choices: tuple[str, ...] = ()
    options: tuple[Arg, ...] = ()
    before: tuple[str, ...] = ()


class Word(NamedTuple):
    """A word of a line as a shell reads it, and its place in the line."""

    text: str
    begin: int
    end: int


def scan_line(line: str) -> tuple[list[Word], int | None]:
    """Split a line that may end within a word or a quotation, as a shell would read it.

    The last word is the one that is being typed; it is empty where a new one begins. The number is
    that of the word's characters before an open quotation; None: none is open.
    """
    words, word, quote, opened, begin = list[Word](), "", "", 0, -1
    escaped = False
    for place, char in enumerate(line):
        if begin < 0 and not char.isspace():
            begin = place
        if escaped:
            word, escaped = word + char, False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            word, quote = (word, "") if char == quote else (word + char, quote)
        elif char in "'\"":
            quote, opened = char, len(word)
        elif char.isspace():
            if begin >= 0:
                words.append(Word(word, begin, place))
            word, begin = "", -1
        else:
            word += char
    words.append(Word(word, begin if begin >= 0 else len(line), len(line)))
    return words, opened if quote else None


def read_line(line: str) -> tuple[list[str], int | None]:
    """Split a line as :func:`scan_line` does, into texts alone."""
    words, opened = scan_line(line)
    return [word.text for word in words], opened


@lru_cache(8)
def divided(text: str) -> tuple[str, ...]:
    """Divide what was typed into lines; a quotation may hold ends of lines, a comment ends."""
    lines, begun = list[str](), list[str]()
    for line in text.split("\n"):
        begun.append(line)
        whole = "\n".join(begun)
        if is_comment(whole) or read_line(whole)[1] is None:
            lines.append(whole)
            begun = []
    return (*lines, "\n".join(begun)) if begun else tuple(lines)


def is_comment(line: str) -> bool:
    """Return whether a line is a comment."""
    return line.lstrip().startswith("#")


def slot(
    words: Sequence[str],
    table: CommandTable,
    common: Sequence[Arg],
    aliases: Mapping[str, str] = MappingProxyType({}),
) -> Slot:
    """Return the slot of the last of ``words`` (those after ``qtctl``).

    ``aliases`` has lines that begin with a verb, by the word that stands for them.
    """
    *earlier, text = words or ("",)
    row: Command | None = None
    options = tuple(common)
    waiting: Arg | None = None
    before, bare = list[str](), False
    for place, word in enumerate(earlier):
        if waiting is not None:
            waiting = None
        elif bare or not word.startswith("-") or word == "-":
            if row is not None:
                before.append(word)
            elif word in aliases:
                return slot([*alias_words(aliases[word]), *words[place + 1 :]], table, common)
            elif (row := table.rows.get(word)) is None:
                return Slot("", text)
            else:
                options = (*(one for one in row.arguments if one.is_option), *options)
        elif word == "--":
            bare = True
        elif (found := _option(options, word)) is not None and found.takes_value:
            waiting = found
    flag, equals, value = text.partition("=")
    found = _option(options, flag) if equals and not bare else None
    if waiting is not None:
        last = _value(waiting, text)
    elif found is not None:
        last = _value(found, value, f"{flag}=")
    elif text.startswith("-") and not bare:
        last = Slot("option", text, options=options)
    elif row is None:
        last = Slot("verb", text)
    elif bare and row.selects and text.startswith("-"):
        last = Slot("event", text[1:], "-")
    else:
        last = _positional(row, len(before), text)
    return last._replace(before=tuple(before))


def _positional(row: Command, place: int, text: str) -> Slot:
    positional = [one for one in row.arguments if not one.is_option]
    repeats = bool(positional) and positional[-1].options.get("nargs") in ("*", "+")
    if place >= len(positional) and not repeats:
        return Slot("", text)
    argument = positional[min(place, len(positional) - 1)]
    if place and text.startswith(("/", ".", "~")) and positional[0].completes == "file":
        argument = positional[0]  # one more FILE, before the patterns
    return _value(argument, text)


def _value(argument: Arg, text: str, lead: str = "") -> Slot:
    choices = tuple(map(str, argument.options.get("choices") or ()))
    kind = "choice" if choices else argument.completes
    if not kind and argument.options.get("type") is Path:
        kind = "file"
    return Slot(kind, text, lead, choices)


def _option(options: Iterable[Arg], flag: str) -> Arg | None:
    return next((one for one in options if flag in (*one.flags, *one.hidden)), None)
