"""Reading a folder that LTTng wrote: the packets of all streams below it, by time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.declared import Score, declared_for
from qtctl.backends.ring.ordering import Ordering
from qtctl.backends.saved import Fit, PlainFile
from qtctl.backends.ust.arguments import CtfArguments
from qtctl.backends.ust.ctf import (
    PROVIDER,
    TraceMetadata,
    agrees,
    declared_events,
    own_events,
    plain_fields,
)
from qtctl.backends.ust.decoder import HEAD_LIMIT, CtfDecoder
from qtctl.backends.ust.layout import PacketHead, TraceLayout
from qtctl.backends.ust.metadata import parse_metadata
from qtctl.backends.ust.program import REGISTERS
from qtctl.errors import QtctlError, UsageError
from qtctl.events.declarations import Declarations
from qtctl.model import Declaration
from qtctl.records.counts import Declared
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Items
from qtctl.text.style import counted

_MOST = 1000
_METADATA_BYTES = 1 << 26
_CLOCKS = Clocks(0)


def fit(path: Path, head: bytes | None) -> Fit:
    """Accept any folder."""
    return Fit.CERTAIN if head is None else Fit.NO


def open_saved(path: Path, file: PlainFile | None, events_all: Path | None) -> LttngFolder:
    """Open the traces below a folder; see :class:`LttngFolder`."""
    return LttngFolder(path, events_all)


@dataclass
class _StreamFile:
    """A file of a stream, and what its first packet begins with."""

    path: Path
    layout: TraceLayout
    head: PacketHead | None
    size: int


@dataclass
class _FolderStream:
    """The files of one stream, in order; ``bad`` are those that could not be read whole."""

    parts: list[_StreamFile]
    decoder: CtfDecoder
    bad: list[str] = field(default_factory=list)
    _file: PlainFile | None = None

    def read(self) -> tuple[Items, int] | None:
        """Return the next items and how many bytes they took; None at the end."""
        if self._file is None:
            if not self.parts:
                return None
            self._file = PlainFile(self.parts[0].path)
            self.decoder.layout = self.parts[0].layout
        data = self._file.more()
        if data:
            return self.decoder.feed(data, _CLOCKS), len(data)
        items = self.decoder.end_file(_CLOCKS)
        if self._file.fault:
            self.bad.append(self._file.fault)
        elif self.decoder.first_bad is not None:
            self.bad.append(f"{self._file.path}, at byte {self.decoder.first_bad}")
        self.decoder.begin_file()
        self.close()
        del self.parts[0]
        return items, 0

    def close(self) -> None:
        """Close the file that is open."""
        if self._file is not None:
            self._file.close()
            self._file = None


class LttngFolder:
    """The QEMU events of the LTTng traces below a folder.

    Declarations are those of ``events_all``, else the installed QEMU's that fit best; and the
    trace's own of events that these do not declare as the trace has them.

    Raises:
        QtctlError: there is no trace below it, none of QEMU, or its metadata cannot be read.
    """

    declared: Declared | None = None
    unread = 0
    unread_lines: Sequence[str] = ()

    def __init__(self, path: Path, events_all: Path | None) -> None:
        self.path = path
        self.notes: list[str] = []
        self.taken = 0
        traces = _traces(path)
        written = _events(path, [*traces.values()])
        declared = self._declared(written, events_all)
        self.table = EventTable.build([*written, *declared], declared)
        parts = [part for one in self._layouts(traces).items() for part in _parts(*one)]
        self.size = sum(part.size for part in parts)
        self._streams = _streams(parts)
        self._open = list(self._streams)
        self._ordering = Ordering()
        self.notes += _notes(traces.values(), self._streams)

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

    def _layouts(self, traces: Mapping[Path, TraceMetadata]) -> dict[Path, TraceLayout]:
        """Compile the traces that have events of QEMU; all share one reader of arguments.

        Of an event whose fields differ, those of the first trace are read.
        """
        chosen = {folder: trace for folder, trace in traces.items() if own_events(trace)}
        fields = {
            event.name: plain_fields(event)
            for trace in reversed(chosen.values())
            for event in own_events(trace)
        }
        first = next(iter(chosen.values()))
        kept = {
            event.name: event
            for trace in chosen.values()
            for event in own_events(trace)
            if plain_fields(event) == fields[event.name]
        }
        reader = CtfArguments.of(self.table, kept.values(), big=first.big)
        layouts = {}
        for folder, trace in chosen.items():
            odd = {
                event.name
                for event in own_events(trace)
                if plain_fields(event) != fields[event.name]
            }
            if odd:
                names = ", ".join(sorted(name.removeprefix(PROVIDER) for name in odd))
                self.notes.append(f"not read from {folder}, as another trace differs: {names}")
            try:
                layouts[folder] = TraceLayout(trace, self.table, reader, odd)
            except ValueError as error:
                raise _malformed(folder / "metadata", error) from error
        return layouts

    def read(self) -> list[Item] | None:
        """Read and decode the next part; None at the end."""
        if not self._open:
            return None
        stream = min(self._open, key=lambda one: one.decoder.last_ns)
        found = stream.read()
        if found is None:
            self._open.remove(stream)
            items: Items = []
        else:
            items, size = found
            self.taken += size
        if len(self._open) == 1 and not self._ordering:
            return [*items]
        self._ordering.add(items)
        # What comes next is not older, but may be of the same time.
        return [
            *self._ordering.take(min((s.decoder.last_ns + 1 for s in self._open), default=None))
        ]

    @property
    def problem(self) -> str:
        """Which part could not be read; empty if none."""
        bad = [one for stream in self._streams for one in stream.bad]
        if not bad:
            return ""
        more = f", nor of {counted(len(bad) - 1, 'other file')}" if len(bad) > 1 else ""
        return f"cannot read all of {bad[0]}{more}"

    def close(self) -> None:
        """Close the files."""
        for stream in self._streams:
            stream.close()


def _malformed(path: Path, error: ValueError) -> QtctlError:
    return QtctlError(
        f"cannot read the metadata in {path}: {error}",
        hint="of a session that runs: lttng stop first",
    )


def _traces(path: Path) -> dict[Path, TraceMetadata]:
    """Return the traces below a folder, by their folder."""
    found = sorted(islice(path.rglob("metadata"), _MOST))
    if not found:
        raise QtctlError(
            f"{path} is a folder without an LTTng trace",
            hint="the folder that `lttng create --output` made, or a file",
        )
    traces = {}
    for file in found:
        try:
            with file.open("rb") as opened:
                traces[file.parent] = parse_metadata(opened.read(_METADATA_BYTES))
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}") from error
        except ValueError as error:
            raise _malformed(file, error) from error
    return traces


def _events(path: Path, traces: list[TraceMetadata]) -> dict[str, Declaration]:
    """Return the events of QEMU that the metadata declare."""
    events: dict[str, Declaration] = {}
    for trace in traces:
        events = declared_events(trace) | events
    if events:
        return events
    if any(trace.environment.get("tracer_name") == "qtctl" for trace in traces):
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


def _parts(folder: Path, layout: TraceLayout) -> list[_StreamFile]:
    """Return the files of a trace that may hold events of QEMU."""
    found = []
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        if not entry.is_file() or entry.name == "metadata" or entry.name.startswith("."):
            continue
        size = entry.stat().st_size
        if not size:
            continue
        head = None
        try:
            with open(entry.path, "rb") as file:  # noqa: PTH123 - an entry's path
                start = file.read(HEAD_LIMIT)
            head = layout.read_head(start, 0, np.zeros(REGISTERS, np.int64))
        except OSError as error:
            raise UsageError(f"cannot read {entry.path}: {error.strerror}") from error
        except ValueError:
            pass  # it is garbled: reading it tells where
        if head is None or layout.streams[head.stream].useful:
            found.append(_StreamFile(Path(entry.path), layout, head, size))
    return found


def _streams(parts: list[_StreamFile]) -> list[_FolderStream]:
    """Group the files: a stream may go on in other files, also of another folder."""
    groups: dict[object, list[_StreamFile]] = {}
    for part in parts:
        key: object = part.path
        if part.head is not None and part.head.instance >= 0 and part.layout.trace.uuid:
            key = part.layout.trace.uuid, part.head.stream, part.head.instance
        groups.setdefault(key, []).append(part)
    found = []
    for group in groups.values():
        group.sort(key=lambda part: part.head.first if part.head else 0)
        found.append(_FolderStream(group, CtfDecoder(group[0].layout)))
    return found


def _notes(traces: Iterable[TraceMetadata], streams: list[_FolderStream]) -> list[str]:
    """Return what the user should know that is no record."""
    notes = []
    others: Counter[str] = Counter()
    for trace in traces:
        kernel = trace.environment.get("domain") == "kernel"
        for event in trace.events:
            if not event.name.startswith(PROVIDER):
                others["the kernel" if kernel else event.name.partition(":")[0]] += 1
    if others:
        words = (f"{counted(count, 'event')} of {name}" for name, count in others.most_common(5))
        more = f" and of {len(others) - 5} more" if len(others) > 5 else ""
        notes.append(f"not read, as they are not QEMU's: {', '.join(words)}{more}")
    heads = [stream.parts[0].head for stream in streams]
    missing = sum(max(0, head.sequence) for head in heads if head is not None)
    if missing:
        notes.append(
            f"{counted(missing, 'packet')} before the first that is there are missing: "
            "overwritten, or in another folder"
        )
    return notes
