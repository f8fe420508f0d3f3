"""Reading saved log text, as QEMU wrote it or with other words before each line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.declared import Score, declared_for, readable
from qtctl.backends.foreign import check_readable, foreign_text, no_record
from qtctl.backends.log.divided import is_part, join_parts
from qtctl.backends.log.printers import Converter, Printer, printer_of
from qtctl.backends.log.text import TextDecoder
from qtctl.backends.log.unwrapping import Unwrapper
from qtctl.backends.saved import SAMPLE_BYTES, Fit, PlainFile, SavedPlain
from qtctl.backends.syslog.notices import expand_repeats, may_hold_notice, read_notice
from qtctl.events.declarations import Declarations
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Items, Loss

_CARRY_BYTES = 1 << 20
_NAMED = re.compile(
    rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{6})?Z ([a-z]+_\w+)(?=[ \r\n]|\Z)", re.MULTILINE
)
"""The name of an event, perhaps of another version, behind the prefix of 10.2."""
_UNIT = re.compile(rb"qemu|kvm|libvirt")


def fit(path: Path, head: bytes | None) -> Fit:
    """Accept any file that fits no other kind."""
    return Fit.NO if head is None else Fit.TEXT


def open_saved(path: Path, file: PlainFile | None, events_all: Path | None) -> LogFile:
    """Open a file of this kind; see :class:`LogFile`."""
    assert file is not None
    return LogFile(file, events_all)


class LogFile(SavedPlain):
    """Log text; its declarations are those of ``events_all``, else those that fit best.

    Raises:
        QtctlError: it is empty, no text, or no event in it is known.
    """

    def __init__(self, file: PlainFile, events_all: Path | None) -> None:
        super().__init__(file)
        packed = file.at(0, SAMPLE_BYTES)
        self._unwrapper = Unwrapper(packed)
        head = self._head = Unwrapper(packed).convert(packed, final=file.size <= SAMPLE_BYTES)
        check_readable(head, str(file.path))
        printer = printer_of(head)
        for sample in _samples(file, printer):
            known, self.declared = declared_for(
                events_all,
                lambda one: _readable(one, sample, printer),  # noqa: B023
            )
            if self.declared is not None:
                break
        if self.declared is None or (foreign_text(head) and not self.declared.fit):
            raise no_record(head, str(file.path))
        self._decoder = _decoder(known, printer)
        if b"\r" in head:
            probe = _decoder(known, printer)
            probe.end(Converter(printer).convert(head) if printer else head, Clocks(0))
            self._decoder.crlf = probe.crlf
        self.table = self._decoder.table
        kind = f"log text {printer.note}" if printer else "log text"
        self.notes = [f"{kind}, events {self.declared.words()}"]
        if self._unwrapper.note and printer is None:
            self.notes.append(self._unwrapper.note)
        self._converter = Converter(printer) if printer else None
        self._carry = b""
        self._found = self._dropping = False
        self._last_ns = 0

    def _decode(self, data: bytes) -> list[Item]:
        return self._records(*self._expanded(self._unwrapper.convert(data, final=self._ended)))

    def _release(self) -> list[Item]:
        text = b""
        if not is_part(self._carry):
            cut = self._carry.rfind(b"\n") + 1
            text, self._carry = self._carry[:cut], self._carry[cut:]
        items = self._records(*expand_repeats(text))
        return items + self._completed(self._decoder.release(Clocks(self._file.modified_ns)))

    def _records(self, text: bytes, left: int) -> list[Item]:
        """Decode whole lines; ``left`` more were repeated."""
        if self._converter is not None:
            text = self._converter.convert(text)
        clocks = Clocks(self._file.modified_ns)
        decoded = self._decoder.feed(text, clocks)
        if self._ended:
            decoded += self._decoder.flush(clocks)
        items = self._completed(decoded)
        if left:
            items.append(Loss(Backend.LOG, left, self._last_ns))
        if self._ended and self._converter is not None:
            items += self._converter.rest()
        if self._ended and self._dropping:
            items.append(Loss(Backend.LOG, None, self._last_ns))
        return items

    def _completed(self, decoded: Items) -> list[Item]:
        items: list[Item] = []
        for item in decoded:
            if isinstance(item, Batch):
                self._found = self._found or bool((item.event >= 0).any())
                items += self._with_losses(item)
            else:
                items.append(item)
        return items

    def _expanded(self, data: bytes) -> tuple[bytes, int]:
        """Join the parts of lines, and expand repeated lines, among those that are complete.

        The last complete line is kept: it may be a part.
        """
        data = join_parts(self._carry + data)
        cut = len(data) if self._ended else data.rfind(b"\n", 0, data.rfind(b"\n")) + 1
        if len(data) - cut > _CARRY_BYTES:
            cut = len(data)
        self._carry = data[cut:]
        return expand_repeats(data[:cut])

    def _with_losses(self, batch: Batch) -> list[Item]:
        """Cut a batch where records of a QEMU are reported as dropped."""
        items: list[Item] = []
        first = 0
        for row, loss in self._losses(batch):
            if row > first:
                items.append(batch.select(slice(first, row)))
            items.append(loss)
            first = row
        events = np.flatnonzero(batch.event >= 0)
        if len(events):
            self._last_ns = int(batch.time_ns[events[-1]])
        if first < len(batch):
            items.append(batch.select(slice(first, None)) if first else batch)
        return items

    def _losses(self, batch: Batch) -> Iterator[tuple[int, Loss]]:
        """Yield the losses in a batch, each with the row that it stands before."""
        if self._converter is not None:
            yield from self._converter.losses(batch)
            return
        if not may_hold_notice(batch.data):
            return
        events = np.flatnonzero(batch.event >= 0)
        for row in np.flatnonzero(batch.event < 0).tolist():
            if lost := self._dropped(batch.text(row).encode("utf-8", "surrogateescape")):
                before = int(np.searchsorted(events, row))
                time_ns = int(batch.time_ns[events[before - 1]]) if before else self._last_ns
                yield row + 1, Loss(Backend.LOG, lost, time_ns)

    def _dropped(self, line: bytes) -> int:
        """Return how many messages of a QEMU a log daemon reports as dropped; 0 if none."""
        notice = read_notice(line)
        if notice is None or not (b"qemu" in notice.name or _UNIT.search(notice.unit)):
            return 0
        if notice.pid or notice.lost:
            self._dropping = not notice.lost
        return notice.lost

    @property
    def unread(self) -> int:  # type: ignore[override]
        """How many lines so far have an event where a record should be, and could not be read."""
        return self._decoder.unread

    @property
    def unread_lines(self) -> list[str]:  # type: ignore[override]
        """The first of them."""
        return self._decoder.examples

    @property
    def problem(self) -> str:
        """Which part could not be read; empty if none."""
        if self._file.fault or self._found:
            return self._file.fault
        return str(no_record(self._head, str(self._file.path)))


def _samples(file: PlainFile, printer: Printer | None) -> Iterator[bytes]:
    """Yield parts of a file, from its begin: the first record may come late."""
    at = 0
    unwrapper = Unwrapper(file.at(0, SAMPLE_BYTES))
    while part := file.at(at, SAMPLE_BYTES):
        whole = part.rfind(b"\n") + 1 if len(part) == SAMPLE_BYTES else 0
        at += whole or len(part)
        text = unwrapper.convert(part[: whole or None], final=len(part) < SAMPLE_BYTES)
        text = expand_repeats(join_parts(text))[0]
        yield Converter(printer).convert(text) if printer else text


def _decoder(declared: Declarations, printer: Printer | None) -> TextDecoder:
    if printer is None:
        return TextDecoder(EventTable.build(None, declared.by_name))
    table = EventTable.build(None, printer.declared(declared).by_name)
    return TextDecoder(table, clock=Clock.MONOTONIC, backend=printer.backend)


def _readable(declared: Declarations, sample: bytes, printer: Printer | None) -> Score:
    """Count the lines of a sample that are events as declared, and all that QEMU traced."""
    decoder = _decoder(declared, printer)
    items = decoder.end(sample, Clocks(0))
    fit, _ = readable(items)
    batches = (item for item in items if isinstance(item, Batch))
    cut = sum(int(np.count_nonzero(one.cut)) for one in batches if one.cut is not None)
    names = map(bytes.decode, _NAMED.findall(sample))
    return Score(
        fit + cut, fit + decoder.unread + sum(name not in declared.by_name for name in names)
    )
