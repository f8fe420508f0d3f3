"""The destination of a recording: one file, or a ring in memory that is dumped to files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qtctl.commands.places import Out, free_name
from qtctl.model import Failure
from qtctl.recordings.recorder import FileRecorder, RecordingWriter, RingRecorder
from qtctl.text.style import counted

if TYPE_CHECKING:
    from qtctl.records.items import Item
    from qtctl.session.conditions import Condition
    from qtctl.session.merged_stream import Followed
    from qtctl.session.stream import Stream

DUMPS = 16
"""At most so many dumps by conditions; dumps on request are not limited."""
_BETWEEN_S = 1.0


class Written(NamedTuple):
    """A file that was written."""

    path: Path
    records: int
    size: int


class OneFile:
    """Writes all items to one file as they come."""

    def __init__(self, stream: Followed, out: Out) -> None:
        self._stream = stream
        self._writer = RecordingWriter(out.path, out.open(), _facts_of(stream))
        self._recorder = FileRecorder(self._writer, *stream.events())
        self.files: list[Written] = []

    @property
    def size(self) -> int:
        """Bytes written."""
        return self._writer.size

    def add(self, item: Item) -> list[str]:
        """Add an item."""
        self._recorder.add(item)
        return []

    def tick(self) -> list[str]:
        """Flush."""
        self._recorder.flush()
        return []

    def end(self, *, lost: bool) -> list[str]:
        """Write the rest and the index."""
        writer = self._writer
        try:
            if not writer.failed:
                self._recorder.end(self._stream.counts)
        finally:
            self.files.append(Written(writer.path, writer.rows, writer.size))
            writer.close()
        return []


class RingFiles:
    """A ring that is dumped to ``out``, then ``out.1`` and so on, each time its new records.

    It is dumped when one of ``conditions`` holds, soon after :meth:`ask`, when the guest goes away,
    and ``at_end``.
    """

    def __init__(
        self,
        stream: Followed,
        out: Out,
        limit: tuple[int | None, float | None],
        conditions: Sequence[Condition] = (),
        *,
        at_end: bool = True,
    ) -> None:
        self._facts = _facts_of(stream)
        self._ring = RingRecorder(*stream.events(), limit_bytes=limit[0], limit_s=limit[1])
        self._path = out.path
        self._conditions = conditions
        self._at_end = at_end
        self._reason = ""
        self._asked = ""
        self._dumped = 0
        self._before = -_BETWEEN_S
        self.files: list[Written] = []

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._ring.size

    def add(self, item: Item) -> list[str]:
        """Add an item; dump the ring if a condition holds for it."""
        self._ring.add(item)
        if isinstance(item, Failure):
            self._reason = f"{item.guest} went away"
        for condition in self._conditions:
            if condition.matches(item)[0]:
                self._reason = condition.text
        return self._due()

    def ask(self, reason: str) -> None:
        """Request a dump with the next item or tick."""
        self._asked = reason

    def tick(self) -> list[str]:
        """Dump the ring if that was requested or postponed."""
        self._ring.flush()
        return self._due()

    def _due(self) -> list[str]:
        asked, self._asked = self._asked, ""
        if asked:
            self._ring.flush()
            if not self._ring.size:
                return [f"{asked}: nothing came since the ring was written last"]
            return self._dump(asked)
        now = time.monotonic()
        if not self._reason or now - self._before < _BETWEEN_S or self._dumped >= DUMPS:
            return []
        reason, self._reason, self._before = self._reason, "", now
        self._dumped += 1
        messages = self._dump(reason)
        if self._dumped == DUMPS:
            messages.append(f"written {DUMPS} times: no condition has it written again")
        return messages

    def _dump(self, reason: str) -> list[str]:
        path = free_name(self._path)
        facts = {**self._facts, "dumped_on": reason}
        writer = RecordingWriter(path, Out(path).open(), facts)
        try:
            self._ring.dump(writer)
        finally:
            writer.close()
        self.files.append(Written(path, writer.rows, writer.size))
        return [f"{reason}: {counted(writer.rows, 'record')} written to {path}"]

    def end(self, *, lost: bool) -> list[str]:
        """Dump the rest, if the guest was lost or ``at_end`` was set."""
        self._ring.flush()
        messages = self._due()
        if self._ring.rows and (lost or self._at_end):
            messages += self._dump("the guest went away" if lost else "the end")
        return messages


Destination = OneFile | RingFiles
"""Stores the items of a stream. The methods block, and return messages for people.

Raises, in all of them:
    QtctlError: a file cannot be written.
"""


def _facts_of(stream: Followed) -> dict[str, Any]:
    """Return the header of a recording: its guest or guests, patterns and begin."""
    from qtctl.session.merged_stream import MergedStream

    facts: dict[str, Any] = {
        "patterns": list(stream.selection.words()),
        "where": stream.where,
        "began_ns": stream.began_ns,
    }
    if isinstance(stream, MergedStream):
        return {"guests": [_source_of(one) for one in stream.parts.values()], **facts}
    return {**_source_of(stream), **facts}


def _source_of(stream: Stream) -> dict[str, Any]:
    """Return the guest of a stream, and where its records are read."""
    guest, monitor = stream.session.guest, stream.session.monitor
    return {
        "guest": {
            "pid": guest and guest.pid,
            "name": guest and guest.name,
            "version": ".".join(map(str, monitor.version)),
            "monitor": stream.session.where,
        },
        "backend": stream.backend,
        "source": stream.source,
    }
