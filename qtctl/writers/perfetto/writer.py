"""A file for Perfetto, with the pairs of events that make slices."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import IO

from qtctl.analysis.pairs import check_key, learn_key
from qtctl.errors import QtctlError, UsageError
from qtctl.events.patterns import near
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item
from qtctl.records.notes import to_object
from qtctl.writers.perfetto.tracks import PairOf, PerfettoTrace

__all__ = ["PerfettoExport", "asked_pairs", "plain_pairs"]

_SUFFIXES = (
    ("submit", "complete"),
    ("start", "complete"),
    ("start", "done"),
    ("start", "end"),
    ("begin", "end"),
    ("enter", "exit"),
    ("entry", "exit"),
    ("enter", "return"),
    ("entry", "return"),
)


class PerfettoExport:
    """Writes one file of TrackEvent packets, and closes it."""

    def __init__(self, file: IO[bytes], table: EventTable, pairs: Sequence[PairOf]) -> None:
        self._trace = PerfettoTrace(table, pairs)
        self._file = file

    def take(self, item: Item) -> None:
        """Write the next batch, loss or note."""
        made = (
            self._trace.take(item) if isinstance(item, Batch) else self._trace.note(to_object(item))
        )
        self._file.write(made)

    def finish(self) -> None:
        """Write the rates."""
        self._file.write(self._trace.finish())
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def plain_pairs(table: EventTable, names: Collection[str]) -> list[PairOf]:
    """Return the pairs that names and declarations make plain (``X_submit`` and ``X_complete``)."""
    found = []
    for first, second in _SUFFIXES:
        for start in names:
            stem = start.removesuffix(f"_{first}")
            end = f"{stem}_{second}"
            if stem == start or end not in names:
                continue
            one, two = table.declarations.get(start), table.declarations.get(end)
            try:
                if one is not None and two is not None:
                    found.append(PairOf(start, end, learn_key([one], [two])))
            except UsageError:
                continue
    return found


def asked_pairs(words: Sequence[str], table: EventTable, names: Collection[str]) -> list[PairOf]:
    """Read pairs given as ``START:END`` or ``START:END:KEY,KEY``.

    Raises:
        UsageError: an event is not among ``names``, has no declaration, or the key is wrong.
    """
    found = []
    for word in words:
        start, _, rest = word.partition(":")
        end, _, keys = rest.partition(":")
        declared = []
        for name in (start, end):
            if name not in names or name not in table.declarations:
                raise UsageError(
                    f"{word!r} is no pair of events that are exported",
                    hint=", ".join(near(name, list(names))) or "--pair START:END",
                )
            declared.append(table.declarations[name])
        if keys:
            key = tuple(keys.split(","))
            check_key(key, declared[:1], declared[1:])
        else:
            try:
                key = learn_key(declared[:1], declared[1:])
            except QtctlError as error:
                raise UsageError(error.message, hint=f"--pair {start}:{end}:KEY") from error
        found.append(PairOf(start, end, key))
    return found
