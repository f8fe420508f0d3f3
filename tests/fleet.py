"""A data set of many simulated guests on several hosts, and what is in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.model import Backend
from qtctl.records.items import Loss
from qtctl.records.origins import Origin
from qtctl.writers.dataset import DataSetPlace, DataSetWriter
from tests.samples import event_table, only_batch

READ, DONE = "virtio_blk_handle_read", "virtio_blk_req_complete"
Sums = Counter[tuple[str, str, str]]


def fleet(place: str, guests: int = 100, turns: int = 3) -> Sums:
    """Write records of so many guests to ``place``; return them by host, guest and event."""
    table, sums = event_table("7.2"), Sums()
    writers = [DataSetWriter(DataSetPlace.parse(place), "unknown") for _ in range(2)]
    for turn in range(turns):
        for guest in range(guests):
            second = 1_700_000_000 + 1800 * turn
            origin = Origin(4000 + guest, f"vm{guest}", f"host{guest % 4}")
            lines = "".join(
                f"7@{second}.{n:06}:{READ} vdev 0x1 req {n:#x} sector 1 nsectors {1 + guest % 3}\n"
                f"7@{second}.{n + 1:06}:{DONE} vdev 0x1 req {n:#x} status 0\n"
                for n in range(1 + guest % 5)
            )
            batch = only_batch(LogDecoder(table).end(lines.encode(), Clocks(0)))
            writers[turn % 2].write(replace(batch, origins=[origin] * len(batch.origins)))
            for event in (READ, DONE):
                sums[origin.host or "", origin.guest or "", event] += 1 + guest % 5
    writers[0].write(Loss(Backend.LOG, 7, 1_700_000_000_000_000_000))
    for writer in writers:
        writer.end()
    assert sum(one.records for one in writers) == sum(sums.values()) + 1
    return sums


def names(folder: Path) -> list[Path]:
    """Return the files below a folder that readers of Parquet see."""
    return sorted(folder.rglob("*.parquet"))
