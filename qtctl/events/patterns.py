"""Event patterns as QEMU matches them, rules of them, and names that are similar.

QEMU treats a name as a pattern only if it contains ``*`` (``trace/control.c``), and then matches
with glib's ``g_pattern_match``: ``*`` any run, ``?`` one character, all else literal, case matters.
Checked on QEMU 7.2, 10.0, 10.2 and 11.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from os.path import commonprefix
from typing import TypeAlias

Rule: TypeAlias = tuple[bool, str]
"""(include, pattern): ``@NAME`` as a pattern matches the events that this set selects."""


def set_name(text: str) -> str | None:
    """Return the name of the event set that ``text`` stands for, None where it is a pattern."""
    return text[1:] if text.startswith("@") else None


def is_pattern(text: str) -> bool:
    """Return whether QEMU treats ``text`` as a pattern rather than as one event's name."""
    return "*" in text


def matcher(text: str) -> Callable[[str], bool]:
    """Return a function that matches names against a name or pattern as QEMU does."""
    if not is_pattern(text):
        return text.__eq__
    found = _compiled(text).fullmatch
    return lambda name: found(name) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*+|\?)", pattern)
    translated = (
        ".*" if piece.startswith("*") else "." if piece == "?" else re.escape(piece)
        for piece in pieces
        if piece
    )
    return re.compile("".join(translated), re.DOTALL)


def words_of(rules: Iterable[Rule]) -> list[str]:
    """Return rules in the syntax of an events file: a leading ``-`` excludes."""
    return [pattern if include else f"-{pattern}" for include, pattern in rules]


def sets_in(rules: Iterable[Rule]) -> set[str]:
    """Return the names of the event sets that rules refer to."""
    return {name for _, pattern in rules if (name := set_name(pattern)) is not None}


def near(text: str, names: Sequence[str], count: int = 3) -> list[str]:
    """Return up to ``count`` names that contain ``text``, or else similar ones."""
    core = text.strip("*?")
    containing = [name for name in names if core and core.lower() in name.lower()]
    if containing:
        return sorted(containing, key=len)[:count]
    import difflib

    return difflib.get_close_matches(core, names, n=count, cutoff=0.6)


def similar(name: str, known: Collection[str], others: Iterable[str]) -> str:
    """Return names that are similar to ``name``, separated by commas, or few ``known`` ones."""
    import difflib

    found = difflib.get_close_matches(name, sorted({*known, *others}), n=4, cutoff=0.5)
    return ", ".join(found or (sorted(known) if len(known) <= 12 else ()))


def cover(targets: Iterable[str], harmless: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return few patterns that match every target and, of ``names``, only targets and harmless.

    Switching 5,000 events one by one takes seconds, and disabling ``*`` to enable a few again would
    interrupt another user's stream. So the result has plain names, and ``PREFIX*`` where every
    event with that prefix may be switched. ``harmless`` are events that already have the wanted
    state, or that are unavailable.
    """
    wanted = set(targets)
    allowed = wanted | set(harmless)
    ordered = sorted(set(names) | wanted)
    patterns: list[str] = []

    def descend(low: int, high: int, depth: int) -> None:
        group = ordered[low:high]
        hits = [name for name in group if name in wanted]
        if len(hits) <= 1:
            patterns.extend(hits)
        elif allowed.issuperset(group):
            patterns.append(f"{commonprefix((group[0], group[-1]))}*")  # noqa: RUF071
        else:
            start = low
            for index in range(low + 1, high + 1):
                if index == high or ordered[index][: depth + 1] != ordered[start][: depth + 1]:
                    descend(start, index, depth + 1)
                    start = index

    descend(0, len(ordered), 0)
    return patterns
