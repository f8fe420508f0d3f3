"""What two runs differ in, as text and as JSON, for the verb diff."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from qtctl.commands.collecting import figures, value_words
from qtctl.commands.formatting import loss_words
from qtctl.text.style import escaped
from qtctl.text.units import ABOUT, short

if TYPE_CHECKING:
    from qtctl.analysis.alignment import Alignment
    from qtctl.analysis.compare import Comparison, EventChange, Profile
    from qtctl.records.columns import Record
    from qtctl.records.items import Loss
    from qtctl.session.replay import Replay
    from qtctl.text.style import Style

PLACES = 5
"""So many places where the runs differ are shown unless all are asked for."""
_RATE = 1.25
_SHARE = 0.1
_ROWS = 20
_QUANTILES = {"p50": 0.5, "p99": 0.99}


def about(profile: Profile) -> str:
    """Return the mark of figures by times at which qtctl read the records."""
    return ABOUT if profile.arrived else ""


def document(traces: list[Replay], profiles: list[Profile], found: Comparison) -> dict[str, Any]:
    """Return what differs in events, order and latencies, as JSON."""
    from qtctl.records.schema import declarations

    one, two = (
        {
            "path": str(trace.path),
            "seconds": profile.seconds,
            "arrived": profile.arrived,
            **declarations(trace.counts),
        }
        for trace, profile in zip(traces, profiles, strict=True)
    )
    return {
        "a": one,
        "b": two,
        "events": [{**asdict(one), "change": one.change} for one in found.events],
        "moved": found.moved,
        "order": list(map(asdict, found.order)),
        "latencies": [
            {
                "start": question.starts,
                "end": question.ends,
                "key": question.key,
                "unit": "ns",
                "a": figures(spreads[0], _QUANTILES),
                "b": figures(spreads[1], _QUANTILES),
            }
            for question, spreads in found.latencies
        ],
    }


def records(alignment: Alignment, whole: bool) -> dict[str, Any]:
    """Return what a comparison record by record found, as JSON."""
    from qtctl.records import schema
    from qtctl.records.items import Loss

    def row(one: Record | Loss) -> dict[str, Any]:
        return schema.to_object(one) if isinstance(one, Loss) else schema.record(one)

    return {
        "same": alignment.alike and whole and not alignment.differ,
        "records": {
            "same": alignment.same,
            "changed": alignment.changes,
            "only_a": alignment.only[0],
            "only_b": alignment.only[1],
            "differ": sorted(alignment.differ),
            "addresses": _mismatch(alignment.addresses.differ, alignment.first_addresses),
            "threads": _mismatch(alignment.threads.differ, alignment.first_threads),
            "parted": alignment.parted,
        },
        "arguments": [asdict(one) for one in alignment.changed.values()],
        "places": [
            {
                "at": place.at,
                "counts": place.counts,
                "before": list(map(schema.record, place.before)),
                "a": list(map(row, place.rows[0])),
                "b": list(map(row, place.rows[1])),
            }
            for place in alignment.places
        ],
        "place_count": alignment.place_count,
    }


def _mismatch(count: int, first: tuple[int, int] | None) -> dict[str, Any]:
    return {"count": count, "first": first}


def verdict(alignment: Alignment, whole: bool, lines: list[int]) -> Iterator[str]:
    """Yield whether the records are the same, or how many differ; ``lines`` were not compared."""
    same, differ = alignment.same, alignment.differ
    if not alignment.alike:
        only, more = alignment.only, "at least " if alignment.parted else ""
        yield (
            f"records: {same} the same, {more}{alignment.changes} changed, "
            f"{more}{only[0]} only in A, {more}{only[1]} only in B"
        )
    elif not whole:
        yield f"no differences in {same} records; others could not be read, or were lost"
    elif differ:
        yield f"the same {same} records in the same order; {_and(sorted(differ))} differ"
    else:
        yield f"no differences in {same} records" if any(lines) else "no differences"
    if any(lines):
        yield f"not compared: {lines[0]} lines of A and {lines[1]} of B that are no records"


def places(
    style: Style, alignment: Alignment, most: int | None, in_hex: Mapping[str, frozenset[str]]
) -> Iterator[str]:
    """Yield the first places where the runs differ, with the records before each."""
    from qtctl.records.items import Loss

    for place in alignment.places[:most]:
        part = "at" if place is not alignment.places[0] else "the runs part at"
        yield f"{part} record {place.at[0]} of A, {place.at[1]} of B:"
        yield from (f"  {_row(one, in_hex)}" for one in place.before)
        for sign, rows, count in zip("-+", place.rows, place.counts, strict=True):
            role = "bad" if sign == "-" else "good"
            yield from (style.paint(f"{sign} {_row(one, in_hex)}", role) for one in rows)
            left = count - sum(not isinstance(one, Loss) for one in rows)
            if left > 0:
                yield style.paint(f"{sign} and {left} more", role)
    shown = len(alignment.places[:most])
    if shown < alignment.place_count:
        hint = ": --all" if shown < len(alignment.places) else ""
        yield style.paint(f"and {alignment.place_count - shown} more places{hint}", "faint")
    if alignment.parted:
        yield (
            f"from record {alignment.parted[0]} of A and {alignment.parted[1]} of B on the runs "
            "are too different to be compared record by record"
        )


def _row(one: Record | Loss, in_hex: Mapping[str, frozenset[str]]) -> str:
    """Return a record as text, safe to print."""
    from qtctl.records.items import Loss

    if isinstance(one, Loss):
        return loss_words(one)
    shown = in_hex.get(one.name, frozenset())
    words = [f"{name}={value_words(value, name in shown)}" for name, value in one.args.items()]
    return escaped(" ".join([one.name, *words, *([one.raw] if one.raw else [])]))


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _differs(ratio: float | None) -> bool:
    return ratio is None or not 1 / _RATE < ratio < _RATE


def differences(
    style: Style,
    found: Comparison,
    profiles: list[Profile],
    alignment: Alignment,
    everything: bool,
    in_hex: Mapping[str, frozenset[str]],
) -> Iterator[str]:
    """Yield the table of differences; nothing if there are none."""
    from qtctl.text.tables import table
    from qtctl.text.units import duration_words

    most = None if everything else _ROWS
    abouts = [about(profile) for profile in profiles]
    events = [one for one in found.events if everything or _differs(one.change)]
    order = [one for one in found.order if everything or abs(one.change) >= _SHARE]
    rows = []
    for one in events[:most]:
        sides = list(map(str, one.counts))
        if one.rates:
            sides = [
                f"{about}{short(rate)}/s" for about, rate in zip(abouts, one.rates, strict=True)
            ]
        rows.append(("event", one.name, *sides, _event_words(one)))
    for name in found.moved[:most]:
        rows.append(("order", f"first {name}", "", "", "changed its place"))
    for step in order[:most]:
        shares = [f"{100 * share:.0f} %" for share in step.shares]
        change = f"{100 * step.change:+.0f}"
        rows.append(("order", f"{step.before} > {step.after}", *shares, change))
    for question, spreads in found.latencies[:most]:
        name = f"{question.starts[0]} > {question.ends[0]}"
        for label, share in _QUANTILES.items():
            one_ns, two_ns = (spread.percentiles([share])[0] for spread in spreads)
            ratio = (two_ns + 1) / (one_ns + 1)
            if everything or _differs(ratio):
                sides = [duration_words(one_ns), duration_words(two_ns)]
                rows.append(("latency", f"{name} {label}", *sides, f"x {ratio:.2f}"))
    for argument in list(alignment.changed.values())[:most]:
        hexed = argument.argument in in_hex.get(argument.event, ())
        rows.append(
            (
                "argument",
                f"{argument.event} {argument.argument}",
                *(value_words(value, hexed) for value in argument.values),
                f"in {argument.count}, first {argument.at[0]}",
            )
        )
    for name, numbers, first in (
        ("addresses", alignment.addresses, alignment.first_addresses),
        ("threads", alignment.threads, alignment.first_threads),
    ):
        if first is not None:
            places = [f"record {number}" for number in first]
            rows.append((name, "stand for others than before", *places, f"{numbers.differ} times"))
    if rows:
        yield from table(style, ("KIND", "WHAT", "A", "B", "CHANGE"), rows)
    parts = (events, order, found.moved, alignment.changed)
    left = sum(max(0, len(part) - _ROWS) for part in parts)
    if most and left:
        yield style.paint(f"and {left} more: --all", "faint")


def _event_words(one: EventChange) -> str:
    if one.change is None:
        return "only in A" if one.counts[0] else "only in B"
    return f"x {one.change:.2f}"
