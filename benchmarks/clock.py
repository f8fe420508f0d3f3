"""The kernel's times of log lines: what they cost the guest, and how far they are from QEMU's own.

    python -m benchmarks.clock [--rounds 4] [--seconds 3]

The cost is in bytes of log for each second of QEMU's processor time, following with ``--clock
arrival`` (the peer) and ``--clock kernel`` by turns. The times are compared with those that the
same QEMU prints into the same lines with ``-msg timestamp=on``. As root.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import sys
import time

import numpy as np
import psutil

from benchmarks.common import Home, poll, quantile, the_qemu
from qtctl.records.batch import Batch
from qtctl.session.attach import attach
from tests.qemus import RealGuest
from tests.running import Qtctl

FLOOD = "memory_region_ops_*"
#: Of the median difference, and of all, in ns; the second on an idle machine.
MEDIAN_NS, MOST_NS = 5_000, 1_000_000
_STAMP = re.compile(r"\d+@(\d+)\.(\d{6}):")


def speed(qtctl: Qtctl, guest: RealGuest, clock: str, seconds: float) -> tuple[float, float]:
    """Follow a flood; return MB of log a second, and for each second of QEMU's processor time."""
    log, process = guest.directory / "log", psutil.Process(guest.pid)
    words = ("tail", FLOOD, "--clock", clock, "--where", "size == 3")
    running = qtctl.start("-t", guest.address, *words)
    if not poll(lambda: b"gives back" in running.err or running.ended, 60):
        raise RuntimeError("qtctl did not start")
    begin, used, size = time.monotonic(), sum(process.cpu_times()[:2]), log.stat().st_size
    time.sleep(seconds)
    megabytes = (log.stat().st_size - size) / 1e6
    passed, used = time.monotonic() - begin, sum(process.cpu_times()[:2]) - used
    running.signal(2)
    running.finish(None)
    return megabytes / passed, megabytes / used


def cost(seconds: float, rounds: int) -> None:
    """Print the cost to a guest that floods its log."""
    found: dict[str, list[tuple[float, float]]] = {"arrival": [], "kernel": []}
    with Home() as home, Qtctl(home.path / "qtctl") as qtctl:
        for _ in range(rounds):
            for clock, rows in found.items():
                extra = ("-D", "{dir}/log")
                with RealGuest(the_qemu(), image="ports", busy=True, extra=extra) as guest:
                    rows.append(speed(qtctl, guest, clock, seconds))
    print("| clock | MB/s of log | MB a second of QEMU's CPU | (all rounds) |\n|---|---|---|---|")
    for clock, rows in found.items():
        walls, cpus = zip(*rows, strict=True)
        every = ", ".join(f"{one:.1f}" for one in cpus)
        wall, cpu = statistics.median(walls), statistics.median(cpus)
        print(f"| {clock} | {wall:.1f} | {cpu:.1f} | {every} |")


async def differences(seconds: float) -> list[int]:
    """Return how many ns later than QEMU's own the kernel's time of each record is."""
    extra = ("-D", "{dir}/log", "-msg", "timestamp=on")
    found: list[int] = []
    with RealGuest(the_qemu(), image="virtio-blk", extra=extra) as guest:
        async with (
            attach(guest.address) as session,
            session.follow("virtio_blk_*", clock="kernel") as stream,
        ):
            asyncio.get_running_loop().call_later(seconds, stream.stop)
            async for item in stream:
                if not isinstance(item, Batch):
                    continue
                for row in np.flatnonzero((item.event >= 0) & ~item.arrived).tolist():
                    if stamp := _STAMP.match(item.text(row)):
                        own_ns = int(stamp[1]) * 10**9 + int(stamp[2]) * 1000
                        found.append(int(item.time_ns[row]) - own_ns)
    return found


def main() -> int:
    """Print both; 1 if the median difference is above its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clock", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    options = parser.parse_args()
    with Home() as home:
        os.environ.update(home.environment)
        later = asyncio.run(differences(options.seconds))
    median = quantile(later, 0.5)
    print(
        f"{len(later)} records, later than QEMU's own times (ns): least {min(later)}, "
        f"median {median}, p99 {quantile(later, 0.99)}, most {max(later)}; "
        f"{sum(one > MOST_NS for one in later)} over 1 ms"
    )
    cost(options.seconds, options.rounds)
    return int(median > MEDIAN_NS)


if __name__ == "__main__":
    sys.exit(main())
