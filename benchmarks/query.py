"""SQL over a large simple trace, and exports of it, against plainer ways to the same answer.

    python -m benchmarks.query [--megabytes 1024] [--sample 16] [--folder FOLDER]

The file is a capture of QEMU's, repeated with its times moved on. Peers work on a sample of it: a
reader that unpacks record by record, as QEMU's own ``simpletrace.py`` does, answers the same
group-by, and ``babeltrace2 | awk`` counts the same records as CTF. Memory is the highest that the
kernel saw. Rates, and the limit of 3 s a GiB, are of CPU time: others may be busy on the machine.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.common import MIB, QTCTL, Home
from tests.simplefiles import plainly

DATA = Path(__file__).parent.parent / "tests" / "data"
LIMIT_BYTES = 500 * MIB
GROUP_LIMIT_S = 3.0
GROUP = "SELECT name, size, count(*) n FROM memory_region_ops_read GROUP BY ALL ORDER BY n DESC"
QUERIES = {
    "group-by on one event": GROUP,
    "count of all events": "SELECT event, count(*) FROM events GROUP BY event",
    "filter and maximum": "SELECT max(time_ns) FROM memory_region_ops_read WHERE addr = 178",
    "join of two events": "SELECT median(c.time_ns - r.time_ns) FROM virtio_blk_handle_read r "
    "ASOF JOIN virtio_blk_req_complete c ON r.req = c.req AND c.time_ns >= r.time_ns",
    "count of distinct times": "SELECT count(DISTINCT time_ns) FROM memory_region_ops_read",
}


class Ran(NamedTuple):
    """What one program used."""

    seconds: float
    cpu_s: float
    peak_bytes: int
    out: bytes


def run(home: Home, *words: str) -> Ran:
    """Run a program to its end."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        pid = os.posix_spawn(
            words[0],
            words,
            home.environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)],
        )
        _, status, used = os.wait4(pid, 0)
        seconds = time.perf_counter() - began
        out.seek(0)
        data = out.read()
    if status:
        sys.exit(f"{' '.join(words)} failed")
    return Ran(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, data)


def write_trace(path: Path, size: int) -> int:
    """Write a simple trace of ``size`` bytes at least; return how many records it holds."""
    data = gzip.decompress((DATA / "qemu-7.2-simple-v4.bin.gz").read_bytes())
    at, places = 24, []
    while at < len(data):
        kind, length = (
            int.from_bytes(data[at + a : at + b], sys.byteorder) for a, b in ((0, 8), (24, 28))
        )
        if kind:
            places.append(at)
            at += 8 + length
        else:
            at += 20 + int.from_bytes(data[at + 16 : at + 20], sys.byteorder)
    head, events = data[: places[0]], np.frombuffer(data[places[0] :], np.uint8).copy()
    spots = (np.array(places) - places[0] + 16)[:, None] + np.arange(8)
    times = events[spots].view(np.uint64)
    span = times.max() - times.min() + np.uint64(1000)
    count = 0
    with path.open("wb") as file:
        file.write(head)
        while file.tell() < size:
            events[spots] = (times + span * np.uint64(count)).view(np.uint8)
            file.write(events.tobytes())
            count += 1
    return count * len(places)


def plain_group(data: bytes) -> Counter[tuple[bytes, int]]:
    """Answer the group-by a record at a time."""
    found: Counter[tuple[bytes, int]] = Counter()
    for name, _, _, arguments in plainly(data):
        if name == "memory_region_ops_read":
            size = int.from_bytes(arguments[32:40], sys.byteorder)
            found[arguments[44:], size] += 1
    return found


def main() -> int:
    """Print the figures; 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--sample", type=int, default=16, help="megabytes for the peers")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: temporary)")
    options = parser.parse_args()
    broken = False
    with Home() as home, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        top = Path(folder)
        known = top / "trace-events-all"
        known.write_bytes(gzip.decompress((DATA / "trace-events-all-7.2.gz").read_bytes()))
        qtctl = (*QTCTL, "--events-all", str(known), "-q")
        big, small = top / "big", top / "small"
        records = write_trace(big, options.megabytes * MIB)
        sampled = write_trace(small, options.sample * MIB)
        print(f"{records:,} records, {big.stat().st_size / MIB:,.0f} MiB, page cache warm")
        print(f"{'':34}{'seconds':>9}{'CPU s':>8}{'peak MiB':>10}{'million a CPU s':>17}")
        rates = {}
        for title, sql in QUERIES.items():
            ran = run(home, *qtctl, "query", sql, str(big))
            rates[title] = records / ran.cpu_s / 1e6
            broken |= ran.peak_bytes > LIMIT_BYTES
            broken |= sql == GROUP and ran.cpu_s > GROUP_LIMIT_S * max(1, options.megabytes / 1024)
            row("query: " + title, ran, rates[title])
        print(f"peers and exports, on {sampled:,} records:")
        began = time.process_time()
        plain = plain_group(small.read_bytes())
        seconds = time.process_time() - began
        ours = json.loads(run(home, *qtctl, "query", GROUP, str(small), "--json").out)
        assert {(one["name"].encode(), one["size"]): one["n"] for one in ours} == plain
        rate = sampled / seconds / 1e6
        ratio = rates["group-by on one event"] / rate
        print(f"{'plain reader, the group-by':34}{'':9}{seconds:8.2f}{'':10}{rate:17.2f}")
        print(f"{'times that qtctl is as fast':34}{'':27}{ratio:17.0f}")
        for form in ("ndjson", "csv", "parquet", "perfetto", "ctf"):
            ran = run(home, *qtctl, "export", "--to", form, str(small), "-o", str(top / form))
            row(f"export --to {form}", ran, sampled / ran.cpu_s / 1e6)
            broken |= ran.peak_bytes > LIMIT_BYTES
        if shutil.which("babeltrace2"):
            script = "babeltrace2 \"$0\" | awk '{n[$3]++} END {for (k in n) print k, n[k]}'"
            ran = run(home, "/bin/sh", "-c", script, str(top / "ctf"))
            row("babeltrace2 | awk, count by event", ran, sampled / ran.cpu_s / 1e6)
    return int(broken)


def row(title: str, ran: Ran, rate: float) -> None:
    """Print a line of the table."""
    peak = ran.peak_bytes / MIB
    print(f"{title:34}{ran.seconds:9.2f}{ran.cpu_s:8.2f}{peak:10.0f}{rate:17.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
