"""What stream verbs print: records, losses and sums, as JSON or for people; and their options."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from qtctl.commands.context import Context
from qtctl.commands.registry import arg
from qtctl.commands.values import budget
from qtctl.model import Control, Flood, GuestEvent, Mark, News

if TYPE_CHECKING:
    from qtctl.records.items import Item, Loss
    from qtctl.session.filter import Counts
    from qtctl.session.replay import Replay
    from qtctl.session.stream import Stream
    from qtctl.session.triggers import Fired
    from qtctl.text.style import Style
    from qtctl.writers.rows import RowFormatter

WHERE = arg(
    "--where",
    metavar="EXPR",
    help="only records for which this Python expression over their arguments holds; "
    "also: event, tid, time_ns",
    completes="filter",
)
GUARD = arg(
    "--guard",
    metavar="N|MB",
    type=budget,
    help="over N events (or 20MB) a second, switch off the loudest until the end",
)
NDJSON = arg("--ndjson", action="store_true", help="one JSON object a line, schema qtctl/1")
TIME = arg(
    "--time",
    choices=("abs", "rel", "delta", "none"),
    default="abs",
    help="time of day, since the first record, since the one before, or none",
)


_SHOWN_PATTERNS = 4


class Lines(Protocol):
    """Turns what a stream yields into lines of one kind."""

    def lines(self, item: Item, records: int) -> Iterator[str]:
        """Yield the lines of an item, of a batch of its first ``records``."""

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield what stands at the end."""


class Writer:
    """Turns what a stream yields into lines, as JSON or for people."""

    def __init__(self, formatter: RowFormatter | None) -> None:
        self._formatter = formatter

    def began(self, stream: Stream) -> Iterator[str]:
        """Yield what tells that events were switched on."""
        if self._formatter is None and stream.report is not None:
            from qtctl.records import schema

            changed = len(stream.report.changed)
            patterns = stream.selection.words()
            yield json.dumps(schema.control("enable", patterns, changed, stream.began_ns))

    def lines(self, item: Item, records: int) -> Iterator[str]:
        """Return the lines of what a stream yielded, of a batch of its first ``records``."""
        from qtctl.records.batch import Batch

        if not isinstance(item, Batch):
            return iter([self._note(item)])
        chosen = item.first(records)
        if self._formatter is not None:
            return iter(self._formatter.lines(chosen))
        from qtctl.writers.ndjson import json_lines

        return iter(json_lines(chosen))

    def _note(self, item: Loss | News) -> str:
        if self._formatter is None:
            from qtctl.records.notes import to_object

            return json.dumps(to_object(item))
        return self._formatter.note(f"--- {_words(item)} ---")

    def fired(self, fired: Fired) -> Iterator[str]:
        """Yield the lines of a trigger that acted, and of what it acted on."""
        on, action = fired.trigger.when.text, str(fired.trigger.action)
        if self._formatter is None:
            from qtctl.records import schema
            from qtctl.session.triggers import object_of

            found = object_of(fired.found)
            told = schema.trigger(on, action, fired.count, fired.outcome, found, fired.time_ns)
            yield json.dumps(told)
            return
        yield from self.lines(fired.found, 1)
        times = f", {fired.count} times" if fired.count > 1 else ""
        yield self._formatter.note(f"--- {on}{times}: {action}: {fired.outcome} ---")

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield the sums that end a stream."""
        if self._formatter is None:
            from qtctl.records import schema

            yield json.dumps(
                schema.summary(counts.read, counts.shown, counts.filtered, counts.lost)
            )


def _words(item: Loss | News) -> str:
    """Say a loss or news to people."""
    match item:
        case GuestEvent(name, data):
            return " ".join([name, *(f"{key}={value}" for key, value in data.items())])
        case Mark(text):
            return f"mark: {text}"
        case Control(action, patterns, changed):
            return f"{action} {' '.join(patterns)}: {changed} changed"
        case Flood():
            return flood_words(item)
    how_many = "an unknown number of" if item.count is None else str(item.count)
    return f"{how_many} records lost here ({item.backend})"


def flood_words(flood: Flood) -> str:
    """Say a flood to people: how much, who, and what ends it."""
    loudest = ", ".join(f"{name} {per_s:,}/s" for name, per_s in flood.loudest)
    quiet = shlex.join(flood.patterns[:_SHOWN_PATTERNS])
    more = " ..." if len(flood.patterns) > _SHOWN_PATTERNS else ""
    end = "switching off" if flood.guarded else "to quiet them: qtctl disable"
    size = f"{flood.bytes_per_s / 1e6:.0f} MB/s"
    return f"flood of {flood.per_s:,} events/s, {size}: {loudest}; {end} {quiet}{more}"


def count_records(item: Item) -> int:
    """Return how many records an item of a stream holds."""
    from qtctl.records.batch import Batch

    return len(item) if isinstance(item, Batch) else 0


def make_writer(
    style: Style | None, times: str, in_hex: Mapping[str, frozenset[str]], names: Sequence[str]
) -> Writer:
    """Return a writer for people, or of JSON where there is no style; see ``RowFormatter``."""
    if style is None:
        return Writer(None)
    from qtctl.writers.rows import RowFormatter

    return Writer(RowFormatter(style, times, in_hex, names))


def say_sums(context: Context, counts: Counts) -> None:
    """Tell the sums of a stream on stderr."""
    lost = f", {lost_words(counts)} lost" if counts.lost or counts.unknown_losses else ", 0 lost"
    context.say(f"{counts.read} read, {counts.shown} shown, {counts.filtered} filtered{lost}")


def say_end(context: Context, trace: Replay) -> None:
    """Tell on stderr the sums of a file, and what is odd about its times."""
    if trace.remark:
        context.complain(trace.remark)
    say_sums(context, trace.counts)


def lost_words(counts: Counts) -> str:
    """Return how many records were lost, in words."""
    if not counts.unknown_losses:
        return f"{counts.lost}"
    return f"{counts.lost} and {counts.unknown_losses} times an unknown number"
