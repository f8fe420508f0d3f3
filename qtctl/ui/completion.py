"""Suggestions for the end of a line, from the line so far and a vocabulary. Pure.

They come from the command table, so that a new verb is completed without further work.
"""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qtctl.commands.argument_names import argument_names, selected
from qtctl.commands.parsing import SHARED
from qtctl.commands.registry import CommandTable
from qtctl.commands.slots import Slot, read_line, slot
from qtctl.events.patterns import is_pattern
from qtctl.events.selection import Selection
from qtctl.model import Declaration, EventState
from qtctl.text.style import counted

LIMIT = 100
"""At most so many events are suggested; typing on finds more."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The verbs, events and declarations to suggest.

    ``sets`` and ``targets`` yield names and descriptions; ``aliases`` are the user's.
    """

    table: CommandTable
    states: Mapping[str, EventState]
    declarations: Mapping[str, Declaration]
    sets: Callable[[], Iterable[tuple[str, str]]] = lambda: ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    targets: Callable[[], Iterable[tuple[str, str]]] = lambda: ()


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Text that replaces the last ``replaces`` characters, and its description."""

    text: str
    meta: str = ""
    replaces: int = 0


def suggest(text: str, known: Vocabulary) -> Iterator[Suggestion]:
    """Yield suggestions for the end of ``text``, the best first."""
    words, _ = read_line(text)
    if len(words) > 1 and words[0] == "qtctl":
        del words[0]
    place = slot(words, known.table, SHARED, known.aliases)
    word = place.text
    match place.kind:
        case "verb":
            yield from _verbs(word, known)
        case "option":
            flags = ((flag, one) for one in place.options for flag in one.flags)
            yield from _begun(word, ((flag, one.options.get("help", "")) for flag, one in flags))
        case "choice":
            yield from _begun(word, ((choice, "") for choice in place.choices))
        case "event":
            yield from _events(word, known)
        case "filter" | "argument":
            yield from _arguments(place, known)
        case "target":
            yield from _begun(word, known.targets())
        case "file":
            yield from _files(word)


def _verbs(word: str, known: Vocabulary) -> Iterator[Suggestion]:
    verbs = {**known.table.summaries, **known.aliases}
    for name in [name for name in verbs if name.startswith(word)] or _nearest(word, verbs):
        yield Suggestion(name, verbs[name], len(word))


def _begun(word: str, texts: Iterable[tuple[str, str]]) -> Iterator[Suggestion]:
    """Yield the texts that begin with ``word``, with their descriptions."""
    for text, about in texts:
        if text.startswith(word):
            yield Suggestion(text, about, len(word))


def _events(word: str, known: Vocabulary) -> Iterator[Suggestion]:
    """Yield sets, patterns and events."""
    if word.startswith("@"):
        yield from _begun(word, ((f"@{name}", about) for name, about in known.sets()))
        return
    if is_pattern(word):
        count = len(Selection.of(word).pick(known.states))
        yield Suggestion(word, counted(count, "event"), len(word))
        return
    if word:
        yield from _patterns(word, known)
    for name in _nearest(word, known.states):
        yield Suggestion(name, _about(name, known), len(word))


def _patterns(word: str, known: Vocabulary) -> Iterator[Suggestion]:
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


def _about(name: str, known: Vocabulary) -> str:
    """Return an event's state, unless it is off, and its arguments."""
    words = {EventState.ENABLED: "on", EventState.UNAVAILABLE: "unavailable"}
    state = words.get(known.states.get(name, EventState.DISABLED), "")
    declared = known.declarations.get(name)
    arguments = ", ".join(one.name for one in declared.arguments) if declared else ""
    return "  ".join(filter(None, (state, arguments)))


def _nearest(word: str, names: Iterable[str]) -> list[str]:
    """Return the names that contain the letters of ``word`` in order, the best matches first.

    Best is ``word`` as a whole: at the start, at the start of a part, anywhere. Then its pieces at
    the starts of parts (``blkread`` in ``virtio_blk_handle_read``), then its letters anywhere.
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


def matched(word: str, name: str) -> list[int]:
    """Return the places of the letters of ``word`` in a name that it finds; none if it does not."""
    place = name.lower().find(word.lower())
    if place >= 0:
        return list(range(place, place + len(word)))
    letters = [f"({re.escape(letter)})" for letter in word.lower()]
    for between in ("(?:.*?_)?", ".*?"):
        begin = "(?:^|_)" if "_" in between else ""
        if found := re.search(begin + between.join(letters), name.lower()):
            return [found.start(number + 1) for number in range(len(letters))]
    return []


def _arguments(place: Slot, known: Vocabulary) -> Iterator[Suggestion]:
    """Yield arguments of the events that the line selects, or else of those that are on."""
    names = selected(place.before, known.states)
    if not place.before:
        names = [name for name, state in known.states.items() if state == EventState.ENABLED]
    for text, about, begun in argument_names(place, names, known.declarations):
        yield Suggestion(text, about, begun)


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
