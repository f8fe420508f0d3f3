"""Conditions on the items of a stream: a QMP event, trace events, or an expression over them.

A word in capitals (``GUEST_PANICKED``, ``STOP``) is a QMP event, as ``qapi`` names them; names,
patterns and ``@SETS`` are trace events; anything else is an expression as ``--where`` takes it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtctl.errors import UsageError
from qtctl.events.selection import Selection
from qtctl.model import Declaration, GuestEvent
from qtctl.monitor.news import CHATTER
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.filters import Filter
from qtctl.records.items import Item

_QMP_EVENT = re.compile(r"[A-Z][A-Z0-9_]+")
_ALL = Selection(())
_PATTERN = re.compile(r"@?[\w*?.-]+")


@dataclass(frozen=True, slots=True)
class When:
    """A parsed condition: ``guest_event`` is the name of a QMP event, or empty.

    ``selection`` are the trace events it names, empty if it names none; ``where`` filters records.
    """

    text: str
    guest_event: str = ""
    selection: Selection = _ALL
    where: str | None = None

    @classmethod
    def parse(cls, words: Sequence[str], where: str | None = None) -> When:
        """Parse a condition; ``where`` may be given with names and patterns of events.

        Raises:
            UsageError: there are no words, or ``where`` comes with an expression or QMP event.
        """
        if not words:
            raise UsageError("a condition is needed", hint="qtctl on --help")
        text = " ".join(words)
        if all(_PATTERN.fullmatch(word) for word in words) and not _QMP_EVENT.fullmatch(text):
            shown = text if where is None else f"{text} where {where}"
            return cls(shown, selection=Selection.of(*words), where=where)
        if where is not None:
            raise UsageError(
                f"--where goes with names of events, and {text!r} is none",
                hint="put it into the expression, with 'and'",
            )
        if _QMP_EVENT.fullmatch(text):
            if text in CHATTER:
                raise UsageError(
                    f"{text} comes all the time while nothing is wrong, and is not followed"
                )
            return cls(text, guest_event=text)
        return cls(text, selection=Selection.of(*_named(text)), where=text)


def _named(expression: str) -> list[str]:
    """Return the events that an expression names: ``event == "x"``, ``event in ("x", "y")``."""
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # reported with its position when it is compiled
    found: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(
                ast.Name("event"), [ast.Eq()], [ast.Constant(str(name))]
            ) | ast.Compare(ast.Constant(str(name)), [ast.Eq()], [ast.Name("event")]):
                found.append(name)
            case ast.Compare(ast.Name("event"), [ast.In()], [ast.Tuple(items) | ast.List(items)]):
                constants = [item.value for item in items if isinstance(item, ast.Constant)]
                found += [name for name in constants if isinstance(name, str)]
    return found


class Condition:
    """A condition, compiled for the events of a stream.

    ``names`` are the stream's events; of these, the condition looks at ``when``'s selection, or at
    all if that is empty.

    Raises:
        UsageError: an expression is wrong, or names no argument of the events.
    """

    def __init__(
        self, when: When, names: Iterable[str], declared: Mapping[str, Declaration]
    ) -> None:
        self.text = when.text
        self._guest_event = when.guest_event
        chosen = when.selection.pick(list(names)) if when.selection else list(names)
        if not chosen and not self._guest_event:
            raise UsageError(
                f"{when.text!r} matches events that are not followed here",
                hint="a pattern that selects them",
            )
        self._chosen = frozenset(chosen)
        self._filter: Filter | None = None
        if when.where is not None:
            self._filter = Filter.compile(
                when.where, [declared[n] for n in chosen if n in declared]
            )
        self._table: EventTable | None = None
        self._wanted: NDArray[np.bool_] = np.zeros(1, np.bool_)

    def matches(self, item: Item) -> tuple[int, Batch | GuestEvent | None]:
        """Return how many records of an item match, and the first match (a batch of one record)."""
        if self._guest_event:
            if isinstance(item, GuestEvent) and item.name == self._guest_event:
                return 1, item
            return 0, None
        if not isinstance(item, Batch):
            return 0, None
        rows = np.flatnonzero(self._mask(item))
        return len(rows), item.select(rows[:1]) if len(rows) else None

    def _mask(self, batch: Batch) -> NDArray[np.bool_]:
        if batch.table is not self._table:
            self._table = batch.table
            self._wanted = np.array([*(n in self._chosen for n in batch.names), False], np.bool_)
        mask = self._wanted[batch.event]
        return mask if self._filter is None or not mask.any() else mask & self._filter.mask(batch)
