"""Reading what was written earlier, without a guest: recordings, traces, logs."""

from __future__ import annotations

from pathlib import Path

from qtctl.analysis.spans import Span
from qtctl.backends.ftrace.saved import FtraceFile, is_ftrace
from qtctl.backends.log.saved import LogFile
from qtctl.backends.saved import SAMPLE_BYTES, PlainFile, SavedFile
from qtctl.backends.simple.decoder import is_simple
from qtctl.backends.simple.saved import SimpleFile
from qtctl.backends.ust.saved import LttngFolder
from qtctl.errors import QtctlError
from qtctl.events.patterns import Selection
from qtctl.leases.leasing import nothing_matched
from qtctl.recordings.chunks import is_recording
from qtctl.recordings.saved import RecordingFile
from qtctl.records.batch import Batch
from qtctl.records.items import Item, Loss
from qtctl.records.printf import hex_arguments
from qtctl.session.filter import RecordFilter

_MAGIC_BYTES = 16


class Replay:
    """One file, or a folder of LTTng's; :meth:`step` until it gives None, then :attr:`problem`.

    A recording has its declarations in it; those of other files are ``events_all``'s, else the
    installed QEMU's that fits best. ``notes`` tell people what was taken for what.

    Raises:
        UsageError: the file cannot be read, or ``where`` is wrong.
        NothingMatched: ``selection`` picks no event.
        QtctlError: it is not a file of a kind that is read here.
    """

    def __init__(
        self,
        path: Path,
        *,
        events_all: Path | None = None,
        selection: Selection,
        where: str | None = None,
        text: bool = False,
        limit: int | None = None,
    ) -> None:
        self.path = path
        self._file = open_saved(path, events_all)
        try:
            self.table = self._file.table
            every = list(self.table.names)
            chosen = selection.pick(every) if selection else every
            if selection and not chosen:
                raise nothing_matched(selection, every, str(path), f"qtctl count --from {path}")
            self.picked = tuple(chosen)
            self._filter = RecordFilter(text=text, limit=limit)
            self._filter.pick(self.table, self.picked, where)
        except BaseException:
            self._file.close()
            raise
        self.counts = self._filter.counts
        self._span = Span()
        self._ended = False

    @property
    def notes(self) -> list[str]:
        """What people should know of how it is read."""
        return self._file.notes

    @property
    def size(self) -> int:
        """Bytes there are to read; 0 where that cannot be known."""
        return self._file.size

    @property
    def taken(self) -> int:
        """Bytes read so far."""
        return self._file.taken

    @property
    def problem(self) -> str:
        """What of it could not be read, once the end was reached; empty if nothing."""
        return self._file.problem if self._ended else ""

    @property
    def remark(self) -> str:
        """What should be known of the times that were shown so far; empty if nothing."""
        span = self._span
        if not span.steps:
            return ""
        times = "once" if span.steps == 1 else f"{span.steps} times"
        return (
            f"{self.path}: times go back {times}, by {span.back_ns / 1e9:,.1f} s at most (a clock "
            "was set, or another run begins): records are in the order of the file"
        )

    def hex_arguments(self) -> dict[str, frozenset[str]]:
        """Return, by event, the arguments that QEMU prints in hex; pointers are among them."""
        declared = self.table.declarations
        return {n: hex_arguments(declared[n]) for n in self.picked if n in declared}

    def step(self) -> list[Item] | None:
        """Read on; return what of it is shown, None at the end. Blocks shortly."""
        if self._filter.full():
            return None
        items = self._file.read()
        if items is None:
            self._ended = True
            return None
        taken = (self._filter.apply(i) if isinstance(i, Batch | Loss) else i for i in items)
        shown = [item for item in taken if item is not None]
        for item in shown:
            if isinstance(item, Batch):
                late = item.arrived
                self._span.take(item.time_ns[~late] if late.any() else item.time_ns)
        return shown

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_saved(path: Path, events_all: Path | None) -> SavedFile:
    """Open a file of whatever kind it is.

    Raises:
        UsageError: it cannot be read.
        QtctlError: it is not of a kind that is read here.
    """
    if path.is_dir():
        return LttngFolder(path, events_all)
    file = PlainFile(path)
    try:
        head = file.at(0, _MAGIC_BYTES)
        if file.fault:
            raise QtctlError(file.fault)
        if is_recording(head):
            return RecordingFile(file, events_all)
        if is_simple(head):
            return SimpleFile(file, events_all)
        if is_ftrace(file.at(0, SAMPLE_BYTES)):
            return FtraceFile(file, events_all)
        return LogFile(file, events_all)
    except BaseException:
        file.close()
        raise
