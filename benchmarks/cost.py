"""Speed of a guest while it is traced: port I/Os per second, for each backend.

The guest does nothing but port I/O, and counts it in its own memory. Each case is measured between
two runs of the same guest without tracing, whose mean is 100 %.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.common import Home, poll
from tests.qemus import COUNTER, RealGuest, find
from tests.running import Qtctl, Running

EVENTS = "memory_region_ops_*"
_IOS_A_TURN = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One way to trace: by ``tail --backend``, or by QEMU ``alone`` with these HMP commands."""

    name: str
    backend: str = ""
    alone: tuple[str, ...] = ()


CASES = (
    Case("log, QEMU alone, to /dev/null", alone=("logfile /dev/null",)),
    Case("log, followed", "log"),
    Case("simple, followed", "simple"),
    Case("ftrace, followed", "ftrace"),
    Case("syslog, followed", "syslog"),
    Case("ust, followed", "ust"),
    Case("dtrace, followed", "dtrace"),
)


def turns(qtctl: Qtctl, monitor: str) -> int:
    """Read the guest's counter through the second monitor."""
    text = qtctl("-t", monitor, "hmp", f"xp /1xw {COUNTER:#x}", limit=None).out
    found = re.search(r":\s*0x([0-9a-f]+)", text)
    if found is None:
        raise RuntimeError(f"the guest's memory could not be read: {text!r}")
    return int(found[1], 16)


def rate(qtctl: Qtctl, monitor: str, seconds: float) -> float:
    """Return port I/Os a second over ``seconds``."""
    before, began = turns(qtctl, monitor), time.monotonic()
    time.sleep(seconds)
    after, ended = turns(qtctl, monitor), time.monotonic()
    return (after - before) % (1 << 32) * _IOS_A_TURN / (ended - began)


@contextlib.contextmanager
def tracing(qtctl: Qtctl, case: Case, monitor: str, address: str) -> Iterator[Running | None]:
    """Trace as ``case`` describes during the block."""
    if not case.backend:
        for line in (*case.alone, f"trace-event {EVENTS} on"):
            qtctl("-t", monitor, "hmp", line, limit=None)
        yield None
        qtctl("-t", monitor, "hmp", f"trace-event {EVENTS} off", limit=None)
        return
    words = ("tail", EVENTS, "--backend", case.backend, "--where", "size == 3")
    running = qtctl.start("-t", address, *words)
    try:
        if not poll(lambda: b"gives back" in running.err or running.ended, 60):
            raise RuntimeError(f"{case.name} did not start")
        yield running
    finally:
        if not running.ended:
            running.signal(2)
        running.finish(None)


def measure(qtctl: Qtctl, case: Case, guest: RealGuest, seconds: float) -> str:
    """Measure one case and return its row."""
    monitor = str(guest.directory / "second.sock")
    rests = [rate(qtctl, monitor, seconds)]
    with tracing(qtctl, case, monitor, guest.address) as running:
        if running is not None and running.ended:
            errors = bytes(running.err).decode(errors="replace").splitlines()
            why = [line for line in errors if line.startswith("qtctl: ")][-1:]
            return f"| {case.name} | not possible here: {' '.join(why)} | | |"
        traced = rate(qtctl, monitor, seconds)
    rests.append(rate(qtctl, monitor, seconds))
    rest = statistics.mean(rests)
    sums = ""
    if running is not None:
        lines = bytes(running.err).decode(errors="replace").splitlines()
        sums = next((line for line in reversed(lines) if " read, " in line), "")
        sums = sums.removeprefix("qtctl: ")
    return f"| {case.name} | {traced:,.0f} | {100 * traced / rest:.1f} % | {sums} |"


def main() -> int:
    """Print the table; needs a QEMU with the backends, named by ``QTCTL_TEST_QEMU``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--only", nargs="*", help="words of the cases wanted")
    options = parser.parse_args()
    qemu = find("built") or find("path")
    if qemu is None:
        print("this benchmark needs a QEMU", file=sys.stderr)
        return 1
    extra = ["-qmp", "unix:{dir}/second.sock,server=on,wait=off"]
    null = subprocess.DEVNULL
    with (
        Home() as home,
        Qtctl(home.path / "qtctl") as qtctl,
        RealGuest(qemu, image="counting", busy=True, extra=extra, stderr=null) as guest,
    ):
        monitor = str(guest.directory / "second.sock")
        poll(lambda: turns(qtctl, monitor) > 0, 20)
        print(f"QEMU {'.'.join(map(str, qemu.version))}, {os.cpu_count()} cores, TCG")
        print("| case | port I/Os/s | of rest | records |\n|---|---|---|---|")
        print(f"| at rest | {rate(qtctl, monitor, options.seconds):,.0f} | 100 % | |", flush=True)
        for case in CASES:
            if not options.only or any(word in case.name for word in options.only):
                print(measure(qtctl, case, guest, options.seconds), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
