"""Reading saved text of the kernel's ``trace_pipe`` or ``trace``, or of ``trace-cmd report``."""

from __future__ import annotations

import re
from pathlib import Path

from qtctl.backends.base import Clocks
from qtctl.backends.declared import Score, declared_for, readable
from qtctl.backends.foreign import no_record
from qtctl.backends.ftrace.decoder import TraceDecoder
from qtctl.backends.saved import SAMPLE_BYTES, Fit, PlainFile, SavedPlain
from qtctl.events.declarations import Declarations
from qtctl.model import Backend
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss

_HEAD = re.compile(
    rb"^.{16}-\d+ +(?:\([ \d-]+\) +)?\[\d+\] +(?:\S+ +)?\d+(?:\.\d{6,9})?: \w+: ", re.MULTILINE
)
_PROCESS = re.compile(rb"^.{16}-\d+ +\( *\d+\) +\[", re.MULTILINE)
_SNIFF_BYTES = 1 << 16
_WRITTEN = re.compile(
    rb"^# entries-in-buffer/entries-written: (\d{1,18})/(\d{1,18})\b", re.MULTILINE
)


def fit(path: Path, head: bytes | None) -> Fit:
    """Check whether most of the first lines have the heads of ftrace, or are its comments."""
    if head is None:
        return Fit.NO
    sample = head[: head.rfind(b"\n", 0, _SNIFF_BYTES) + 1]
    lines = sum(not line.startswith((b"#", b"cpus=", b"CPU:")) for line in sample.splitlines())
    return Fit.LIKELY if lines < 2 * len(_HEAD.findall(sample)) else Fit.NO


def open_saved(path: Path, file: PlainFile | None, events_all: Path | None) -> FtraceFile:
    """Open a file of this kind; see :class:`FtraceFile`."""
    assert file is not None
    return FtraceFile(file, events_all)


class FtraceFile(SavedPlain):
    """Text of ftrace, of however many guests; its times are those of the kernel's trace clock.

    Its declarations are those of ``events_all``, else those that fit best.

    Raises:
        QtctlError: no event in it is known.
    """

    _backend = Backend.FTRACE

    def __init__(self, file: PlainFile, events_all: Path | None) -> None:
        super().__init__(file)
        head = file.at(0, SAMPLE_BYTES)
        known, self.declared = declared_for(events_all, lambda one: _readable(one, head))
        if self.declared is None:
            raise no_record(head, str(file.path))
        self.notes = [f"text of ftrace, events {self.declared.words()}"]
        if not _PROCESS.search(head):
            self.notes.append(
                "it does not say which process a thread is of, so several guests would be taken "
                "for one (the kernel says it with: echo record-tgid > trace_options)"
            )
        self.table = EventTable.build(None, known.by_name)
        self._decoder = TraceDecoder(self.table)
        counts = _WRITTEN.search(head)
        self._overwritten = max(0, int(counts[2]) - int(counts[1])) if counts else 0

    def _decode(self, data: bytes) -> list[Item]:
        overwritten, self._overwritten = self._overwritten, 0
        decoder, clocks = self._decoder, Clocks(self._file.modified_ns)
        items = decoder.feed(data, clocks) if data else decoder.flush(clocks)
        return [*([Loss(Backend.FTRACE, overwritten, 0)] if overwritten else ()), *items]


def _readable(declared: Declarations, sample: bytes) -> Score:
    """Count the lines of a sample that are events with the arguments that are declared."""
    decoder = TraceDecoder(EventTable.build(None, declared.by_name))
    return readable(decoder.feed(sample, Clocks(0)) + decoder.flush(Clocks(0)))
