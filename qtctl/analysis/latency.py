"""Latencies from START to END events, measured as records come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from qtctl.analysis.distribution import Distribution
from qtctl.analysis.groups import OWN, TID, Groups
from qtctl.analysis.heat import HeatMap
from qtctl.analysis.order import ARRIVED, Order, Part, clock_codes
from qtctl.analysis.pairs import NO_KEY, PairCounts, Pairing, check_key, learn_key, other_ends
from qtctl.errors import UsageError
from qtctl.events.selection import Selection
from qtctl.leases.leasing import nothing_matched
from qtctl.model import Declaration
from qtctl.records.batch import Batch
from qtctl.records.columns import BoolArray, Int64Array
from qtctl.records.event_table import EventTable
from qtctl.records.filters import Filter
from qtctl.records.items import Item, Loss
from qtctl.records.printf import hex_arguments

_GROUPS = 500
_SECOND_NS = 1_000_000_000
_RECENT = 1 << 20
"""So many pairs wait until it is known that the times of their records did not step back."""
_CLOCK_SIZE = 4


@dataclass(frozen=True, slots=True)
class Question:
    """A checked request for a latency, made before anything is switched.

    ``by`` is an argument of every START or, where ``by_end``, of every END; ``tid``, ``event`` (of
    the START), ``guest`` or nothing; ``by_hex`` where QEMU prints it in hex. ``where`` is for each
    START or, where ``where_end``, for each END: a pair for which it does not hold is not counted.
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

    @property
    def words(self) -> str:
        """What is measured, in words."""
        sides = [
            one[0] + f" and {len(one) - 1} more" * (len(one) > 1)
            for one in (self.starts, self.ends)
        ]
        where = f" where {self.where.text}" if self.where is not None else ""
        return f"{sides[0]} .. {sides[1]} by {self.key_words}{where}"

    def other_ends(self, declared: Mapping[str, Declaration]) -> list[str]:
        """Return events besides ``ends`` that may complete a START, by their names."""
        found = [other_ends(start, self.ends, self.key, declared) for start in self.starts]
        return [name for name in dict.fromkeys(chain(*found)) if name not in self.starts]


def _belongs_to_end(by: str, starts: list[Declaration], ends: list[Declaration]) -> bool:
    """Return whether ``by`` is an argument of the ENDs; False if every START has it."""
    for at_end, side in ((False, starts), (True, ends)):
        if by in OWN or all(any(a.name == by for a in one.arguments) for one in side):
            return at_end
    have = dict.fromkeys(a.name for one in [*starts, *ends] for a in one.arguments)
    raise UsageError(
        f"neither every START nor every END has an argument {by!r}",
        hint="--by " + ", ".join([*have, *OWN]),
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


@dataclass(slots=True, eq=False)
class _OfGuest:
    """What is known of one of the guests of a stream; a loss of one is none of another."""

    order: Order = field(default_factory=Order)
    table: EventTable | None = None
    pairing: Pairing | None = None

    def lose(self) -> None:
        if self.pairing is not None:
            self.pairing.lose()


class Latency:
    """Measures latencies in the items of a stream; times are in ns.

    ``spans`` has the latencies by group, the values of ``by`` in :attr:`groups`. Pairs that are in
    no figure are counted: ``filtered`` ones did not match ``where``; ``disordered`` ones overlap a
    place where times step back, where the order of records is not known; ``arrived`` ones have
    times at which qtctl read them, and ``mixed`` ones times of two clocks. ``coarse`` counts pairs
    of whole seconds, which mean little. A ``heat_map``, and ``on_spans`` with the batches of their
    ENDs, get the pairs that are in the figures, once :meth:`settle` adds them.
    """

    def __init__(
        self,
        question: Question,
        heat_map: HeatMap | None = None,
        on_spans: Callable[[Spans], None] | None = None,
    ) -> None:
        self.question = question
        self._heat_map = heat_map
        self._on_spans = on_spans
        self.counts = PairCounts()
        self.groups = Groups(_GROUPS)
        self._spans = Distribution()
        self._recent: list[Spans] = []
        self._guests: dict[str | None, _OfGuest] = {}
        self.renew()

    def renew(self) -> None:
        """Reset the figures; open STARTs stay open, and groups keep their numbers."""
        self.counts.forget_but_open()
        self._spans = Distribution()
        self._recent.clear()
        self.filtered = self.disordered = self.arrived = self.mixed = self._coarse = 0

    @property
    def spans(self) -> Distribution:
        """The latencies so far; later records take none of them away."""
        self.settle()
        return self._spans

    @property
    def coarse(self) -> int:
        """How many pairs have times of whole seconds."""
        self.settle()
        return self._coarse

    def take(self, item: Item) -> None:
        """Measure an item of a stream."""
        if isinstance(item, Batch):
            for name, batch in item.by_guest():
                self._measure(self._guests.setdefault(name, _OfGuest()), batch)
        elif isinstance(item, Loss):
            self.lose(item.guest)

    def lose(self, guest: str | None = None) -> None:
        """Drop what is open, of a guest or of all: its END may be lost."""
        for name, one in self._guests.items():
            if guest in (None, name):
                one.lose()

    def _measure(self, guest: _OfGuest, batch: Batch) -> None:
        question = self.question
        if batch.table is not guest.table:
            # Another table is another run of the guest: open STARTs of the last one never end.
            guest.lose()
            guest.table = batch.table
            guest.pairing = Pairing(
                batch.table, question.starts, question.ends, question.key, counts=self.counts
            )
        for part in guest.order.parts(batch):
            if part.restarts:
                guest.lose()
            if part.low_ns is not None:
                self._step_back(part)
            self._pair(guest, part)

    def _step_back(self, part: Part) -> None:
        """Leave out recent pairs that overlap a place where times step back."""
        for place, recent in enumerate(self._recent):
            wrong = part.overlaps(recent.start_ns, recent.end_ns)
            self.disordered += int(np.count_nonzero(wrong))
            self._recent[place] = recent.select(~np.asarray(wrong))

    def _pair(self, guest: _OfGuest, part: Part) -> None:
        batch, question = part.batch, self.question
        assert guest.pairing is not None
        matched = None if question.where is None else question.where.mask(batch)
        numbers = np.zeros(len(batch), np.int32) if question.by is None else self._numbers(batch)
        tags = numbers.copy() if not question.by_end else np.zeros(len(batch), np.int32)
        if matched is not None and not question.where_end:
            tags[~matched] = -1
        # The lower bits are the clock of the START; -1 stays below 0.
        clock = clock_codes(batch)
        pairs = guest.pairing.feed(batch, tags * _CLOCK_SIZE + clock)
        tag, own = pairs.tag // _CLOCK_SIZE, clock[pairs.row]
        good = tag >= 0
        if matched is not None and question.where_end:
            good &= matched[pairs.row]
        self.filtered += len(pairs) - int(np.count_nonzero(good))

        def leave_out(bad: BoolArray) -> int:
            nonlocal good
            left = int(np.count_nonzero(good & bad))
            good &= ~bad
            return left

        self.mixed += leave_out(pairs.tag % _CLOCK_SIZE != own)
        self.arrived += leave_out(own == ARRIVED)
        self.disordered += leave_out(guest.order.doubtful(part, pairs.start_ns, pairs.end_ns))
        group = numbers[pairs.row] if question.by_end else tag
        kept = None if self._on_spans is None else batch
        self._recent.append(
            Spans(pairs.start_ns[good], pairs.end_ns[good], group[good], pairs.row[good], kept)
        )
        self.settle(_RECENT)

    def settle(self, most: int = 0) -> None:
        """Add the oldest pairs to the figures, until at most ``most`` are recent."""
        left = sum(len(recent.group) for recent in self._recent)
        while left > most or (self._recent and not most):
            recent = self._recent.pop(0)
            left -= len(recent.group)
            whole = (recent.start_ns % _SECOND_NS == 0) & (recent.end_ns % _SECOND_NS == 0)
            self._coarse += int(np.count_nonzero(whole))
            self._spans.add(recent.end_ns - recent.start_ns, recent.group)
            if self._heat_map is not None:
                self._heat_map.add(recent.start_ns, recent.end_ns)
            if self._on_spans is not None and len(recent.group):
                self._on_spans(recent)

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


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Columns with one row a pair: its times in ns, its group, and its END's row in ``batch``.

    The batch is None where nobody asked for it.
    """

    start_ns: Int64Array
    end_ns: Int64Array
    group: NDArray[np.int32]
    row: Int64Array
    batch: Batch | None

    def select(self, rows: BoolArray) -> Spans:
        """Return the pairs of a mask."""
        start_ns, end_ns = self.start_ns[rows], self.end_ns[rows]
        return Spans(start_ns, end_ns, self.group[rows], self.row[rows], self.batch)
