"""Round trip through a lent monitor against a direct one, alternately, on a real QEMU.

    python -m benchmarks.lender [--rounds 2000]

Two paused guests: the monitor of one is used directly, that of the other through ``qtctl share``,
both by the same socket code. The limit is on the difference of the medians, as a multiple of the
direct one, for a command with a short reply. The list of all events (300 KB), and the lender's CPU
time per request, are printed too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from benchmarks.common import Home, Qmp, qtctl, quantile, the_qemu
from tests.qemus import RealGuest

#: Maximum ratio to the direct round trip.
LIMIT = 3.0
_WARM = 50
LIMITED = "query-status"
#: name -> (command, arguments, how many of the rounds)
REQUESTS = {
    "query-status": ("query-status", {}, 1.0),
    "list all events": ("trace-event-get-state", {"name": "*"}, 0.1),
}


@contextlib.contextmanager
def lent(home: Home, address: str) -> Iterator[tuple[str, psutil.Process]]:
    """Share a monitor; yield the socket's path and the lender's process."""
    with qtctl(home, address, "share", "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["path"], psutil.Process(process.pid)


def round_trip(monitor: Qmp, command: str, arguments: dict[str, str]) -> float:
    """Return the round-trip time of a command in seconds."""
    began = time.perf_counter()
    monitor.run(command, **arguments)
    return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of one request in seconds: direct and lent round trips, and the lender's CPU."""

    name: str
    direct: list[float]
    lent: list[float]
    cpu_s: float

    @property
    def added_s(self) -> float:
        return statistics.median(self.lent) - statistics.median(self.direct)


def cpu(process: psutil.Process) -> float:
    """Return the CPU time of a process in seconds."""
    times = process.cpu_times()
    return times.user + times.system


def measure(rounds: int) -> Iterator[Measured]:
    """Yield the times of each request."""
    with (
        Home() as home,
        RealGuest(the_qemu(), busy=True, extra=["-S"]) as one,
        RealGuest(the_qemu(), busy=True, extra=["-S"]) as other,
        lent(home, other.address) as (path, lender),
        Qmp(one.address) as direct,
        Qmp(path) as through,
    ):
        for name, (command, arguments, part) in REQUESTS.items():
            times: tuple[list[float], list[float]] = ([], [])
            for number in range(_WARM + int(rounds * part)):
                if number == _WARM:
                    began = cpu(lender)
                for monitor, into in zip((direct, through), times, strict=True):
                    spent = round_trip(monitor, command, arguments)
                    if number >= _WARM:
                        into.append(spent)
            yield Measured(name, *times, (cpu(lender) - began) / len(times[1]))


def main() -> int:
    """Measure and print; return 1 if the limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2000)
    broken = False
    for one in measure(parser.parse_args().rounds):
        print(f"{one.name}, {len(one.lent)} rounds:")
        for label, times in (("direct", one.direct), ("lent", one.lent)):
            median, p99 = statistics.median(times) * 1e3, quantile(times, 0.99) * 1e3
            print(f"  {label:8}  median {median:.3f} ms, p99 {p99:.3f} ms")
        limit = ""
        if one.name == LIMITED:
            direct = statistics.median(one.direct)
            broken = one.added_s > LIMIT * direct
            limit = f", {one.added_s / direct:.2f} times direct (limit {LIMIT:g})"
        print(f"  added     median {one.added_s * 1e3:.3f} ms{limit}")
        print(f"  lender    {one.cpu_s * 1e3:.3f} ms of CPU each")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
