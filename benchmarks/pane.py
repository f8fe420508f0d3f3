"""CPU of a view in a tmux pane, while the guest is idle and while it floods its log.

    python -m benchmarks.pane [--idle 30] [--flood 10]

Peers, in a pane of the same size: ``tail -F`` on the log, which draws all lines, and ``watch`` for
an idle pane. CPU is that of the program and its children; tmux's is printed separately, as drawing
also costs the terminal.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil

from benchmarks.common import QTCTL, Home, Qmp, poll, the_qemu
from tests.qemus import RealGuest
from tests.terminals import Tmux

IDLE_LIMIT = 0.01
PATTERN = "memory_region_ops_*"
_START_S = 20.0
_SETTLE_S = 3.0


class Cost(NamedTuple):
    """CPU of a pane's program and of tmux in cores, and growth of the log in bytes/s."""

    program: float
    tmux: float
    grown: float


def family_cpu(pid: int) -> float:
    """Return the CPU time of a process and its children in seconds."""
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(one.user + one.system + one.children_user + one.children_system for one in times)


def cost(guest: RealGuest, home: Home, command: Sequence[str], seconds: float, sign: str) -> Cost:
    """Run a command in a pane; measure it for ``seconds`` once it shows ``sign``."""
    log = guest.directory / "log"
    with Tmux(list(command), {**home.environment, "LANG": "C.UTF-8"}, columns=60, rows=30) as tmux:
        if not poll(lambda: sign in tmux.screen(), _START_S, every=0.1):
            raise RuntimeError(f"{command[0]} shows nothing:\n{tmux.screen()}")
        time.sleep(_SETTLE_S)
        program, server = (
            int(tmux.run("display-message", "-p", f"#{{{what}}}")) for what in ("pane_pid", "pid")
        )
        own = psutil.Process(server)
        before = family_cpu(program), sum(own.cpu_times()[:2]), log.stat().st_size
        began = time.monotonic()
        time.sleep(seconds)
        after = family_cpu(program), sum(own.cpu_times()[:2]), log.stat().st_size
        passed = time.monotonic() - began
    return Cost(*((new - old) / passed for old, new in zip(before, after, strict=True)))


def qtctl_pane(guest: RealGuest, view: str) -> list[str]:
    """Return the command line that shows a view."""
    return [*QTCTL, "-t", guest.address, "pane", "--here", "--view", view, PATTERN]


def print_row(title: str, found: Cost) -> None:
    """Print a row of the table."""
    print(
        f"{title:22} {found.program * 100:7.2f} % of a core, tmux {found.tmux * 100:6.2f} %, "
        f"log {found.grown / 1e6:6.1f} MB/s",
        flush=True,
    )


def main() -> int:
    """Measure and print; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--idle", type=float, default=30.0, help="seconds of idling")
    parser.add_argument("--flood", type=float, default=10.0, help="seconds of flood")
    options = parser.parse_args()
    broken = False
    with Home() as home, RealGuest(the_qemu(), busy=True, extra=["-S", "-D", "{dir}/log"]) as guest:
        log = str(guest.directory / "log")
        for view in ("stream", "top"):
            found = cost(guest, home, qtctl_pane(guest, view), options.idle, "0 lost")
            broken |= found.program > IDLE_LIMIT
            print_row(f"idle, pane {view}", found)
        watch = ["watch", "-n", "1", "stat", "-c", "size %s", log]
        print_row("idle, watch -n 1", cost(guest, home, watch, options.idle, "size"))
        tail = ["sh", "-c", 'echo begun; exec tail -n0 -F "$1"', "sh", log]
        print_row("idle, tail -F", cost(guest, home, tail, options.idle, "begun"))
    with Home() as home, RealGuest(the_qemu(), busy=True, extra=["-D", "{dir}/log"]) as guest:
        for view in ("stream", "top"):
            found = cost(guest, home, qtctl_pane(guest, view), options.flood, " read")
            print_row(f"flood, pane {view}", found)
        with Qmp(guest.address) as monitor:
            monitor.switch(PATTERN, True)
        tail = ["tail", "-n0", "-F", str(guest.directory / "log")]
        print_row("flood, tail -F", cost(guest, home, tail, options.flood, "memory_region"))
    print(f"limit for an idle pane: {IDLE_LIMIT * 100:g} % of a core")
    return broken


if __name__ == "__main__":
    sys.exit(main())
