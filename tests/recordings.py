"""Writes recordings of batches that a test has, and reads them back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qtctl.events.selection import Selection
from qtctl.model import Declaration
from qtctl.recordings.recorder import FileRecorder, RecordingWriter
from qtctl.records import schema
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.counts import Counts
from qtctl.records.items import Item
from qtctl.session.replay import Replay

FACTS = {
    "guest": {"pid": 4711, "name": "vm1", "version": "7.2.22"},
    "backend": "simple",
    "patterns": ["*"],
}


def write(
    path: Path,
    items: Iterable[Item],
    declared: Mapping[str, Declaration],
    *,
    names: Iterable[str] = (),
    every: bool = False,
    end: bool = True,
) -> None:
    """Record items to a new file; ``every`` makes each a chunk of its own."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    writer = RecordingWriter(path, fd, FACTS)
    recorder = FileRecorder(writer, names, declared)
    rows = 0
    for item in items:
        recorder.add(item)
        rows += len(item) if isinstance(item, Batch) else 0
        if every:
            recorder.flush()
    if end:
        recorder.end(Counts(read=rows, shown=rows))
    else:
        recorder.flush()
    writer.close()


def read(path: Path, **options: Any) -> tuple[list[Item], Replay]:
    """Read all of a file; the second is closed, and tells the counts and the problem."""
    replay = Replay(path, **{"selection": Selection(()), "text": True, **options})
    items: list[Item] = []
    try:
        while (step := replay.step()) is not None:
            items += step
    finally:
        replay.close()
    return items, replay


def objects(items: Iterable[Item]) -> list[Any]:
    """Return records and notes as JSON objects, whatever batches they come in."""
    found: list[Any] = []
    for item in items:
        if isinstance(item, Batch):
            found += [[schema.record(record), _rest(record)] for record in item.records()]
        else:
            found.append(schema.to_object(item))
    return found


def _rest(record: Record) -> Any:
    return [record.pid, record.tid, record.time_ns, record.clock, record.raw, record.line]
