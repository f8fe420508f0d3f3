"""How stream verbs format records, losses, news and sums: as JSON or for people."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from qtctl.commands.context import Context
from qtctl.commands.registry import Options
from qtctl.model import Control, Failure, Flood, GuestEvent, Mark, News
from qtctl.text.style import terminal_columns

if TYPE_CHECKING:
    from qtctl.commands.places import Out
    from qtctl.records.counts import Counts
    from qtctl.records.items import Item, Loss
    from qtctl.session.merged_stream import Followed
    from qtctl.session.merging import Reading
    from qtctl.session.triggers import Fired
    from qtctl.writers.rows import RowFormatter

_SHOWN_PATTERNS = 4


class JsonFormatter:
    """Formats items as JSON lines of schema ``qtctl/1``."""

    def began(self, stream: Followed) -> Iterator[str]:
        """Yield the object of the switch that the stream began with, if it switched."""
        from qtctl.records import schema

        if stream.report is not None:
            patterns = tuple(stream.selection.words())
            switch = Control("enable", patterns, len(stream.report.changed), stream.began_ns)
            yield json.dumps(schema.to_object(switch))

    def lines(self, item: Item, records: int) -> Iterable[str]:
        """Return the lines of an item; of a batch, those of its first ``records``."""
        from qtctl.writers.ndjson import JsonExport

        return JsonExport().lines(item, records)

    def fired(self, fired: Fired) -> Iterator[str]:
        """Yield the object of a trigger that acted."""
        from qtctl.records import schema
        from qtctl.session.triggers import object_of

        on, action = fired.trigger.when.text, str(fired.trigger.action)
        found = object_of(fired.found)
        yield json.dumps(
            schema.trigger(on, action, fired.count, fired.outcome, found, fired.time_ns)
        )

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield the sums that end a stream."""
        from qtctl.writers.ndjson import JsonExport

        return JsonExport().ended(counts)


class TextFormatter:
    """Formats items for people: records as rows, everything else as notes between dashes.

    ``columns`` returns how wide the terminal is now; without it, the width stays.
    """

    def __init__(self, rows: RowFormatter, columns: Callable[[], int] | None = None) -> None:
        self._rows = rows
        self._columns = columns

    def began(self, stream: Followed) -> Iterator[str]:
        """Yield nothing: stderr has it."""
        return iter(())

    def lines(self, item: Item, records: int) -> Iterable[str]:
        """Return the lines of an item; of a batch, those of its first ``records``."""
        from qtctl.records.batch import Batch

        if isinstance(item, Control) and item.pid == os.getpid():
            return iter(())  # stderr has it
        if isinstance(item, Batch):
            if self._columns is not None:
                self._rows.width = self._columns()
            return self._rows.lines(item.first(records))
        return [self._rows.note(f"--- {note_words(item)} ---", role_of(item))]

    def fired(self, fired: Fired) -> Iterator[str]:
        """Yield the lines of what a trigger acted on, and a note of what it did."""
        yield from self.lines(fired.found, 1)
        times = f", {fired.count} times" if fired.count > 1 else ""
        on, action = fired.trigger.when.text, fired.trigger.action
        yield self._rows.note(f"--- {on}{times}: {action}: {fired.outcome} ---", "note")

    def ended(self, counts: Counts) -> Iterator[str]:
        """Yield nothing: stderr has the sums."""
        return iter(())


ItemFormatter = JsonFormatter | TextFormatter
"""Formats the items of a stream as lines."""


def role_of(item: Loss | News) -> str:
    """Return the role of a note: trouble is for losses and floods."""
    return "note" if isinstance(item, GuestEvent | Mark | Control) else "bad"


def note_words(item: Loss | News) -> str:
    """Return what is no record of a stream in words."""
    return f"{item.guest}: {_words(item)}" if item.guest else _words(item)


def _words(item: Loss | News) -> str:
    match item:
        case GuestEvent(name, data):
            return " ".join([name, *(f"{key}={value}" for key, value in data.items())])
        case Mark(text):
            return f"mark: {text}"
        case Control(action, patterns, changed):
            return f"{action} {' '.join(patterns)}: {changed} changed"
        case Flood():
            return flood_words(item)
        case Failure():
            return f"{item.message}; {item.hint}" if item.hint else item.message
    return loss_words(item)


def loss_words(loss: Loss) -> str:
    """Return how many records were lost at a place, in words."""
    how_many = "an unknown number of" if loss.count is None else str(loss.count)
    where = f" in {loss.file}" if loss.file else ""
    return f"{how_many} records lost here ({loss.backend}){where}"


def flood_words(flood: Flood) -> str:
    """Return a flood in words: the rates, the loudest events, and the command that quiets them."""
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


def formatter_of(
    context: Context,
    options: Options,
    source: Followed | Reading | None,
    out: Out | None = None,
) -> ItemFormatter:
    """Return the formatter that ``--ndjson`` and ``-o`` ask for, for the records of a source.

    None: no records come, only news.
    """
    if options.ndjson:
        return JsonFormatter()
    from qtctl.writers.rows import RowFormatter

    in_hex, names = (source.hex_arguments(), source.picked) if source else ({}, ())
    style = context.style_at(out)
    wrap = getattr(options, "wrap", True)
    several = bool(context.several)
    rows = RowFormatter(style, options.time, in_hex, names, wrap=wrap, several=several)
    return TextFormatter(rows, terminal_columns if style.terminal else None)


def say_sums(context: Context, counts: Counts) -> None:
    """Print the sums of a stream on stderr."""
    for name, own in counts.guests:
        context.say(f"{name}: {_sums(own)}")
    context.say(f"{len(counts.guests)} guests: {_sums(counts)}" if counts.guests else _sums(counts))
    if counts.own or counts.perhaps_own:
        context.say(f"left out: {own_words(counts)}")


def _sums(counts: Counts) -> str:
    sums = f"{counts.read} read, {counts.shown} shown, {counts.filtered} filtered"
    unread = f", {counts.unread} unread" if counts.unread else ""
    return f"{sums}, {lost_words(counts)} lost{unread}"


def own_words(counts: Counts) -> str:
    """Return how many records of own requests were left out, in words."""
    perhaps = f"; perhaps {counts.perhaps_own} of the others are, too" if counts.perhaps_own else ""
    return f"{counts.own} records of qtctl's own requests (--own shows them){perhaps}"


def lost_words(counts: Counts) -> str:
    """Return how many records were lost, in words."""
    if not counts.unknown_losses:
        return f"{counts.lost}"
    return f"{counts.lost} and {counts.unknown_losses} times an unknown number"
