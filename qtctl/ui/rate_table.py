"""The table of rates: fitted to the width of a terminal, else lines with tabs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from qtctl.text.bars import sparkline
from qtctl.text.style import Style, escaped
from qtctl.text.tables import cut
from qtctl.text.units import short

if TYPE_CHECKING:
    from qtctl.analysis.rates import Key, Rate, Snapshot

Label = Callable[["Key"], str]

_LEAST_NAME = 20
_SPARK = (30, 20, 10)


def rate_table(
    style: Style, snapshot: Snapshot, label: Label, *, title: str = "EVENT"
) -> Iterator[str]:
    """Yield the lines of a table of rates; ``label`` returns the name of a group.

    Off a terminal: name, records a second, bytes a second, share of the records in per cent, and
    records in all, separated by tabs, without a header.
    """
    rates = [*snapshot.rows, *([snapshot.others] if snapshot.others else [])]
    names = [escaped(label(key)) for key, _ in snapshot.keyed()]
    names += ["(others)"] * (len(rates) - len(names))
    if not style.terminal:
        for name, rate in zip(names, rates, strict=True):
            figures = f"{rate.per_s:.1f}\t{rate.bytes_per_s:.0f}\t{100 * snapshot.share(rate):.1f}"
            yield f"{name}\t{figures}\t{rate.total}"
        return
    yield from _aligned(style, snapshot, title, names, rates)


def _aligned(
    style: Style, snapshot: Snapshot, title: str, names: Sequence[str], rates: Sequence[Rate]
) -> Iterator[str]:
    columns: list[tuple[str, int, Callable[[Rate], str]]] = [
        ("/s", 6, lambda rate: short(rate.per_s)),
        ("SHARE", 5, lambda rate: f"{100 * snapshot.share(rate):.0f}%"),
        ("BYTES/s", 7, lambda rate: short(rate.bytes_per_s)),
        ("TOTAL", 6, lambda rate: short(rate.total)),
    ]
    longest = max(map(len, [title, *names]))
    left = style.width - min(longest, _LEAST_NAME)
    shown = []
    for column in columns:
        left -= column[1] + 1
        if left < 0:
            break
        shown.append(column)
    # Names are shown whole if there is room; else the shortest bars are shown beside them.
    room = left + min(longest, _LEAST_NAME)
    spark = next((width for width in _SPARK if room - longest > width), 0)
    if longest > room and left > _SPARK[-1]:
        spark = _SPARK[-1]
    if len(shown) == len(columns) and spark:
        unicode = style.unicode
        shown.append(
            (
                "LAST MINUTE" if spark > 10 else "MINUTE",
                spark,
                lambda rate: sparkline(rate.history, spark, unicode=unicode),
            )
        )
    name_width = min(longest, max(1, style.width - sum(width + 1 for _, width, _ in shown)))
    heads = " ".join(head.rjust(width) for head, width, _ in shown)
    yield style.paint(
        cut(f"{cut(title, name_width):{name_width}} {heads}".rstrip(), style.width), "faint"
    )
    for name, rate in zip(names, rates, strict=True):
        figures = " ".join(text(rate).rjust(width) for _, width, text in shown)
        shown_name = style.paint(f"{cut(name, name_width):{name_width}}", "event")
        yield f"{shown_name} {figures}".rstrip() if shown else shown_name
