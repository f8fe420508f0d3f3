"""Data sets of Parquet files, as ``qtctl record --parquet`` writes them, as tables of a query."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset
from pyarrow.dataset import field

from qtctl.errors import QtctlError, UsageError
from qtctl.events.selection import Selection
from qtctl.leases.leasing import nothing_matched
from qtctl.records.counts import Counts
from qtctl.writers.dataset import DataSetPlace

_OWN = ("lines", "notes")
"""Values of the key ``event`` that are no events."""


def data_set_at(path: Path) -> DataSetPlace | None:
    """Return the place of a data set; None if there is none.

    Raises:
        QtctlError: an object store cannot be read.
    """
    place = DataSetPlace.parse(str(path))
    if place.whole or path.is_dir():
        return place if place.holds_data_set() else None
    return None


class SetTable(pyarrow.dataset.Dataset):  # type: ignore[misc]
    """The rows of a data set for which a condition holds; DuckDB calls ``scanner``."""

    def __init__(self, source: Any, condition: Any) -> None:
        self._source = source
        self._condition = condition

    @property
    def schema(self) -> Any:
        """Columns of the table."""
        return self._source.schema

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **_: Any) -> Any:
        """Return a scan, which opens only the files whose folders a filter allows."""
        condition = self._condition if filter is None else self._condition & filter
        return self._source.scanner(columns=columns, filter=condition)


class QueriedSet:
    """A data set and its tables: one an event, ``events``, ``lines`` and ``notes``.

    They have the same columns, ``host`` and ``guest`` among them; ``args`` is JSON.
    """

    def __init__(self, place: DataSetPlace) -> None:
        self.place = place
        self.path = Path(place.text)
        self.notes = [f"{place.text}: a data set"]
        self.in_hex: dict[str, frozenset[str]] = {}
        self.taken = self.size = 0
        self.whole = None
        self.stopped = False
        self.error: QtctlError | None = None
        self._source = place.dataset()
        keys = pyarrow.dataset.get_partition_keys
        found = (keys(one.partition_expression)["event"] for one in self._source.get_fragments())
        self.names = sorted({*found} - {*_OWN})

    def general(self, name: str) -> SetTable:
        """Return the rows of all events, or those of ``lines`` or ``notes``."""
        own = field("event").isin(_OWN)
        return SetTable(self._source, ~own if name == "events" else field("event") == name)

    def event(self, name: str) -> SetTable:
        """Return the rows of an event."""
        return SetTable(self._source, field("event") == name)

    def counts(self) -> Counts:
        """Return the losses that the notes tell of."""
        found = self.general("notes").scanner(columns=["args"]).to_table()
        losses = [
            one for text in found["args"].to_pylist() if (one := json.loads(text))["type"] == "loss"
        ]
        known = [one["count"] for one in losses if one["count"] is not None]
        return Counts(lost=sum(known), unknown_losses=len(losses) - len(known))


class SetTally:
    """Records of data sets, counted by ``by``: an event, guest, host, tid or argument."""

    def __init__(self, sets: Sequence[QueriedSet], chosen: Selection, by: str) -> None:
        names = sorted({name for one in sets for name in one.names})
        if not by.isidentifier():
            raise UsageError(f"{by!r} is no name of an argument", hint="--by guest")
        self.by = by
        self._sets = sets
        self._picked = chosen.pick(names) if chosen else names
        if chosen and not self._picked:
            where = ", ".join(one.place.text for one in sets)
            raise nothing_matched(chosen, names, where)

    def found(self) -> list[tuple[int | str | None, int]]:
        """Return values and their records, the most frequent first."""
        own = self.by if self.by in ("event", "guest", "host", "tid", "run", "thread") else ""
        key = f'"{own}"' if own else "args->$key"
        sums: dict[int | str | None, int] = {}
        for one in self._sets:
            with duckdb.connect() as link:
                condition = field("event").isin(self._picked)
                link.register("picked", SetTable(one._source, condition))
                sql = f"SELECT {key}, count(*) FROM picked GROUP BY 1"
                given = {} if own else {"key": f'$."{self.by}"'}
                for value, count in link.execute(sql, given).fetchall():
                    value = json.loads(value) if not own and value is not None else value
                    sums[value] = sums.get(value, 0) + count
        return sorted(sums.items(), key=lambda pair: -pair[1])
