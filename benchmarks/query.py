"""SQL over a large simple trace, and exports of it, against a plain reader and babeltrace2.

    python -m benchmarks.query [--records 13600000] [--sample 200000] [--folder FOLDER]

The file is a capture of QEMU's, repeated with increasing times. Peers process a sample of it: a
reader that unpacks record by record, like QEMU's ``simpletrace.py``, computes the same group-by,
and ``babeltrace2 | awk`` counts the same records in CTF. Memory is peak RSS as the kernel reports
it. Rates are per second of CPU time, as the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.common import GIGABYTE, MIB, QTCTL, Home, Ran, run
from tests.simplefiles import plainly

LIMIT_BYTES = 500 * MIB
#: Minimum ratio to the plain reader's rate, on a file so large that qtctl's start does not matter.
GROUP_LIMIT = 3.0
GROUP = "SELECT name, size, count(*) n FROM memory_region_ops_read GROUP BY ALL ORDER BY n DESC"
QUERIES = {
    "group-by on one event": GROUP,
    "count of all events": "SELECT event, count(*) FROM events GROUP BY event",
    "filter and maximum": "SELECT max(time_ns) FROM memory_region_ops_read WHERE addr = 178",
    "join of two events": "SELECT median(c.time_ns - r.time_ns) FROM virtio_blk_handle_read r "
    "ASOF JOIN virtio_blk_req_complete c ON r.req = c.req AND c.time_ns >= r.time_ns",
    "count of distinct times": "SELECT count(DISTINCT time_ns) FROM memory_region_ops_read",
}


def plain_group(data: bytes) -> Counter[tuple[bytes, int]]:
    """Compute the group-by, a record at a time."""
    found: Counter[tuple[bytes, int]] = Counter()
    for name, _, _, arguments in plainly(data):
        if name == "memory_region_ops_read":
            size = int.from_bytes(arguments[32:40], sys.byteorder)
            found[arguments[44:], size] += 1
    return found


def main() -> int:
    """Print the figures; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=GIGABYTE)
    parser.add_argument("--sample", type=int, default=200_000, help="records for the peers")
    parser.add_argument(
        "--folder", type=Path, help="where the files are written (default: temporary)"
    )
    options = parser.parse_args()
    records, sampled = options.records, options.sample
    broken = False
    with Home() as home, tempfile.TemporaryDirectory(dir=options.folder) as folder:
        top = Path(folder)
        for name, count in (("big", records), ("small", sampled)):
            (top / name).mkdir()
            run(sys.executable, "-m", "benchmarks.traces", str(top / name), str(count))
        big, small = top / "big" / "trace", top / "small" / "trace"
        known = big.with_name("trace-events-all")

        def qtctl(*words: str) -> Ran:
            common = ("--events-all", str(known), "-q")
            return run(*QTCTL, *common, *words, environment=home.environment)

        print(f"{records:,} records, {big.stat().st_size / MIB:,.0f} MiB, page cache warm")
        print(f"{'':34}{'seconds':>9}{'CPU s':>8}{'peak MiB':>10}{'million a CPU s':>17}")
        rates = {}
        for title, sql in QUERIES.items():
            ran = qtctl("query", sql, str(big))
            rates[title] = records / ran.cpu_s / 1e6
            broken |= ran.peak_bytes > LIMIT_BYTES
            row("query: " + title, ran, rates[title])
        print(f"peers and exports, on {sampled:,} records:")
        began = time.process_time()
        plain = plain_group(small.read_bytes())
        seconds = time.process_time() - began
        ours = json.loads(qtctl("query", GROUP, str(small), "--json").out)
        assert {(one["name"].encode(), one["size"]): one["n"] for one in ours} == plain
        rate = sampled / seconds / 1e6
        ratio = rates["group-by on one event"] / rate
        print(f"{'plain reader, the group-by':34}{'':9}{seconds:8.2f}{'':10}{rate:17.2f}")
        print(f"{'qtctl, times the plain reader':34}{'':27}{ratio:17.1f}")
        broken |= records >= GIGABYTE and ratio < GROUP_LIMIT
        for form in ("ndjson", "csv", "parquet", "perfetto", "ctf"):
            ran = qtctl("export", "--to", form, str(small), "-o", str(top / form))
            row(f"export --to {form}", ran, sampled / ran.cpu_s / 1e6)
            broken |= ran.peak_bytes > LIMIT_BYTES
        if shutil.which("babeltrace2"):
            script = "babeltrace2 \"$0\" | awk '{n[$3]++} END {for (k in n) print k, n[k]}'"
            ran = run("/bin/sh", "-c", script, str(top / "ctf"))
            row("babeltrace2 | awk, count by event", ran, sampled / ran.cpu_s / 1e6)
    return int(broken)


def row(title: str, ran: Ran, rate: float) -> None:
    """Print a line of the table."""
    peak = ran.peak_bytes / MIB
    print(f"{title:34}{ran.wall_s:9.2f}{ran.cpu_s:8.2f}{peak:10.0f}{rate:17.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
