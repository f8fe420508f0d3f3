"""Writing a trace for Perfetto, with slices from pairs of events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import IO

from qtctl.analysis.pairs import check_key, learn_key
from qtctl.errors import QtctlError, UsageError
from qtctl.events.patterns import near
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item
from qtctl.records.notes import to_object
from qtctl.writers.base import Pairing, Source
from qtctl.writers.perfetto.tracks import PairOf, PerfettoTrace

__all__ = ["PerfettoExport", "open_file"]

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


def open_file(create: Callable[[], IO[bytes]], source: Source) -> PerfettoExport:
    """Return a writer of a Perfetto trace; obvious pairs are slices, and so are those given.

    Raises:
        UsageError: a given pair is not among the exported events, or its key is wrong.
    """
    names = frozenset(source.picked)
    asked = _asked_pairs(source.pairs, source.table, names)
    obvious = _obvious_pairs(source.table, names)
    every = {(one.start, one.end): one for one in (*obvious, *asked)}
    return PerfettoExport(create(), source.table, list(every.values()))


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


def _obvious_pairs(table: EventTable, names: Collection[str]) -> list[PairOf]:
    """Return the pairs that names and declarations make obvious (``X_submit``, ``X_complete``)."""
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


def _asked_pairs(
    pairs: Sequence[Pairing], table: EventTable, names: Collection[str]
) -> list[PairOf]:
    """Check the given pairs, and find the keys of those without.

    Raises:
        UsageError: an event is not among ``names``, has no declaration, or the key is wrong.
    """
    found = []
    for start, end, key in pairs:
        declared = []
        for name in (start, end):
            if name not in names or name not in table.declarations:
                raise UsageError(
                    f"'{start},{end}' is no pair of events that are exported",
                    hint=", ".join(near(name, list(names))) or "--pair START,END",
                )
            declared.append(table.declarations[name])
        if key:
            check_key(key, declared[:1], declared[1:])
        else:
            try:
                key = learn_key(declared[:1], declared[1:])
            except QtctlError as error:
                raise UsageError(error.message, hint=f"--pair {start},{end},KEY") from error
        found.append(PairOf(start, end, key))
    return found
