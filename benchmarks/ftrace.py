"""Marks of the ftrace backend to columns, against trace-cmd report on the same marks.

This process writes the marks, as QEMU does; needs root, tracefs and trace-cmd. Rates are per second
of processor time, as the machine may be busy.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.common import best, peer, print_rates, too_slow
from benchmarks.traces import declared
from qtctl.backends.base import Clocks
from qtctl.backends.declared import read_declarations
from qtctl.backends.ftrace.marks import PRINT, MarkDecoder
from qtctl.backends.ring import tracefs
from qtctl.backends.ring.threads import Threads
from qtctl.errors import Unsupported
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable

PEER = "trace-cmd report"
LIMITS = {"qtctl, to columns": 15.0}
"""Minimum ratios to the peer's rate."""
_CHUNK_BYTES = 1 << 20
_MARK_BYTES = 200
"""More than one takes in the buffer."""
_TEXT = b"memory_region_ops_read cpu 0 mr 0x55d1bd6fd4b0 addr 0x%x value 0x2 size 1 name 'port92'\n"


@contextlib.contextmanager
def marked(root: Path, folder: Path, count: int) -> Iterator[None]:
    """Make an instance that holds marks, each with a number of its own, for the block."""
    with tracefs.making(folder, count * _MARK_BYTES >> 10):
        tracefs.take_marks(folder)
    marker = os.open(root / "trace_marker", os.O_WRONLY)
    try:
        for number in range(count):
            os.write(marker, _TEXT % number)
        yield
    finally:
        os.close(marker)
        tracefs.remove_instance(folder)


def read_pages(folder: Path, page_bytes: int) -> list[bytes]:
    """Take all pages out of the buffers of an instance, in chunks."""
    pages: list[bytes] = []
    for path in sorted(folder.glob("per_cpu/cpu*/trace_pipe_raw")):
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as raw:  # noqa: PTH123
            while page := raw.read(page_bytes):
                pages.append(page)
    step = _CHUNK_BYTES // page_bytes
    return [b"".join(pages[at : at + step]) for at in range(0, len(pages), step)]


def decode(decoder: MarkDecoder, chunks: list[bytes], *, typed: bool) -> float:
    """Decode all chunks; return the records per second."""
    records, began = 0, time.process_time()
    for chunk in chunks:
        for item in decoder.feed(chunk, Clocks(0)):
            if isinstance(item, Batch):
                records += len(item)
                for event in item.groups() if typed else ():
                    item.arguments(event)
    return records / (time.process_time() - began)


def main() -> int:
    """Measure, print and check the limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    if shutil.which("trace-cmd") is None:
        print("not measured: no trace-cmd here; try: apt install trace-cmd")
        return 0
    try:
        root = tracefs.find_tracefs()
    except Unsupported as reason:
        print(f"not measured: {reason}")
        return 0
    folder = root / "instances" / f"qtctl-benchmark-{os.getpid()}"
    with tempfile.TemporaryDirectory() as place:
        saved = f"{place}/trace.dat"
        with marked(root, folder, options.records):
            peer(["trace-cmd", "extract", "-B", folder.name, "-o", saved], 1)
        reported = peer(["trace-cmd", "report", "-i", saved], options.records)
        known = read_declarations(declared(Path(place))).by_name
    with marked(root, folder, options.records):
        mark = tracefs.read_format(folder, PRINT)
        layout = tracefs.read_layout(folder, mark)
        chunks = read_pages(folder, layout.page_bytes)
    table = EventTable.build(known, known)
    decoder = MarkDecoder(table, layout, mark, pid=os.getpid(), threads=Threads(os.getpid(), root))
    rows = [
        ("qtctl, to columns", best(partial(decode, decoder, chunks, typed=False), options.seconds)),
        (
            "qtctl, with typed arguments",
            best(partial(decode, decoder, chunks, typed=True), options.seconds),
        ),
        (PEER, reported),
    ]
    print_rates(rows, "marks", PEER)
    return too_slow(rows, PEER, LIMITS)


if __name__ == "__main__":
    sys.exit(main())
