"""Rates of a stream for top, with names of groups: for the live view and for scripts."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from qtctl.analysis.rates import OWN, Key, Rate, Rates, Snapshot, Sort
from qtctl.errors import UsageError
from qtctl.events.patterns import near
from qtctl.events.selection import Selection
from qtctl.leases.leasing import nothing_matched
from qtctl.model import Declaration
from qtctl.records.batch import Batch
from qtctl.records.filters import Filter
from qtctl.records.items import Item
from qtctl.session.merged_stream import Followed
from qtctl.session.names import Names
from qtctl.session.several import Guests


class StreamRates:
    """Counts the records of a stream, grouped by ``by``: event, tid, or an argument's name."""

    def __init__(self, stream: Followed, names: Names, by: str, window_s: float = 1.0) -> None:
        self._in_hex = stream.hex_arguments()
        self._names = names
        self._window_s = window_s
        self.group_by(by)

    def group_by(self, by: str) -> None:
        """Group by another property or argument, starting from zero."""
        self.by = by
        self._rates = Rates(time.monotonic(), by, self._window_s)
        self._hex = False

    def take(self, item: Item) -> None:
        """Count an item of the stream; only batches count."""
        if isinstance(item, Batch):
            self._rates.take(item, time.monotonic())
            if self.by not in OWN:
                self._hex = self._hex or self._prints_hex(item)
                self._names.learn(item, self.by)

    def _prints_hex(self, batch: Batch) -> bool:
        """Return whether QEMU prints the argument grouped by in hex, in an event of the batch."""
        names = (batch.names[event] for event in batch.groups() if event >= 0)
        spelt = {self.by, self.by.removesuffix("_")}
        return any(not spelt.isdisjoint(self._in_hex.get(name, ())) for name in names)

    def snapshot(self, sort: Sort, limit: int | None = None, second: int | None = None) -> Snapshot:
        """Return the rates now, or of a second of the last minute; see :meth:`Rates.snapshot`."""
        return self._rates.snapshot(time.monotonic(), sort, limit, second)

    def per_s(self) -> float:
        """Return the rate of all records."""
        return self._rates.per_s(time.monotonic())

    @property
    def prints_hex(self) -> bool:
        """Whether QEMU prints what it is grouped by in hex."""
        return self._hex

    @property
    def title(self) -> str:
        """The header of the column of names."""
        return "THREAD" if self.by == "tid" else self.by.upper()

    def name(self, key: Key) -> str:
        """Return the name of a thread or pointer from QMP or records, or an empty string."""
        if isinstance(key, int) and self.by == "tid":
            return self._names.thread(key)
        return self._names.pointer(key) if isinstance(key, int) and self._hex else ""

    def label(self, key: Key) -> str:
        """Return the text for a group: its key and name."""
        if key is None:
            return f"(no {'thread' if self.by == 'tid' else self.by})"
        shown = f"{key:#x}" if isinstance(key, int) and self._hex else str(key)
        if isinstance(key, str) and self.by not in OWN:
            shown = f"'{key}'"
        return " ".join(filter(None, (shown, self.name(key))))

    def document(self, snapshot: Snapshot, time_ns: int) -> dict[str, Any]:
        """Return the object of rates up to ``time_ns`` (Unix, ns), of schema ``qtctl/1``.

        Groups beyond ``rows`` are in ``others``; ``share`` is the share of records, 0 to 1.
        """

        def figures(rate: Rate) -> dict[str, Any]:
            return {
                "per_s": round(rate.per_s, 3),
                "bytes_per_s": round(rate.bytes_per_s, 3),
                "share": round(snapshot.share(rate), 5),
                "total": rate.total,
                "total_bytes": rate.total_bytes,
            }

        rows = ({"key": key, "name": self.name(key), **figures(r)} for key, r in snapshot.keyed())
        return {
            "type": "top",
            "time_ns": time_ns,
            "window_s": self._window_s,
            "by": self.by,
            "rows": list(rows),
            "others": snapshot.others and figures(snapshot.others),
            "whole": figures(snapshot.whole),
        }


async def check(
    session: Guests, chosen: Selection, where: str | None, by: str, pair: str | None = None
) -> None:
    """Check a selection and its options before anything is switched.

    Raises:
        NothingMatched: the selection, or the ``pair``, picks no event.
        UsageError: ``where``, ``by`` or the pair does not fit the picked events.
    """
    names = list(await session.all_states())
    picked = chosen.pick(names) if chosen else names
    if not picked:
        raise nothing_matched(chosen, names, session.where)
    declared = declared_of(session, picked)
    if where is not None:
        Filter.compile(where, declared)
    check_by(declared, by)
    if pair is not None:
        from qtctl.ui.stream_latency import asked

        asked(pair, picked, {one.name: one for one in declared}, session.where, where or "")


def declared_of(session: Guests, picked: Iterable[str]) -> list[Declaration]:
    """Return the declarations of the events, for those that have one."""
    known = session.declared()
    return [known[name] for name in picked if name in known]


def check_by(declared: Iterable[Declaration], by: str) -> None:
    """Check that records of these events can be grouped by ``by``.

    Raises:
        UsageError: none of them has such an argument.
    """
    arguments = {argument.name for one in declared for argument in one.arguments}
    if by not in OWN and arguments.isdisjoint((by, by.removesuffix("_"))):
        similar = near(by, [*OWN, *sorted(arguments)])[:3]
        raise UsageError(
            f"no selected event has an argument {by!r} to group by",
            hint=" or ".join(f"--by {name}" for name in similar or OWN),
        )
