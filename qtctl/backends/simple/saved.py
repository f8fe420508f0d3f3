"""Reading a file that QEMU's simple backend wrote."""

from __future__ import annotations

from pathlib import Path

from qtctl.backends.base import Clocks
from qtctl.backends.declared import best_installed, read_declarations
from qtctl.backends.saved import SAMPLE_BYTES, Fit, PlainFile, SavedPlain
from qtctl.backends.simple.decoder import SimpleDecoder, check_header, is_simple, read_names
from qtctl.events.declarations import Declarations
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item
from qtctl.text.style import counted

_FEWEST = 0.5
"""Share of a file's events that declarations must know to be taken for the right ones."""


def fit(path: Path, head: bytes | None) -> Fit:
    """Check the magic number."""
    return Fit.CERTAIN if head is not None and is_simple(head) else Fit.NO


def open_saved(path: Path, file: PlainFile | None, events_all: Path | None) -> SimpleFile:
    """Open a file of this kind; see :class:`SimpleFile`."""
    assert file is not None
    return SimpleFile(file, events_all)


class SimpleFile(SavedPlain):
    """A simple trace; its declarations are those of ``events_all``, else those that fit best.

    Raises:
        QtctlError: it is of a version or byte order that is not read here.
    """

    _lines = False

    def __init__(self, file: PlainFile, events_all: Path | None) -> None:
        super().__init__(file)
        head = file.at(0, SAMPLE_BYTES)
        check_header(head, str(file.path))
        names = read_names(head)
        self.notes: list[str] = []
        declared = self._declarations(names, events_all).by_name
        self.table = EventTable.build([*names, *declared], declared)
        self._decoder = SimpleDecoder(self.table)

    def _declarations(self, names: list[str], events_all: Path | None) -> Declarations:
        kind = f"simple trace, {counted(len(names), 'event')}"

        def known(found: Declarations) -> int:
            return sum(name in found.by_name for name in names)

        if events_all is not None:
            declared = read_declarations(events_all)
            self.notes.append(f"{kind}, {known(declared)} of them declared in {events_all}")
            return declared
        best, score, path = best_installed(known)
        if path is None or score <= _FEWEST * len(names):
            self.notes.append(
                f"{kind}, and no trace-events-all that fits: arguments stay hex; "
                "try: --events-all FILE"
            )
            return Declarations({})
        self.notes.append(
            f"{kind}, {score} of them declared in {path} (a guess; else: --events-all FILE)"
        )
        if score < len(names):
            self.notes.append("that is of another build: arguments may be named or read wrong")
        return best

    def _decode(self, data: bytes) -> list[Item]:
        clocks = Clocks(0)
        if not data and self._file.grew():
            # The rest of the last record was written after the file was opened.
            return [*self._decoder.release(clocks)]
        return [*(self._decoder.feed(data, clocks) if data else self._decoder.flush(clocks))]

    @property
    def problem(self) -> str:
        """Which part could not be read; empty if none."""
        decoder = self._decoder
        if self._file.fault or not decoder.unread or decoder.first_unread is None:
            return self._file.fault
        cut = decoder.first_unread + decoder.unread == self.taken
        return (
            f"{self._file.path} {'is cut off in a record' if cut else 'is garbled'} at byte "
            f"{decoder.first_unread}: {decoder.unread} of {self.taken} bytes could not be read, "
            f"{decoder.records} records were"
        )
