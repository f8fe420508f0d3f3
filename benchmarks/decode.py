"""Log text to columns, against ``grep -c`` and awk reading the same file in the same run.

    python benchmarks/decode.py [--megabytes 256] [--seconds 3] [--capture FILE.gz --events FILE.gz]

Lines are those of a capture, repeated. The decoder is fed chunks of 1 MiB from memory; the peers
read a file from the page cache. One core each.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qtctl.events.declarations import parse_declarations
from qtctl.records import kernels
from qtctl.records.batch import Batch, EventTable, StringColumn
from qtctl.records.filters import Filter
from qtctl.records.logtext import LogDecoder

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


def decode(
    table: EventTable, data: bytes, work: Callable[[Batch], object], seconds: float
) -> float:
    """Lines a second, best of as many turns as fit into ``seconds`` (at least one whole)."""
    chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    best, ends = 0.0, time.perf_counter() + seconds
    while True:
        decoder, lines, started = LogDecoder(table), 0, time.perf_counter()
        for chunk in chunks:
            batch = decoder.feed(chunk, now_ns=0)
            work(batch)
            lines += len(batch)
            if best and time.perf_counter() > ends:
                return best
        best = max(best, lines / (time.perf_counter() - started))
        if time.perf_counter() > ends:
            return best


def peer(command: list[str], lines: int, seconds: float) -> float:
    best, ends = 0.0, time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.PIPE)
        best = max(best, lines / (time.perf_counter() - started))
        if time.perf_counter() > ends:
            return best


def main() -> None:
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
    print(
        f"{lines:,} lines, {len(data) / lines:.0f} bytes each; kernels compiled: {kernels.COMPILED}"
    )
    works: list[tuple[str, Callable[[Batch], object]]] = [
        ("to columns", nothing),
        ("with typed arguments", typed),
        ("and distinct texts", distinct),
        ("filtered by --where", where.mask),
        ("to objects", objects),
    ]
    if not kernels.COMPILED:
        data = data[: 2 << 20]
    rows = [(f"qtctl, {name}", decode(table, data, work, options.seconds)) for name, work in works]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.log"
        path.write_bytes(data)
        count = data.count(b"\n")
        name = "memory_region_ops_read"
        peers = {
            "grep -c, one event": ["grep", "-c", name, str(path)],
            "grep -c, every line": ["grep", "-c", "", str(path)],
            "awk, count by name": ["awk", "{n[$2]++} END {for (k in n) print k, n[k]}", str(path)],
        }
        for title, command in peers.items():
            if shutil.which(command[0]):
                rows.append((title, peer(command, count, options.seconds)))
    for title, rate in rows:
        print(f"{title:32} {rate / 1e6:8.2f} million lines/s")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
