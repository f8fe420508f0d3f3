"""Latencies from START to END events, measured as records come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtctl.analysis.distribution import Distribution
from qtctl.analysis.groups import EVENT, TID, Groups
from qtctl.analysis.pairs import NO_KEY, PairCounts, Pairing, check_key, learn_key
from qtctl.errors import UsageError
from qtctl.events.selection import Selection
from qtctl.leases.leasing import nothing_matched
from qtctl.model import Declaration
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.filters import Filter
from qtctl.records.items import Item, Loss
from qtctl.records.printf import hex_arguments

_GROUPS = 500
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Question:
    """A checked request for a latency, made before anything is switched.

    ``by`` is an argument of every START or, where ``by_end``, of every END; ``tid``, ``event`` (of
    the START) or nothing; ``by_hex`` where QEMU prints it in hex. ``where`` is for each START or,
    where ``where_end``, for each END: a pair for which it does not hold is not counted.
    """

    starts: tuple[str, ...]
    ends: tuple[str, ...]
    key: tuple[str, ...]
    learned: bool
    by: str | None = None
    by_end: bool = False
    by_hex: bool = False
    where: Filter | None = None
    where_end: bool = False

    @classmethod
    def ask(
        cls,
        start: str,
        end: str,
        names: Sequence[str],
        declared: Mapping[str, Declaration],
        source: str,
        *,
        key: Sequence[str] | None = None,
        by: str | None = None,
        where: str | None = None,
    ) -> Question:
        """Check a request; ``start`` and ``end`` are names or patterns.

        Raises:
            NothingMatched: one of them matches none of ``names``, the events of ``source``.
            UsageError: the key, ``by`` or ``where`` do not fit these events.
        """
        chosen = []
        for pattern in (start, end):
            selection = Selection.of(pattern)
            chosen.append(tuple(selection.pick(names)))
            if not chosen[-1]:
                raise nothing_matched(selection, list(names), source)
        starts, ends = chosen
        for name in (*starts, *ends):
            # The thread, and no key, need no declaration.
            if name not in declared and (key is None or not set(key) <= {TID}):
                raise UsageError(
                    f"{name} is not declared, so its arguments are not known",
                    hint="--events-all FILE, or --key tid",
                )
        known = [
            [declared.get(name) or Declaration(name, (), "") for name in side] for side in chosen
        ]
        if key is None:
            used = learn_key(*known)
        else:
            used = tuple(key)
            check_key(used, *known)
        by_end = by is not None and _belongs_to_end(by, *known)
        filtered, where_end = _compiled(where, *known) if where is not None else (None, False)
        by_hex = any(by in hex_arguments(one) for one in known[by_end])
        return cls(starts, ends, used, key is None, by, by_end, by_hex, filtered, where_end)

    @property
    def key_words(self) -> str:
        """The key as ``--key`` takes it."""
        return ",".join(self.key) if self.key != NO_KEY else "none"


def _belongs_to_end(by: str, starts: list[Declaration], ends: list[Declaration]) -> bool:
    """Return whether ``by`` is an argument of the ENDs; False if every START has it."""
    for at_end, side in ((False, starts), (True, ends)):
        if by in (EVENT, TID) or all(any(a.name == by for a in one.arguments) for one in side):
            return at_end
    have = dict.fromkeys(a.name for one in [*starts, *ends] for a in one.arguments)
    raise UsageError(
        f"neither every START nor every END has an argument {by!r}",
        hint="--by " + ", ".join([*have, TID, EVENT]),
    )


def _compiled(
    where: str, starts: list[Declaration], ends: list[Declaration]
) -> tuple[Filter, bool]:
    try:
        return Filter.compile(where, starts), False
    except UsageError as error:
        try:
            return Filter.compile(where, ends), True
        except UsageError:
            raise error from None


class Latency:
    """Measures latencies in the items of a stream; times are in ns.

    ``spans`` has the latencies by group, the values of ``by`` in :attr:`groups`. ``filtered`` pairs
    did not match ``where``; ``disordered`` pairs end before they start by their times, and are left
    out; ``arrived`` pairs have times at which qtctl read them, and ``coarse`` ones whole seconds:
    both mean little.
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        self.counts = PairCounts()
        self.groups = Groups(_GROUPS)
        self.renew()
        self._table: EventTable | None = None
        self._pairing: Pairing | None = None

    def renew(self) -> None:
        """Reset the figures; open STARTs stay open, and groups keep their numbers."""
        self.counts.forget_but_open()
        self.spans = Distribution()
        self.filtered = self.disordered = self.arrived = self.coarse = 0

    def take(self, item: Item) -> None:
        """Measure an item of a stream."""
        if isinstance(item, Batch):
            if len(item):
                self._measure(item)
        elif isinstance(item, Loss) and self._pairing is not None:
            self._pairing.lose()

    def _measure(self, batch: Batch) -> None:
        question = self.question
        if self._pairing is None or batch.table is not self._table:
            # Another table is another run of the guest: open STARTs of the last one never end.
            if self._pairing is not None:
                self._pairing.lose()
            self._table = batch.table
            self._pairing = Pairing(
                batch.table, question.starts, question.ends, question.key, counts=self.counts
            )
        matched = None if question.where is None else question.where.mask(batch)
        numbers = None if question.by is None else self._numbers(batch)
        tags = numbers if not question.by_end else None
        if matched is not None and not question.where_end:
            tags = np.where(matched, 0 if tags is None else tags, -1).astype(np.int32)
        pairs = self._pairing.feed(batch, tags)
        wanted = pairs.tag >= 0
        if matched is not None and question.where_end:
            wanted &= matched[pairs.row]
        span = pairs.end_ns - pairs.start_ns
        good = wanted & (span >= 0)
        self.filtered += len(pairs) - int(np.count_nonzero(wanted))
        self.disordered += int(np.count_nonzero(wanted & (span < 0)))
        arrived = batch.arrived[pairs.row]
        self.arrived += int(np.count_nonzero(arrived & good))
        whole = (pairs.start_ns % _SECOND_NS == 0) & (pairs.end_ns % _SECOND_NS == 0)
        self.coarse += int(np.count_nonzero(whole & ~arrived & good))
        if numbers is None:
            self.spans.add(span[good])
        else:
            group = numbers[pairs.row] if question.by_end else pairs.tag
            self.spans.add(span[good], group[good])

    def _numbers(self, batch: Batch) -> NDArray[np.int32]:
        """Return the group of each row that decides it; the values of other rows mean nothing."""
        question = self.question
        assert question.by is not None
        numbers = np.zeros(len(batch), np.int32)
        deciding = question.ends if question.by_end else question.starts
        for event, rows in batch.groups().items():
            if event >= 0 and batch.names[event] in deciding:
                numbers[rows] = self.groups.of_rows(batch, event, question.by)
        return numbers
