"""Write a Perfetto file, and choose the pairs of events that are exported as slices."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import IO

from qtctl.analysis.pairs import check_key, learn_key
from qtctl.errors import QtctlError, UsageError
from qtctl.events.patterns import near
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item
from qtctl.records.schema import to_object
from qtctl.writers.base import EventPair, Source
from qtctl.writers.perfetto.tracks import PerfettoTrace, SlicePair

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
    """Return a writer of a Perfetto trace; pairs by name and those of ``--pair`` become slices.

    Raises:
        UsageError: a pair of ``--pair`` is not among the exported events, or its key is wrong.
    """
    names = frozenset(source.picked)
    requested = _requested_pairs(source.pairs, source.table, names)
    found = [*_pairs_by_name(source.table, names), *requested]
    pairs = {(one.start, one.end): one for one in found}
    return PerfettoExport(create(), source.table, list(pairs.values()))


class PerfettoExport:
    """Writes TrackEvent packets to a file, and closes it."""

    def __init__(self, file: IO[bytes], table: EventTable, pairs: Sequence[SlicePair]) -> None:
        self._trace = PerfettoTrace(table, pairs)
        self._file = file

    def write(self, item: Item) -> None:
        """Write the next batch, loss or note."""
        if isinstance(item, Batch):
            self._file.write(self._trace.encode(item))
        else:
            self._file.write(self._trace.encode_note(to_object(item)))

    def finish(self) -> None:
        """Write the rates."""
        self._file.write(self._trace.finish())
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _pairs_by_name(table: EventTable, names: frozenset[str]) -> list[SlicePair]:
    """Return pairs of names like ``X_submit`` and ``X_complete`` whose arguments give a key."""
    declared = table.declarations
    known = names & declared.keys()
    found = []
    for first, second in _SUFFIXES:
        for start in known:
            end = start.removesuffix(first) + second
            if start.endswith(f"_{first}") and end in known:
                with contextlib.suppress(UsageError):
                    key = learn_key([declared[start]], [declared[end]])
                    found.append(SlicePair(start, end, key))
    return found


def _requested_pairs(
    pairs: Sequence[EventPair], table: EventTable, names: frozenset[str]
) -> list[SlicePair]:
    """Check the pairs of ``--pair``, and infer the keys that are not given.

    Raises:
        UsageError: an event is not among ``names``, has no declaration, or the key is wrong.
    """
    found = []
    for start, end, key in pairs:
        declared = []
        for name in (start, end):
            if name not in names or name not in table.declarations:
                raise UsageError(
                    f"'{start},{end}' is not a pair of exported events",
                    hint=", ".join(near(name, list(names))) or "--pair START,END",
                )
            declared.append(table.declarations[name])
        if key is not None:
            check_key(key, declared[:1], declared[1:])
        else:
            try:
                key = learn_key(declared[:1], declared[1:])
            except QtctlError as error:
                raise UsageError(error.message, hint=f"--pair {start},{end},KEY") from error
        found.append(SlicePair(start, end, key))
    return found
