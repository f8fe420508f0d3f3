"""Reading a folder that LTTng wrote, through babeltrace2 as the live backend does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from qtctl.backends.base import Clocks
from qtctl.backends.declared import Score, declared_for
from qtctl.backends.saved import CHUNK_BYTES, Fit, PlainFile
from qtctl.backends.ust import lttng
from qtctl.backends.ust.ctf_metadata import agrees, context_place, declared_events, metadata_text
from qtctl.backends.ust.decoder import LttngDecoder
from qtctl.errors import QtctlError, UsageError
from qtctl.events.declarations import Declarations
from qtctl.model import Declaration
from qtctl.records.batch import Batch
from qtctl.records.counts import Declared
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item
from qtctl.text.style import counted

_MOST = 1000
_METADATA_BYTES = 1 << 26


def fit(path: Path, head: bytes | None) -> Fit:
    """Accept any folder."""
    return Fit.CERTAIN if head is None else Fit.NO


def open_saved(path: Path, file: PlainFile | None, events_all: Path | None) -> LttngFolder:
    """Open the traces below a folder; see :class:`LttngFolder`."""
    return LttngFolder(path, events_all)


class LttngFolder:
    """The QEMU events of the LTTng traces below a folder.

    Declarations are those of ``events_all``, else the installed QEMU's that fit best; and the
    trace's own of events that these do not declare as the trace has them.

    Raises:
        QtctlError: there is no trace below it, or none of QEMU.
        Unsupported: babeltrace2 is missing.
    """

    declared: Declared | None = None
    unread = 0
    unread_lines: Sequence[str] = ()

    def __init__(self, path: Path, events_all: Path | None) -> None:
        self.path = path
        self.notes: list[str] = []
        self.taken = self.size = 0
        texts = _metadata(path)
        written = _events(path, texts)
        declared = self._declared(written, events_all)
        self.table = EventTable.build([*written, *declared], declared)
        text = b"".join(texts)
        places = context_place(text, b"vtid"), context_place(text, b"vpid")
        self._decoder = LttngDecoder(self.table, thread=places[0], process=places[1])
        self._last_text = ""
        self._ended = False
        self._reader = lttng.show(path)

    def _declared(
        self, written: Mapping[str, Declaration], events_all: Path | None
    ) -> Mapping[str, Declaration]:
        def score(all_: Declarations) -> Score:
            return Score(len(_fitting(all_.by_name, written)), len(written))

        best, self.declared = declared_for(events_all, score, "event")
        found = best.by_name
        fitting = _fitting(found, written)
        if self.declared is None or not fitting:
            source = "declared by the trace itself"
        elif len(fitting) == len(written):
            source = self.declared.source
        else:
            source = (
                f"{len(fitting)} of them {self.declared.source}, the rest as the trace has them"
            )
        self.notes.append(f"LTTng trace, {counted(len(written), 'event')}, {source}")
        others = {name: one for name, one in found.items() if name not in written}
        return {**written, **fitting, **(others if fitting else {})}

    def read(self) -> list[Item] | None:
        """Read and decode the next part; None at the end."""
        if self._ended:
            return None
        assert self._reader.stdout is not None
        data = self._reader.stdout.read(CHUNK_BYTES)
        self.taken += len(data)
        self._ended = not data
        clocks = Clocks(0)
        found = self._decoder.feed(data, clocks) if data else self._decoder.flush(clocks)
        for item in found:
            if isinstance(item, Batch) and (texts := item.groups().get(-1)) is not None:
                self._last_text = item.text(int(texts[-1]))
        return [*found]

    @property
    def problem(self) -> str:
        """Which part could not be read; empty if none."""
        if not self._ended or not self._reader.wait():
            return ""
        return f"babeltrace2 cannot read all of {self.path}: {self._last_text.strip()[:500]}"

    def close(self) -> None:
        """End babeltrace2."""
        with self._reader:
            self._reader.kill()


def _metadata(path: Path) -> list[bytes]:
    """Return the text of each trace's metadata below a folder."""
    found = list(islice(path.rglob("metadata"), _MOST))
    if not found:
        raise QtctlError(
            f"{path} is a folder without an LTTng trace",
            hint="the folder that `lttng create --output` made, or a file",
        )
    texts = []
    for file in found:
        try:
            with file.open("rb") as opened:
                texts.append(metadata_text(opened.read(_METADATA_BYTES)))
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from error
    return texts


def _events(path: Path, texts: list[bytes]) -> dict[str, Declaration]:
    """Return the events of QEMU that the metadata declare."""
    events: dict[str, Declaration] = {}
    for text in texts:
        events |= declared_events(text)
    if events:
        return events
    if any(b'tracer_name = "qtctl"' in text for text in texts):
        raise QtctlError(
            f"{path} is what `qtctl export --to ctf` wrote, which is for other tools",
            hint="read the file that it was made from, or babeltrace2 on this folder",
        )
    raise QtctlError(
        f"the trace in {path} has no event of QEMU",
        hint="record them with: lttng enable-event -u 'qemu:*'",
    )


def _fitting(
    declared: Mapping[str, Declaration], written: Mapping[str, Declaration]
) -> dict[str, Declaration]:
    """Return the declarations that are of events in the trace, and as it has them."""
    return {
        name: declared[name]
        for name, own in written.items()
        if name in declared and agrees(declared[name], own)
    }
