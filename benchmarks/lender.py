"""What lending the monitor adds to a round trip: lent against straight, by turns, on a real QEMU.

    python -m benchmarks.lender [--rounds 2000]

Two guests that are paused: one's monitor is used as it is, the other's through ``qtctl share``.
Both are asked by the same few lines of socket code. The limit is on the difference of the medians,
as a multiple of the straight one, for a command with a short reply; the list of all events (300 KB)
is shown beside it, with the CPU time that the lender spends on each.
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

#: Times the straight round trip, at most.
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
    """Share a monitor; give the socket and the lender."""
    with qtctl(home, address, "share", "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["path"], psutil.Process(process.pid)


def round_trip(monitor: Qmp, command: str, arguments: dict[str, str]) -> float:
    """Return how long one command takes, in seconds."""
    began = time.perf_counter()
    monitor.run(command, **arguments)
    return time.perf_counter() - began


@dataclass(frozen=True, slots=True)
class Measured:
    """Times of one request, in seconds: straight and lent round trips, CPU of the lender each."""

    name: str
    straight: list[float]
    lent: list[float]
    cpu_s: float

    @property
    def added_s(self) -> float:
        return statistics.median(self.lent) - statistics.median(self.straight)


def cpu(process: psutil.Process) -> float:
    """Return the CPU time a process has used, in seconds."""
    times = process.cpu_times()
    return times.user + times.system


def measure(rounds: int) -> Iterator[Measured]:
    """Yield the times of each request."""
    with (
        Home() as home,
        RealGuest(the_qemu(), extra=["-S"]) as one,
        RealGuest(the_qemu(), extra=["-S"]) as other,
        lent(home, other.address) as (path, lender),
        Qmp(one.address) as straight,
        Qmp(path) as through,
    ):
        for name, (command, arguments, part) in REQUESTS.items():
            times: tuple[list[float], list[float]] = ([], [])
            for number in range(_WARM + int(rounds * part)):
                if number == _WARM:
                    began = cpu(lender)
                for monitor, into in zip((straight, through), times, strict=True):
                    spent = round_trip(monitor, command, arguments)
                    if number >= _WARM:
                        into.append(spent)
            yield Measured(name, *times, (cpu(lender) - began) / len(times[1]))


def main() -> int:
    """Measure and print; the exit code is 1 if the limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2000)
    broken = False
    for one in measure(parser.parse_args().rounds):
        print(f"{one.name}, {len(one.lent)} rounds:")
        for label, times in (("straight", one.straight), ("lent", one.lent)):
            median, p99 = statistics.median(times) * 1e3, quantile(times, 0.99) * 1e3
            print(f"  {label:8}  median {median:.3f} ms, p99 {p99:.3f} ms")
        limit = ""
        if one.name == LIMITED:
            straight = statistics.median(one.straight)
            broken = one.added_s > LIMIT * straight
            limit = f", {one.added_s / straight:.2f} times straight (limit {LIMIT:g})"
        print(f"  added     median {one.added_s * 1e3:.3f} ms{limit}")
        print(f"  lender    {one.cpu_s * 1e3:.3f} ms of CPU each")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
