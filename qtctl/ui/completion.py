"""What may come next on a line: from the line so far and what is known, to suggestions.

Made from the command table, so a new verb completes by itself. No terminal, and no guest is asked.
"""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qtctl.commands.parsing import COMMON
from qtctl.commands.registry import Arg, Command, CommandTable
from qtctl.errors import QtctlError
from qtctl.events.patterns import Rule, Selection, is_pattern
from qtctl.model import Declaration, EventState
from qtctl.text.style import counted

LIMIT = 100
"""So many events are suggested; more are found by typing on."""
_SPACES = " \t"
_RECORD = {"event": "name of the event", "tid": "id of the thread", "time_ns": "time in ns"}
_WORDS = ("and", "or", "not", "in")
_NAME = re.compile(r"[A-Za-z_]\w*\Z")


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to suggest. ``sets`` are asked for when needed: names and what they are for."""

    table: CommandTable
    states: Mapping[str, EventState]
    declarations: Mapping[str, Declaration]
    sets: Callable[[], Iterable[tuple[str, str]]] = lambda: ()


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Text to stand in place of the last ``replaces`` characters, and what it means."""

    text: str
    meta: str = ""
    replaces: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A line as far as it is typed: its whole words, and the one being typed with its quote."""

    words: tuple[str, ...]
    word: str
    quote: str


def read_line(text: str) -> Line:
    """Split what is typed as a shell does, with a quote that may still be open."""
    words: list[str] = []
    word, quote, begun, escaped = "", "", False, False
    for char in text:
        if escaped:
            word, escaped = word + char, False
        elif char == "\\" and quote != "'":
            escaped = begun = True
        elif quote:
            word, quote = (word, "") if char == quote else (word + char, quote)
        elif char in "'\"":
            quote, begun = char, True
        elif char in _SPACES:
            if begun:
                words.append(word)
            word, begun = "", False
        else:
            word, begun = word + char, True
    if words[:1] == ["qtctl"]:
        del words[0]
    return Line(tuple(words), word, quote)


def suggest(text: str, known: Known) -> Iterator[Suggestion]:
    """Yield what may stand at the end of ``text``, the best first."""
    line = read_line(text)
    if not line.words:
        yield from _verbs(line.word, known)
        return
    row = known.table.rows.get(line.words[0])
    if row is None:
        return
    options = {
        flag: one for one in (*row.arguments, *COMMON) for flag in one.flags if flag[:1] == "-"
    }
    flag, equals, value = line.word.partition("=")
    if equals and flag in options:
        yield from _values(options[flag], value, replace(line, word=value), row, known)
    elif (before := options.get(line.words[-1])) is not None and _takes_value(before):
        yield from _values(before, line.word, line, row, known)
    elif line.word.startswith("-") and "--" not in line.words:
        yield from _flags(line.word, options)
    else:
        positional = [one for one in row.arguments if one.flags[0][:1] != "-"]
        if positional:
            place = len(_positions(line.words[1:], options))
            one = positional[min(place, len(positional) - 1)]
            yield from _values(one, line.word, line, row, known)


def _takes_value(option: Arg) -> bool:
    return not str(option.options.get("action", "")).startswith("store_")


def _positions(words: Sequence[str], options: Mapping[str, Arg]) -> list[str]:
    """Return the words that are no options and no values of any."""
    found, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in options:
            skip = _takes_value(options[word])
        elif not word.startswith("--"):
            found.append(word)
    return found


def _verbs(word: str, known: Known) -> Iterator[Suggestion]:
    rows = known.table.rows
    for name in [name for name in rows if name.startswith(word)] or _nearest(word, rows):
        yield Suggestion(name, rows[name].summary, len(word))


def _flags(word: str, options: Mapping[str, Arg]) -> Iterator[Suggestion]:
    for flag, option in options.items():
        if flag.startswith(word):
            yield Suggestion(flag, str(option.options.get("help", "")), len(word))


def _values(one: Arg, word: str, line: Line, row: Command, known: Known) -> Iterator[Suggestion]:
    """Yield what an argument may be."""
    if "choices" in one.options:
        for choice in map(str, one.options["choices"]):
            if choice.startswith(word):
                yield Suggestion(choice, "", len(word))
    match one.completes:
        case "event":
            yield from _events(word, line, known)
        case "filter" | "argument":
            yield from _arguments(word, line, one.completes == "filter", row, known)
        case "verb":
            yield from _verbs(word, known)
        case "file":
            yield from _files(word)


def _events(word: str, line: Line, known: Known) -> Iterator[Suggestion]:
    """Yield sets, patterns and events, also behind the ``-`` that leaves out."""
    if "--" in line.words:
        word = word.removeprefix("-")
    if word.startswith("@"):
        for name, about in known.sets():
            if name.startswith(word[1:]):
                yield Suggestion(f"@{name}", about, len(word))
        return
    if is_pattern(word):
        count = len(Selection.of(word).pick(known.states))
        yield Suggestion(word, f"{counted(count, 'event')}", len(word))
        return
    if word:
        yield from _patterns(word, known)
    for name in _nearest(word, known.states):
        yield Suggestion(name, _about(name, known), len(word))


def _patterns(word: str, known: Known) -> Iterator[Suggestion]:
    """Yield ``PREFIX_*`` for the next part of the names that begin with ``word``."""
    size = len(word)
    heads = Counter(
        name[: name.index("_", size) + 1]
        for name in known.states
        if name.startswith(word) and "_" in name[size:]
    )
    for head, count in sorted(heads.items()):
        if count > 1:
            yield Suggestion(f"{head}*", counted(count, "event"), size)


def _about(name: str, known: Known) -> str:
    """Return an event's state, where it matters, and its arguments."""
    state = known.states.get(name)
    parts = {EventState.ENABLED: ["on"], EventState.UNAVAILABLE: ["unavailable"]}.get(
        state or EventState.DISABLED, []
    )
    declared = known.declarations.get(name)
    if declared is not None:
        parts.append(", ".join(argument.name for argument in declared.arguments))
    return "  ".join(filter(None, parts))


def _nearest(word: str, names: Iterable[str]) -> list[str]:
    """Return the names that hold the letters of ``word`` in order, the best matches first.

    Best is ``word`` itself: at the begin, at the begin of a part, anywhere. Then its pieces at the
    begins of parts (``blkread`` in ``virtio_blk_handle_read``), then its letters anywhere.
    """
    if not word:
        return sorted(names)[:LIMIT]
    inside = word.lower()
    letters = list(map(re.escape, inside))
    parts = re.compile("(?:^|_)" + "(?:.*?_)?".join(letters))
    loose = re.compile(".*?".join(letters))

    def ranked() -> Iterator[tuple[int, int, int, str]]:
        for name in names:
            lowered = name.lower()
            place = lowered.find(inside)
            if place >= 0:
                rank = 0 if place == 0 else 1 if lowered[place - 1] == "_" else 2
                yield rank, place, len(name), name
            elif (found := parts.search(lowered)) is not None:
                yield 3, found.end() - found.start(), len(name), name
            elif (found := loose.search(lowered)) is not None:
                yield 4, found.end() - found.start(), len(name), name

    return [name for *_, name in heapq.nsmallest(LIMIT, ranked())]


def _arguments(
    word: str, line: Line, expression: bool, row: Command, known: Known
) -> Iterator[Suggestion]:
    """Yield names of arguments of the events that the line selects, and of the record's own."""
    found = _NAME.search(word)
    begun = found[0] if found else ""
    if word and not found and not word.endswith(tuple(" (=<>!&|+-*/%~^,")):
        return
    counts: Counter[str] = Counter()
    types: dict[str, str] = {}
    for name in _selected(line, row, known):
        for argument in known.declarations[name].arguments:
            counts[argument.name] += 1
            types.setdefault(argument.name, argument.ctype)
    for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        if name.startswith(begun):
            yield Suggestion(name, f"{types[name]}, in {counted(count, 'event')}", len(begun))
    for name, about in _RECORD.items():
        if name.startswith(begun):
            yield Suggestion(name, about, len(begun))
    for name in _WORDS if expression and begun else ():
        if name.startswith(begun):
            yield Suggestion(name, "", len(begun))


def _selected(line: Line, row: Command, known: Known) -> list[str]:
    """Return the declared events that the patterns of a line take in; without any those on."""
    options = {flag: one for one in (*row.arguments, *COMMON) for flag in one.flags}
    rules: list[Rule] = [(True, word) for word in _positions(line.words[1:], options)]
    try:
        picked = Selection(tuple(rules)).pick(known.states)
    except QtctlError:
        picked = []
    if not rules:
        picked = [name for name, state in known.states.items() if state == EventState.ENABLED]
    return [name for name in picked if name in known.declarations]


def _files(word: str) -> Iterator[Suggestion]:
    folder, _, begun = word.rpartition("/")
    where = Path(os.path.expanduser(f"{folder}/" if "/" in word else "."))  # noqa: PTH111
    try:
        entries = sorted(os.scandir(where), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries[:1000]:
        if entry.name.startswith(begun) and (begun or not entry.name.startswith(".")):
            text = entry.name + "/" * entry.is_dir()
            yield Suggestion(re.sub(r"([\s'\"\\])", r"\\\1", text), "", len(begun))
