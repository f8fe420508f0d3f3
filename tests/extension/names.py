"""The export format names: the name of each record on a line."""

from __future__ import annotations

from collections.abc import Iterator

from qtctl.records.batch import Batch
from qtctl.records.counts import Counts
from qtctl.records.items import Item
from qtctl.writers.base import Source


def open_lines(source: Source) -> NamesExport:
    """Return a formatter of names."""
    return NamesExport()


class NamesExport:
    """Formats records as their names; skips everything else."""

    def lines(self, item: Item, records: int) -> Iterator[str]:
        """Yield the names of the first ``records`` of a batch."""
        if isinstance(item, Batch):
            yield from (record.name for record in item.first(records).records())

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield how many there were."""
        yield f"{counts.shown} records"
