"""Counting records by event or by argument, and the distribution of an argument's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qtctl.analysis.distribution import Distribution
from qtctl.analysis.groups import OWN, Groups
from qtctl.errors import UsageError
from qtctl.events.patterns import similar
from qtctl.model import Declaration, Kind
from qtctl.records.batch import Batch
from qtctl.records.columns import StringColumn
from qtctl.records.items import Item

_GROUPS = 1 << 16
_PRECISION = 14


def check_argument(
    name: str, picked: Sequence[str], declared: Mapping[str, Declaration], *, number: bool
) -> None:
    """Check that some event has the argument, and that it is a number where one is needed.

    Raises:
        UsageError: no picked event has it, or it is a text.
    """
    kinds = {
        one.name: one.kind
        for event in picked
        if event in declared
        for one in declared[event].arguments
    }
    if name not in kinds:
        hint = similar(name, kinds, OWN)
        raise UsageError(f"no matched event has an argument {name!r}", hint=hint)
    if number and kinds[name] is Kind.STRING:
        raise UsageError(f"{name} is a text, and has no histogram", hint=f"--by {name}")


class Tally:
    """Counts records by event, thread, guest or the value of an argument.

    ``groups`` are the values, ``counts`` the records of each. Beyond 65,536 values the rest is
    counted together. A record without a value has the value None. Lines of text are not counted.
    """

    def __init__(self, by: str) -> None:
        self.by = by
        self.renew()

    def renew(self) -> None:
        """Reset the counts."""
        self.groups = Groups(_GROUPS)
        self.counts = np.zeros(0, np.int64)

    def take(self, item: Item) -> None:
        """Count an item of a stream."""
        if not isinstance(item, Batch):
            return
        for event in item.groups():
            if event >= 0:
                counts = np.bincount(self.groups.of_rows(item, event, self.by))
                if len(counts) > len(self.counts):
                    self.counts, counts = counts, self.counts
                self.counts[: len(counts)] += counts

    def found(self) -> list[tuple[int | str | None, int]]:
        """Return values and their records, the most frequent first."""
        values, counts = self.groups.values, self.counts.tolist()
        order = np.argsort(-self.counts, kind="stable").tolist()
        return [(values[number], counts[number]) for number in order if counts[number]]


class ArgumentValues:
    """Collects the numbers of one argument, in all events that have it."""

    def __init__(self, argument: str) -> None:
        self.argument = argument
        self.renew()

    def renew(self) -> None:
        """Reset the counts."""
        self.numbers = Distribution(_PRECISION)

    def take(self, item: Item) -> None:
        """Count an item of a stream."""
        if not isinstance(item, Batch):
            return
        for event in item.groups():
            if event >= 0 and (found := item.arguments(event)):
                column = found.values.get(self.argument)
                if column is not None and not isinstance(column, StringColumn):
                    self.numbers.add(column[found.ok])
