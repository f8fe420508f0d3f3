"""Log text to columns, against ``grep -c`` and awk reading the same file in the same run.

    python benchmarks/decode.py [--megabytes 256] [--seconds 3] [--capture FILE.gz --events FILE.gz]

The lines are those of a capture, repeated. The decoder gets chunks of 1 MiB from memory; the peers
read a file from the page cache. Rates are per second of processor time, as the machine may be busy.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.common import best, peer, print_rates, too_slow
from qtctl.backends.base import Clocks
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.log.kernel import COMPILED
from qtctl.events.declarations import parse_declarations
from qtctl.records.batch import Batch, EventTable, StringColumn
from qtctl.records.filters import Filter

DATA = Path(__file__).parent.parent / "tests" / "data"
CHUNK = 1 << 20


def nothing(_: Batch) -> None:
    return None


def typed(batch: Batch) -> None:
    for event in batch.groups():
        if event >= 0:
            batch.arguments(event)


def distinct(batch: Batch) -> None:
    for event in batch.groups():
        if event >= 0:
            for column in batch.arguments(event).values.values():
                if isinstance(column, StringColumn):
                    assert column.codes is not None


def objects(batch: Batch) -> None:
    for _ in batch.records():
        pass


def decode(table: EventTable, data: bytes, work: Callable[[Batch], object]) -> float:
    """Decode a whole text; return the lines per second of processor time."""
    chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    decoder, lines, began = LogDecoder(table), 0, time.process_time()
    for chunk in chunks:
        for batch in decoder.feed(chunk, Clocks(0)):
            assert isinstance(batch, Batch)
            work(batch)
            lines += len(batch)
    return lines / (time.process_time() - began)


PEER = "awk, count by name"
"""The peer splits lines by their event, the minimum of what qtctl does."""
LIMITS = {"qtctl, to columns": 2.0, "qtctl, with typed arguments": 0.8}
"""Minimum ratios to the peer's rate."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line of the table")
    parser.add_argument("--capture", type=Path, default=DATA / "qemu-11.1-log-timestamp.txt.gz")
    parser.add_argument("--events", type=Path, default=DATA / "trace-events-all-11.1.gz")
    options = parser.parse_args()
    text = gzip.decompress(options.events.read_bytes()).decode()
    declared = parse_declarations(text).by_name
    table = EventTable.build(None, declared)
    once = gzip.decompress(options.capture.read_bytes())
    data = once * max(1, (options.megabytes << 20) // len(once))
    lines = data.count(b"\n")
    where = Filter.compile("event == 'memory_region_ops_read' and addr == 0x70", declared.values())
    print(f"{lines:,} lines, {len(data) / lines:.0f} bytes each; kernels compiled: {COMPILED}")
    works: list[tuple[str, Callable[[Batch], object]]] = [
        ("to columns", nothing),
        ("with typed arguments", typed),
        ("and distinct texts", distinct),
        ("filtered by --where", where.mask),
        ("to objects", objects),
    ]
    if not COMPILED:
        data = data[: 2 << 20]
    rows = [
        (f"qtctl, {name}", best(partial(decode, table, data, work), options.seconds))
        for name, work in works
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.log"
        path.write_bytes(data)
        count = data.count(b"\n")
        name = "memory_region_ops_read"
        peers = {
            "grep -c, one event": ["grep", "-c", name, str(path)],
            "grep -c, every line": ["grep", "-c", "", str(path)],
            PEER: ["awk", "{n[$2]++} END {for (k in n) print k, n[k]}", str(path)],
        }
        for title, command in peers.items():
            if shutil.which(command[0]):
                rows.append((title, best(partial(peer, command, count), options.seconds)))
    print_rates(rows, "lines", PEER if PEER in dict(rows) else rows[0][0])
    return COMPILED and PEER in dict(rows) and too_slow(rows, PEER, LIMITS)


if __name__ == "__main__":
    sys.exit(main())
