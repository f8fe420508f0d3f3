"""One trace record as one line of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from qtctl.model import Clock
from qtctl.text.style import Style, escaped

if TYPE_CHECKING:
    from qtctl.records.columns import Record

NAME_WIDTH = 36
"""Columns that event names are padded to at most, so that arguments line up."""


class RowFormatter:
    """Formats records for people. ``times`` is abs, rel, delta or none.

    ``hex_arguments`` maps an event to the arguments that QEMU itself prints in hex. ``thread``
    names a thread by its id; one without a name is shown by its id.
    """

    def __init__(
        self,
        style: Style,
        times: str,
        hex_arguments: Mapping[str, frozenset[str]],
        names: Sequence[str],
        thread: Callable[[int], str] = str,
    ) -> None:
        self._style = style
        self._times = times
        self._hex = hex_arguments
        self._width = min(NAME_WIDTH, max(map(len, names), default=0)) if style.terminal else 0
        self._thread = thread
        self._first_ns: int | None = None
        self._last_ns = 0
        self._second = -1
        self._second_text = ""

    def line(self, record: Record) -> str:
        """Return the line of one record, safe to print."""
        if record.line is not None:
            return self._style.paint(escaped(record.line), "faint")
        parts = []
        if self._times != "none":
            parts.append(self._style.paint(self._time(record), "time"))
        if record.tid is not None:
            thread = escaped(self._thread(record.tid)) or str(record.tid)
            parts.append(self._style.paint(thread, "faint"))
        name = escaped(record.name).ljust(self._width)
        parts.append(self._style.paint(name, "event"))
        parts.append(self._arguments(record))
        gap = "  " if self._style.terminal else " "
        return gap.join(filter(None, parts)).rstrip()

    def note(self, text: str) -> str:
        """Return a line of qtctl's own between the records."""
        return self._style.paint(escaped(text), "bad")

    def _arguments(self, record: Record) -> str:
        if record.raw is not None:
            return escaped(record.raw)
        in_hex = self._hex.get(record.name, frozenset())
        words = []
        for key, value in record.args.items():
            if isinstance(value, str):
                shown = f"'{escaped(value)}'"
            else:
                shown = f"{value:#x}" if key in in_hex else str(value)
            words.append(f"{self._style.paint(key, 'key')}={shown}")
        return " ".join(words)

    def _time(self, record: Record) -> str:
        now = record.time_ns
        if self._first_ns is None:
            self._first_ns = self._last_ns = now
        if self._times == "rel":
            return _seconds(now - self._first_ns)
        if self._times == "delta":
            step, self._last_ns = now - self._last_ns, now
            return _seconds(step)
        second, rest = divmod(now, 1_000_000_000)
        if second != self._second:
            self._second = second
            self._second_text = _clock_text(second, record.clock)
        return f"{self._second_text}.{rest // 1000:06d}"


def _clock_text(second: int, clock: Clock) -> str:
    if clock == Clock.MONOTONIC:
        return str(second)
    try:
        return datetime.fromtimestamp(second).strftime("%H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(second)


def _seconds(span_ns: int) -> str:
    sign = "-" if span_ns < 0 else "+"
    second, rest = divmod(abs(span_ns), 1_000_000_000)
    return f"{sign}{second}.{rest // 1000:06d}"
