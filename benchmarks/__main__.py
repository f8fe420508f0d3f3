"""Runs benchmarks by name, each in a process of its own: ``python -m benchmarks [NAME...]``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import facts


class Row(NamedTuple):
    """What a benchmark measures, and the arguments that make it a matter of seconds."""

    summary: str
    quick: tuple[str, ...]


BENCHMARKS = {
    "decode": Row(
        "log text to columns, against grep and awk", ("--megabytes", "16", "--seconds", "0.3")
    ),
    "simple": Row(
        "a simple trace to columns and text, against a plain reader and babeltrace2",
        ("--seconds", "0.3"),
    ),
    "files": Row(
        "time and memory of latency, count, replay and query on traces of 10^5 to 10^8 records",
        ("--records", "100000", "1000000"),
    ),
    "enable": Row("qtctl enable, against a bare qemu.qmp script", ("--pairs", "10")),
    "latency": Row(
        "from a record in the log to a line of output, against tail -F; idle CPU",
        ("--records", "50", "--idle", "3"),
    ),
    "flood": Row(
        "a guest that floods its log: lines counted, memory, disk, CPU, guest speed",
        ("--seconds", "5", "--pairs", "1"),
    ),
    "record": Row(
        "a recording's size and CPU, against the simple file, the log, zstd and gzip",
        ("--seconds", "3"),
    ),
    "cost": Row(
        "what tracing costs a guest, for each backend", ("--seconds", "1", "--only", "log")
    ),
    "pane": Row(
        "CPU of a view in a tmux pane, idle and under flood, against tail -F and watch",
        ("--idle", "5", "--flood", "3"),
    ),
    "echo": Row(
        "the prompt under a flood: from a key to its echo, from a record to the screen",
        ("--keys", "30"),
    ),
    "query": Row(
        "SQL over a large simple trace, and exports, against a plain reader and babeltrace2",
        ("--records", "800000", "--sample", "25000"),
    ),
    "guard": Row("how long a guest floods under tail --guard", ("--runs", "4")),
    "lender": Row("what lending the monitor adds to a round trip", ("--rounds", "300")),
    "consoles": Row(
        "eight consoles on one guest: nothing lost, crossed, leaked", ("--seconds", "10")
    ),
    "kills": Row("SIGKILL at random moments: is the guest given back?", ("--kills", "10")),
}


def main() -> int:
    """Run what was named; the exit code is 1 if any of it failed or broke a limit."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Benchmarks of qtctl, each against a peer in the same run.",
        epilog="benchmarks:\n"
        + "\n".join(f"  {name:9} {row.summary}" for name, row in BENCHMARKS.items())
        + "\n\npython -m benchmarks.NAME --help tells the options of one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}")
    print("\n".join(facts()))
    failed = []
    for name in options.names or BENCHMARKS:
        row = BENCHMARKS[name]
        print(f"\n== {name}: {row.summary}", flush=True)
        command = [
            sys.executable,
            "-m",
            f"benchmarks.{name}",
            *(row.quick if options.quick else ()),
        ]
        if subprocess.run(command, cwd=Path(__file__).parent.parent, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
