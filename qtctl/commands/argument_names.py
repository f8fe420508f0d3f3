"""Completing names of arguments, for the events on the line that is being typed. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from qtctl.commands.slots import Slot
from qtctl.errors import QtctlError
from qtctl.events.selection import Selection
from qtctl.model import Declaration
from qtctl.text.style import counted

_RECORD = {
    "event": "name of the event",
    "tid": "id of the thread",
    "time_ns": "time in ns",
    "pid": "id of the guest's process",
    "guest": "name of the guest, in a file",
    "run": "number of the guest's run, in a file",
    "file": "name of the file, of several",
}
_GROUPS = ("event", "tid", "guest", "file")
_WORDS = ("and", "or", "not", "in")
_NAME = re.compile(r"[A-Za-z_]\w*\Z")


def argument_names(
    place: Slot, names: Sequence[str], declared: Mapping[str, Declaration]
) -> Iterator[tuple[str, str, int]]:
    """Yield arguments of the events ``names``, the most frequent first, and the record's names.

    With each come its description, and how many characters at the end of the line it replaces.
    """
    word = place.text
    found = _NAME.search(word)
    begun = found[0] if found else ""
    if word and not found and not word.endswith(tuple(" (=<>!&|+-*/%~^,")):
        return
    counts: Counter[str] = Counter()
    types: dict[str, str] = {}
    for name in names:
        if name in declared:
            for argument in declared[name].arguments:
                counts[argument.name] += 1
                types.setdefault(argument.name, argument.ctype)
    in_filter = place.kind == "filter"
    offered = [
        *(
            (name, f"{types[name]}, in {counted(count, 'event')}")
            for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        ),
        *((name, about) for name, about in _RECORD.items() if in_filter or name in _GROUPS),
        *((word, "") for word in (_WORDS if in_filter and begun else ())),
    ]
    yield from ((n, about, len(begun)) for n, about in offered if n.startswith(begun))


def selected(patterns: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the events that the words of a line select; none if they are no valid selection."""
    try:
        return Selection.of(*patterns).pick(names)
    except QtctlError:
        return []
