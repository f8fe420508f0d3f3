"""Rows of arguments as babeltrace2 printed them for qtctl 0.1."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from qtctl.backends.base import Clocks
from qtctl.backends.splitting import as_batch
from qtctl.backends.ust.arguments import FieldReader
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from tests.samples import capture, event_table

_LINE = re.compile(rb"^\[\S+\] \(\S+\) vm qemu:(\w+): .*?\}, \{.*?\}, (\{ .* \})$", re.MULTILINE)


def rows(table: EventTable, printed: Sequence[tuple[str, bytes]], pid: int | None = 1) -> Batch:
    """Return a batch of events and what was printed of their arguments."""
    data = b"".join(text for _, text in printed)
    stop = np.cumsum([len(text) for _, text in printed])
    begin = stop - [len(text) for _, text in printed]
    event = np.array([table.indices[name] for name, _ in printed], np.int32)
    times, tid = np.arange(len(event), dtype=np.int64), np.full(len(event), 7, np.int32)
    columns = (event, times, tid, begin, begin, stop)
    reader = FieldReader(table)
    return as_batch(table, data, columns, Clocks(0), Backend.UST, pid=pid, reader=reader)


def captured() -> Batch:
    """Return the records of the capture."""
    found = _LINE.findall(capture("qemu-7.2-ust-babeltrace2.txt"))
    assert len(found) == 1000
    return rows(event_table("7.2"), [(name.decode(), text) for name, text in found])
