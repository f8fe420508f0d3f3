"""Reading saved files without a guest: recordings, traces, logs."""

from __future__ import annotations

import threading
from pathlib import Path

from qtctl.analysis.spans import Span
from qtctl.backends.followed import FollowedFile
from qtctl.backends.piped import STDIN, open_readable
from qtctl.backends.saved import SAMPLE_BYTES, Fit, PlainFile, SavedFile
from qtctl.backends.table import saved_parts
from qtctl.errors import QtctlError
from qtctl.events.selection import Selection
from qtctl.leases.leasing import nothing_matched
from qtctl.model import Clock, Declaration
from qtctl.recordings import saved
from qtctl.records.batch import Batch
from qtctl.records.items import Item, Loss, labelled
from qtctl.records.printf import HexArguments
from qtctl.session.ahead import ReadAhead
from qtctl.session.filter import RecordFilter


class Replay:
    """One file, or a folder of LTTng; call :meth:`step` until None, then read :attr:`problem`.

    A recording contains its declarations; those of other files come from ``events_all``, else from
    the installed QEMU that fits best. ``again``: it will be opened again, also if it is a pipe.
    ``follow``: it is read on as it grows. ``ahead``: else, and unless it is a pipe, it is decoded
    ahead in a thread, while that has a turn. ``label``: its name in origins and losses, none if it
    is the only file. Pipes, and files that are followed, end when ``stop`` is set.
    ``notes`` describe how the file is read; ``size`` is in bytes, 0 where it is unknown; ``clocks``
    are those of its times so far.

    Raises:
        UsageError: the file cannot be read, or ``where`` is wrong.
        NothingMatched: ``selection`` picks no event.
        QtctlError: the file's format is not known.
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
        again: bool = False,
        follow: bool = False,
        ahead: threading.Semaphore | None = None,
        label: str | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self.path = path
        self._label = label
        self.clocks: set[Clock] = set()
        self._file = open_saved(path, events_all, again=again, follow=follow, stop=stop)
        if ahead is not None and not follow and self._file.size:
            self._file = ReadAhead(self._file, ahead)
        self.notes, self.size = self._file.notes, self._file.size
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
        self.counts.declared = tuple(filter(None, [self._file.declared]))
        self._span = Span()
        self._ended = False

    @property
    def taken(self) -> int:
        """Bytes read so far."""
        return self._file.taken

    @property
    def problem(self) -> str:
        """Which part could not be read, once the end was reached; empty if none."""
        return self._file.problem if self._ended else ""

    @property
    def unread_lines(self) -> tuple[str, ...]:
        """The first of the lines that are counted as unread."""
        return tuple(self._file.unread_lines)

    @property
    def remark(self) -> str:
        """A warning about times that step back in the records so far; empty if they do not."""
        span = self._span
        if not span.steps:
            return ""
        times = "once" if span.steps == 1 else f"{span.steps} times"
        return (
            f"{self.path}: times go back {times}, by {span.back_ns / 1e9:,.1f} s at most (a clock "
            "was set, or another run begins): records are in the order of the file"
        )

    def declared(self) -> list[Declaration]:
        """Return the declarations of the picked events."""
        declared = self.table.declarations
        return [declared[name] for name in self.picked if name in declared]

    def hex_arguments(self) -> HexArguments:
        """Return, by event, the arguments that QEMU prints in hex; pointers are among them."""
        return HexArguments(self.declared())

    def step(self) -> list[Item] | None:
        """Read on and return the filtered items; None at the end. Blocks shortly."""
        if self._filter.full():
            return None
        items = self._file.read()
        self.counts.unread = self._file.unread
        if items is None:
            self._ended = True
            return None
        if self._label is not None:
            label = self._label
            items = [labelled(i, file=label) if isinstance(i, Batch | Loss) else i for i in items]
        taken = (self._filter.apply(i) if isinstance(i, Batch | Loss) else i for i in items)
        shown = [item for item in taken if item is not None]
        for item in shown:
            if isinstance(item, Batch):
                late = item.arrived
                self.clocks.add(Clock.ARRIVAL if late.all() else item.clock)
                self._span.take(item.time_ns[~late] if late.any() else item.time_ns)
        return shown

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_saved(
    path: Path,
    events_all: Path | None,
    *,
    again: bool = False,
    follow: bool = False,
    stop: threading.Event | None = None,
) -> SavedFile:
    """Open a file of any known format as the kind that it fits best; ``-`` is standard input.

    See :class:`Replay` for ``again``, ``follow`` and ``stop``.

    Raises:
        UsageError: the file cannot be read.
        QtctlError: its format is not known.
    """
    stop = stop or threading.Event()
    folder = path != STDIN and path.is_dir()
    file: PlainFile | None = None
    if follow and path != STDIN:
        file = FollowedFile(path, stop)
    elif not folder:
        file = open_readable(path, stop, again=again)
    try:
        head = None if file is None else file.at(0, SAMPLE_BYTES)
        if file is not None and file.fault:
            raise QtctlError(file.fault)
        kinds = [saved, *saved_parts()]
        fits = [kind.fit(path, head) for kind in kinds]
        best = max(fits)
        if file is not None and best is Fit.CERTAIN:  # no text: its parts are needed in any order
            file = file.whole()
        return kinds[fits.index(best)].open_saved(path, file, events_all)
    except BaseException:
        if file is not None:
            file.close()
        raise
