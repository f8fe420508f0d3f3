"""Two marked spans of rows, compared: how many records of each event they have. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from qtctl.text.style import Style
from qtctl.text.tables import table
from qtctl.text.units import duration_words, short
from qtctl.ui.scrollback import VisibleRows

NAMES = ("A", "B")


@dataclass(slots=True)
class MarkedSpans:
    """The rows that begin and end each span, as they were marked; the third mark begins anew.

    ``lost`` are the spans whose rows were no longer kept when they were compared.
    """

    ends: dict[str, list[int]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    _counts: list[_CountedSpan] = field(default_factory=list)

    def mark(self, name: str, row: int) -> str:
        """Mark a row as an end of a span; return in words what is marked now."""
        ends = self.ends.get(name, [])
        if ends == [row]:
            return f"{name} at another row ends it"
        self.ends[name] = [row] if len(ends) != 1 else sorted([*ends, row])
        if len(self.ends[name]) == 1:
            return f"{name} begins here; {name} at another row ends it"
        return f"{name} is marked" + ("" if self.whole else "; mark the other span, too")

    @property
    def whole(self) -> bool:
        """Whether both spans are marked."""
        return all(len(self.ends.get(name, ())) == 2 for name in NAMES)

    def compare(self, rows: VisibleRows) -> None:
        """Count the records of both spans, which must be marked, for :meth:`lines`."""
        self.lost = [
            name
            for name in NAMES
            if self.ends[name][0] < rows.first or self.ends[name][1] >= rows.end
        ]
        self._counts = [] if self.lost else [_counted(rows, *self.ends[name]) for name in NAMES]

    def lines(self, style: Style) -> Iterator[str]:
        """Yield a table of the compared records by event, the largest change first."""
        if not self._counts:
            yield from (
                f"{name}: rows of it are no longer kept; mark it again" for name in self.lost
            )
            return
        one, two = self._counts
        header = ("EVENT", "A", "B", "A/s", "B/s")
        names = sorted(
            {*one.events, *two.events}, key=lambda n: (-abs(two.per_s(n) - one.per_s(n)), n)
        )
        cells = [
            (
                name,
                str(one.events[name]),
                str(two.events[name]),
                short(one.per_s(name)),
                short(two.per_s(name)),
            )
            for name in names
        ]
        lengths = (duration_words(span.length_ns) for span in (one, two))
        yield "A lasts {}, B {}".format(*lengths)
        yield from table(style, header, cells)


@dataclass(slots=True)
class _CountedSpan:
    events: Counter[str]
    length_ns: int

    def per_s(self, name: str) -> float:
        return self.events[name] * 1e9 / self.length_ns if self.length_ns > 0 else 0.0


def _counted(rows: VisibleRows, first: int, last: int) -> _CountedSpan:
    events: Counter[str] = Counter()
    times: list[int] = []
    for batch in rows.batches(first, last):
        events.update(
            {batch.names[event]: len(own) for event, own in batch.groups().items() if event >= 0}
        )
        times += (int(batch.time_ns.min()), int(batch.time_ns.max()))
    return _CountedSpan(events, max(times) - min(times) if times else 0)
