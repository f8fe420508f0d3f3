"""Which arguments differ between records of the same events in two runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qtctl.analysis.fingerprints import hashed, is_address
from qtctl.analysis.unmatched import Segment
from qtctl.records.batch import Batch
from qtctl.records.columns import Column, Int64Array


@dataclass(slots=True)
class Changed:
    """An argument that differs in ``count`` records; ``at`` are the numbers of the first of them.

    ``values`` are those of the first. ``argument`` is ``raw`` for arguments that are not parsed.
    """

    event: str
    argument: str
    at: tuple[int, int]
    values: tuple[int | str | None, int | str | None]
    count: int = 0


class ChangedArguments(dict[tuple[str, str], Changed]):
    """Arguments that differ, by event and name."""

    def take(self, a: Segment, b: Segment, places: Int64Array) -> None:
        """Count the records at ``places`` of both segments, which have the same events there."""
        one, two = a.batch, b.batch
        rows, others = places + a.rows.start, places + b.rows.start
        for event in np.unique(one.event[rows]).tolist():
            mine = np.flatnonzero(one.event[rows] == event)
            sides = _columns(one, rows[mine]), _columns(two, others[mine])
            for name in dict.fromkeys([*sides[0], *sides[1]]):
                if is_address(one, event, name):
                    continue
                columns = sides[0].get(name), sides[1].get(name)
                if columns[0] is None or columns[1] is None:
                    different = np.arange(len(mine))
                else:
                    different = np.flatnonzero(hashed(columns[0]) != hashed(columns[1]))
                if not len(different):
                    continue
                key = one.names[event], name
                if key not in self:
                    at = int(different[0])
                    place = int(places[mine[at]])
                    values = _value(columns[0], at), _value(columns[1], at)
                    self[key] = Changed(*key, (a.number + place, b.number + place), values)
                self[key].count += len(different)


def _columns(batch: Batch, rows: Int64Array) -> dict[str, Column]:
    """Return the columns of rows of one event; the text as ``raw`` if any is not parsed."""
    chosen = batch.select(rows)
    columns = chosen.arguments(int(chosen.event[0]))
    return dict(columns.values) if columns.ok.all() else {"raw": chosen.raws(np.arange(len(rows)))}


def _value(column: Column | None, row: int) -> int | str | None:
    return None if column is None else column.take(np.array([row])).tolist()[0]
