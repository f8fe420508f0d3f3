"""Reading a file that QEMU's simple backend wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qtctl.backends.base import Clocks
from qtctl.backends.declared import Score, declaration_files, declared_for, readable
from qtctl.backends.saved import SAMPLE_BYTES, Fit, PlainFile, SavedPlain
from qtctl.backends.simple.decoder import SimpleDecoder, read_names
from qtctl.backends.simple.forms import Form, as_written, form_of, is_simple, numbered
from qtctl.errors import QtctlError
from qtctl.events.declarations import Declarations
from qtctl.model import Declaration
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
        QtctlError: it is of an unknown version, or holds no names and no declarations were given.
    """

    _lines = False

    def __init__(self, file: PlainFile, events_all: Path | None) -> None:
        super().__init__(file)
        head = file.at(0, SAMPLE_BYTES)
        form = form_of(head, str(file.path))
        names = read_names(head, form)
        declared = self._declarations(names, events_all).by_name if form.named else {}
        if not form.named:
            declared, names = self._by_number(form, events_all)
        self.table = EventTable.build([*names, *declared], declared)

        def decoder() -> SimpleDecoder:
            return SimpleDecoder(self.table, form=form, numbered=() if form.named else names)

        self._decoder = decoder()
        if self.declared is not None:
            fit, of = readable(decoder().feed(head, Clocks(0)))
            self.declared = self.declared._replace(fit=fit, of=of)
        kind = "simple trace" if form.version == 4 else f"simple trace of version {form.version}"
        order = f", {form.order} endian" if form.swapped else ""
        what = f"{kind}{order}, {counted(len(names), 'event')}"
        if self.declared is None:
            source = "no trace-events-all that fits: arguments stay hex; try: --events-all FILE"
            self.notes = [f"{what}, and {source}"]
        else:
            known = sum(name in declared for name in names)
            some = "" if known == len(names) else f"{known} of them "
            self.notes = [f"{what}, {some}{self.declared.words()}"]

    def _declarations(self, names: list[str], events_all: Path | None) -> Declarations:
        """Return the declarations for events of known names."""

        def known(found: Declarations) -> Score:
            return Score(sum(name in found.by_name for name in names), len(names))

        found, self.declared = declared_for(events_all, known)
        if self.declared is None or (
            self.declared.guess and self.declared.fit <= _FEWEST * len(names)
        ):
            self.declared = None
            return Declarations({})
        return found

    def _by_number(
        self, form: Form, events_all: Path | None
    ) -> tuple[Mapping[str, Declaration], list[str]]:
        """Return the declarations of a file without names, and the names by id."""
        where = f"{self._file.path} (version {form.version} of the simple backend)"
        hint = "--events-all FILE, the trace-events of the QEMU that wrote it"
        if events_all is None:
            raise QtctlError(f"{where} has numbers for the names of its events", hint=hint)
        if len(files := declaration_files(events_all)) > 1:
            raise QtctlError(
                f"{where} numbers the events of one file, and {events_all} has {len(files)}",
                hint=f"{hint}: its trace-events-all (2.7)",
            )
        found, self.declared = declared_for(events_all, lambda _: Score(0, 0))
        return as_written(found.by_name, form.version), numbered(found.by_name, form.version)

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
