"""Run benchmarks by name, each in a separate process: ``python -m benchmarks [NAME...]``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.common import facts


class Row(NamedTuple):
    """A benchmark: a summary, and the arguments of a run that takes seconds (``--quick``)."""

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
    "ctf": Row(
        "a folder of LTTng's to columns, against babeltrace2; a program that is followed live",
        ("--records", "200000", "--seconds", "0.3", "--live", "500000"),
    ),
    "files": Row(
        "time and memory of latency, count, replay and query on traces of 10^5 to 10^8 records",
        ("--records", "100000", "1000000"),
    ),
    "otlp": Row(
        "records as OTLP, against OpenTelemetry's own classes; a receiver at 500,000 records/s",
        ("--seconds", "3"),
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
    "ftrace": Row(
        "marks of ftrace to columns, against trace-cmd report",
        ("--records", "50000", "--seconds", "0.3"),
    ),
    "cost": Row(
        "speed of a guest while it is traced, for each backend", ("--seconds", "1", "--only", "log")
    ),
    "clock": Row(
        "the kernel's times of log lines, against QEMU's own; what they cost the guest",
        ("--rounds", "1", "--seconds", "1"),
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
    "guard": Row("duration of a flood under tail --guard", ("--runs", "4")),
    "lender": Row("round trip through a lent monitor, against a direct one", ("--rounds", "300")),
    "consoles": Row(
        "eight consoles on one guest: no reply lost or mixed up, nothing leaked",
        ("--seconds", "10"),
    ),
    "guests": Row(
        "one process that follows a hundred guests: memory, CPU, records", ("--guests", "10")
    ),
    "kills": Row(
        "SIGKILL at random moments: does the next run restore the guest?", ("--kills", "10")
    ),
}


def main() -> int:
    """Run the named benchmarks; return 1 if one failed or broke a limit, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Benchmarks of qtctl, each against a peer in the same run.",
        epilog="benchmarks:\n"
        + "\n".join(f"  {name:9} {row.summary}" for name, row in BENCHMARKS.items())
        + "\n\npython -m benchmarks.NAME --help lists the options of one.",
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
