"""A simple trace to columns and to text, against a plain reader and babeltrace2.

The records are those of a real guest, repeated. Rates are per second of processor time, as the
machine may be busy. babeltrace2 reads the same records as CTF, written by ``qtctl export``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from benchmarks.common import QTCTL, best, peer, print_rates, too_slow
from benchmarks.traces import Repeated, declared
from qtctl.backends.base import Clocks
from qtctl.backends.saved import CHUNK_BYTES
from qtctl.backends.simple import kernel as simple
from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.records.batch import Batch, EventTable
from qtctl.records.kernels import writing
from qtctl.text.encoded import EncodedLines
from qtctl.text.style import Style
from qtctl.writers.ndjson import json_lines
from qtctl.writers.rows import RowFormatter

PEER = "struct reader"
LIMITS = {"qtctl, to columns": 12.0, "qtctl, to text": 2.0, "qtctl, to JSON": 2.0}
"""Minimum ratios to the peer's rate."""


def decode(table: EventTable, data: bytes, work: Callable[[Batch], object]) -> float:
    """Decode a whole file; return the records per second."""
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
    decoder, began = SimpleDecoder(table), time.process_time()
    for chunk in chunks:
        for item in decoder.feed(chunk, Clocks(0)):
            assert isinstance(item, Batch)
            work(item)
    return decoder.records / (time.process_time() - began)


def typed(batch: Batch) -> None:
    for event in batch.groups():
        if event >= 0:
            batch.arguments(event)


def plainly(data: bytes, start: int) -> float:
    """Unpack each record with ``struct``, like QEMU's scripts/simpletrace.py."""
    head, number = struct.Struct("=QQQII"), struct.Struct("=Q")
    at, records, began = start, 0, time.process_time()
    while at < len(data):
        _, _, _, size, _ = head.unpack_from(data, at)
        for place in range(at + 32, at + 8 + size - 7, 8):
            number.unpack_from(data, place)
        at += 8 + size
        records += 1
    return records / (time.process_time() - began)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simple", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line of the table")
    options = parser.parse_args()
    compiled = simple.COMPILED and writing.COMPILED
    count = options.records if compiled else min(options.records, 20_000)
    rows: list[tuple[str, float]] = []
    with (
        Path(os.devnull).open("wb", buffering=0) as nowhere,
        tempfile.TemporaryDirectory(prefix="qtctl-bench-") as name,
    ):
        folder = Path(name)
        known = declared(folder)
        trace = Repeated(count)
        trace.write(folder / "trace")
        data = (folder / "trace").read_bytes()
        table = EventTable.build(None, parse_declarations(known.read_text()).by_name)
        formatter = RowFormatter(Style(), "abs", {}, table.names)

        def text(lines: Callable[[Batch], Iterable[str]]) -> Callable[[Batch], object]:
            def work(batch: Batch) -> None:
                found = lines(batch)
                assert isinstance(found, EncodedLines)
                nowhere.write(found.data)

            return work

        works: dict[str, Callable[[Batch], object]] = {
            "qtctl, to columns": lambda batch: None,
            "qtctl, with typed arguments": typed,
            "qtctl, to text": text(formatter.lines),
            "qtctl, to JSON": text(json_lines),
        }
        for title, work in works.items():
            rows.append((title, best(partial(decode, table, data, work), options.seconds)))
        few = data[: len(trace.head) + len(data) // 20]
        rows.append((PEER, plainly(_whole(few, len(trace.head)), len(trace.head))))
        if shutil.which("babeltrace2"):
            ctf = folder / "ctf"
            words = ("export", "--to", "ctf", str(folder / "trace"), "--events-all", str(known))
            subprocess.run([*QTCTL, *words, "-o", str(ctf), "-q"], check=True)
            rows.append(("babeltrace2, CTF to text", peer(["babeltrace2", str(ctf)], count)))
            quiet = ["babeltrace2", str(ctf), "--output-format=dummy"]
            rows.append(("babeltrace2, decoding only", peer(quiet, count)))
    print(f"{count:,} records, {len(data) / count:.0f} bytes each; compiled: {compiled}\n")
    print_rates(rows, "records", PEER)
    return compiled and too_slow(rows, PEER, LIMITS)


def _whole(data: bytes, at: int) -> bytes:
    """Remove a truncated record at the end."""
    while at + 32 <= len(data):
        end = at + 8 + struct.unpack_from("=I", data, at + 24)[0]
        if end > len(data):
            break
        at = end
    return data[:at]


if __name__ == "__main__":
    sys.exit(main())
