"""What may be typed next on a command line, from the command table. Pure: words in, a slot out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qtctl.commands.registry import Arg, Command, CommandTable


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of the word that is typed: ``text`` so far, behind ``lead`` in the same word.

    ``kind`` is what may stand there: ``verb``, ``option``, ``choice``, ``event``, ``file``,
    ``target``, ``backend``, ``argument``; or empty, for what cannot be known. ``options`` are those
    that may stand there, ``choices`` the words of a choice.
    """

    kind: str
    text: str
    lead: str = ""
    choices: tuple[str, ...] = ()
    options: tuple[Arg, ...] = ()


def slot(words: Sequence[str], table: CommandTable, common: Sequence[Arg]) -> Slot:
    """Return where the last of ``words`` (those behind ``qtctl``) stands."""
    *before, text = words or ("",)
    row: Command | None = None
    options = tuple(common)
    waiting: Arg | None = None
    place, bare = 0, False
    for word in before:
        if waiting is not None:
            waiting = None
        elif bare or not word.startswith("-") or word == "-":
            if row is not None:
                place += 1
            elif (row := table.rows.get(word)) is None:
                return Slot("", text)
            else:
                options += tuple(one for one in row.arguments if _is_option(one))
        elif word == "--":
            bare = True
        elif "=" not in word:
            found = _option(options, word)
            waiting = found if found is not None and _takes_value(found) else None
    if waiting is not None:
        return _value(waiting, text)
    if text.startswith("-") and not bare:
        flag, equals, value = text.partition("=")
        found = _option(options, flag) if equals else None
        return (
            Slot("option", text, options=options)
            if found is None
            else _value(found, value, f"{flag}=")
        )
    if row is None:
        return Slot("verb", text)
    if bare and row.selects and text.startswith("-"):
        return Slot("event", text[1:], "-")
    positional = [one for one in row.arguments if not _is_option(one)]
    if place < len(positional):
        return _value(positional[place], text)
    return (
        _value(positional[-1], text) if positional and _repeats(positional[-1]) else Slot("", text)
    )


def _value(argument: Arg, text: str, lead: str = "") -> Slot:
    choices = tuple(map(str, argument.options.get("choices") or ()))
    kind = "choice" if choices else argument.completes
    if not kind and argument.options.get("type") is Path:
        kind = "file"
    return Slot(kind, text, lead, choices)


def _is_option(argument: Arg) -> bool:
    return argument.flags[0].startswith("-")


def _option(options: Iterable[Arg], flag: str) -> Arg | None:
    return next((one for one in options if flag in one.flags), None)


def _takes_value(argument: Arg) -> bool:
    return argument.options.get("action") in (None, "append")


def _repeats(argument: Arg) -> bool:
    return argument.options.get("nargs") in ("*", "+")


def split_line(line: str) -> list[str]:
    """Split a line that may end within a word or a quotation, as a shell would read it.

    The last word is the one that is being typed, empty where a new one begins.
    """
    words, word, begun, quote = list[str](), "", False, ""
    rest = iter(line)
    for char in rest:
        if quote:
            if char == quote:
                quote = ""
            elif char == "\\" and quote == '"':
                word += next(rest, "")
            else:
                word += char
        elif char in "'\"":
            quote, begun = char, True
        elif char == "\\":
            word, begun = word + next(rest, ""), True
        elif char.isspace():
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word, begun = word + char, True
    return [*words, word]
