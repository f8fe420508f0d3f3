"""How time and memory grow with a saved trace: latency, count, replay and query on simple files.

Each is a process of its own, from its start to its end, on a file in the page cache; ``wc -c``
reads the same file beside it. Processor time is told as well, for other programs run here, too.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import MIB, QTCTL

GIGABYTE = 13_600_000
"""Records of the capture that make a file of 1 GB."""
QUERY = "SELECT addr, count(*) FROM memory_region_ops_read GROUP BY addr ORDER BY 2 DESC LIMIT 5"
PAIR = ("virtio_blk_handle_read", "virtio_blk_req_complete")
LIMITS = {"latency": 2.0, "query": 3.0}
"""Seconds for 1 GB."""
MEMORY_LIMIT = 500 * 1000 * 1000


@dataclass(frozen=True, slots=True)
class Used:
    """What a process took: seconds by the clock and of the processor, and bytes at its peak."""

    wall_s: float
    cpu_s: float
    peak: int


def run(command: Sequence[str]) -> Used:
    """Run a program to its end."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{command}: {said.decode(errors='replace')}")
    wall = time.perf_counter() - began
    return Used(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def commands(trace: Path, events: Path, query: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield what is measured."""
    common = ["--events-all", str(events), "-q"]
    source = ["--from", str(trace), *common]
    yield "cat, wc -c", ["sh", "-c", f"cat {trace} | wc -c"]
    yield "latency", [*QTCTL, "latency", *PAIR, *source]
    yield "count --by addr", [*QTCTL, "count", "memory_region_ops_read", "--by", "addr", *source]
    few = ["--where", "event == 'virtio_blk_handle_read' and nsectors > 8"]
    yield "replay --where", [*QTCTL, "replay", str(trace), *few, *common]
    if query:
        yield "query", [*QTCTL, "query", QUERY, str(trace), *common]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description=__doc__)
    sizes = [100_000, 1_000_000, 10_000_000, GIGABYTE, 100_000_000]
    parser.add_argument("--records", type=int, nargs="+", default=sizes)
    parser.add_argument("--folder", type=Path, help="where 8 GB may be written")
    options = parser.parse_args()
    query = importlib.util.find_spec("duckdb") is not None
    broken = []
    print("| records | MB | | seconds | processor s | peak MiB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="qtctl-bench-", dir=options.folder) as name:
        trace, events = Path(name, "trace"), Path(name, "trace-events-all")
        for records in options.records:
            # By another process: what this one takes would count as the peak of its children.
            run([sys.executable, "-m", "benchmarks.traces", name, str(records)])
            size = trace.stat().st_size
            run(["cat", str(trace)])
            for title, command in commands(trace, events, query):
                used = run(command)
                print(
                    f"| {records:,} | {size / 1e6:,.0f} | {title} | {used.wall_s:.2f} "
                    f"| {used.cpu_s:.2f} | {used.peak / MIB:.0f} |",
                    flush=True,
                )
                if used.peak > MEMORY_LIMIT and title != "cat, wc -c":
                    broken.append(f"{title} of {records:,} records took {used.peak / MIB:.0f} MiB")
                # Other programs take the processor, not what it did for this one.
                if records == GIGABYTE and used.cpu_s > LIMITS.get(title, used.cpu_s):
                    broken.append(f"{title} of 1 GB took {used.cpu_s:.1f} s")
    for words in broken:
        print(words, file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
