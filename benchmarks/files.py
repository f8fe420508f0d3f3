"""Time and memory by size of a saved trace: latency, count, replay and query on simple files.

Each command is a process, measured from start to end, on a file in the page cache. Peers: ``wc -c``
of the same file, and, up to a million records, a plain reader that unpacks record by record like
QEMU's ``simpletrace.py`` and finds the same pairs. Rates are per second of processor time, as the
machine may be busy.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import GIGABYTE, MIB, PAIR, QTCTL, run

QUERY = "SELECT addr, count(*) FROM memory_region_ops_read GROUP BY addr ORDER BY 2 DESC LIMIT 5"
CAT, PLAIN = "cat, wc -c", "plain reader, the same pairs"
LIMITS = {"latency": 2.0, "query": 3.0}
"""Maximum ratios to the processor time of ``cat, wc -c`` for the same 1 GB."""
MEMORY_LIMIT = 500 * 1000 * 1000


def commands(trace: Path, events: Path, query: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield title and command line of each measurement."""
    common = ["--events-all", str(events), "-q"]
    source = ["--from", str(trace), *common]
    yield CAT, ["sh", "-c", f"cat {trace} | wc -c"]
    if trace.stat().st_size <= 100 * MIB:
        yield PLAIN, [sys.executable, "-m", "benchmarks.traces", "--pairs", str(trace)]
    yield "latency", [*QTCTL, "latency", *PAIR, *source]
    yield "count --by addr", [*QTCTL, "count", "memory_region_ops_read", "--by", "addr", *source]
    yield (
        "count --by addr --jobs 1",
        [*QTCTL, "count", "memory_region_ops_read", "--by", "addr", "--jobs", "1", *source],
    )
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
    print("| records | MB | | seconds | processor s | million/s of it | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="qtctl-bench-", dir=options.folder) as name:
        trace, events = Path(name, "trace"), Path(name, "trace-events-all")
        for records in options.records:
            # In another process: the memory of this one would count as its children's peak.
            run(sys.executable, "-m", "benchmarks.traces", name, str(records))
            size = trace.stat().st_size
            run("sh", "-c", f"cat {trace} | wc -c")
            least = 0.0
            for title, command in commands(trace, events, query):
                used = run(*command)
                least = used.cpu_s if title == CAT else least
                print(
                    f"| {records:,} | {size / 1e6:,.0f} | {title} | {used.wall_s:.2f} "
                    f"| {used.cpu_s:.2f} | {records / used.cpu_s / 1e6:.2f} "
                    f"| {used.peak_bytes / MIB:.0f} |",
                    flush=True,
                )
                if used.peak_bytes > MEMORY_LIMIT and title not in (CAT, PLAIN):
                    peak = used.peak_bytes / MIB
                    broken.append(f"{title} of {records:,} records took {peak:.0f} MiB")
                limit = LIMITS.get(title)
                if records == GIGABYTE and limit and used.cpu_s > limit * least:
                    ratio = used.cpu_s / least
                    broken.append(f"{title} of 1 GB took {ratio:.1f} times as long as {CAT}")
    for words in broken:
        print(words, file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
