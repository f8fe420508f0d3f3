"""Latency of a record from QEMU's log to qtctl's output, against ``tail -F`` on the log.

    python -m benchmarks.latency [--records 300] [--idle 20]

A second monitor of the guest gets a command at a low rate, which ``handle_qmp_command`` logs. The
latency lasts from just before the command is sent until the line is read. qtctl and its peer run
one after the other; the idle CPU time of each is measured too.
"""

from __future__ import annotations

import argparse
import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.common import Home, Qmp, Usage, end, poll, qtctl, quantile, the_qemu
from tests.qemus import RealGuest

LIMIT_S = 0.1
#: On a busy machine: maximum ratio to the p99 of ``tail -F``.
LIMIT = 5.0
IDLE_LIMIT = 0.01
EVENT = "handle_qmp_command"
_PAUSE_S = 0.03


class OutputLines:
    """The lines another process prints."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._out = process.stdout.fileno()
        self.usage = Usage(process.pid)
        self._left = b""

    def until(self, words: bytes, seconds: float) -> float:
        """Read until a line contains ``words``; return the time of that."""
        deadline = time.perf_counter() + seconds
        while words not in self._left:
            left = deadline - time.perf_counter()
            if left <= 0 or not select.select([self._out], [], [], left)[0]:
                raise RuntimeError(f"{words.decode()} did not appear within {seconds:g} s")
            self._left += os.read(self._out, 1 << 16)
        self._left = self._left.rpartition(b"\n")[2]
        return time.perf_counter()

    def used(self) -> float:
        """Return the CPU time of the process in seconds."""
        self.usage.sample()
        return self.usage.cpu


class Asker:
    """Makes QEMU log a unique line, through a second monitor."""

    def __init__(self, guest: RealGuest) -> None:
        self._monitor = Qmp(str(guest.directory / "second.sock"))
        self._number = 0x10000

    def ask(self) -> bytes:
        """Run an HMP command; return a text that QEMU logs for it."""
        self._number += 1
        words = f"print {self._number}"
        self._monitor.run("human-monitor-command", **{"command-line": words})
        return words.encode()

    def close(self) -> None:
        """Close the monitor."""
        self._monitor.close()


def measure(
    guest: RealGuest, process: subprocess.Popen[bytes], records: int, idle_s: float
) -> tuple[list[float], float]:
    """Return the latency of each record in seconds, and the CPU time per idle second."""
    lines, asker, found = OutputLines(process), Asker(guest), []
    try:
        lines.until(asker.ask(), 20)
        for _ in range(records):
            time.sleep(_PAUSE_S)
            began = time.perf_counter()
            found.append(lines.until(asker.ask(), 5) - began)
        used, began = lines.used(), time.monotonic()
        time.sleep(idle_s)
        return found, (lines.used() - used) / (time.monotonic() - began)
    finally:
        asker.close()


def rows(records: int, idle_s: float) -> Iterator[tuple[str, list[float], float]]:
    """Yield title, latencies and idle CPU: of qtctl on a file, of the peer, of qtctl on a spool."""
    second = ("-S", "-qmp", "unix:{dir}/second.sock,server=on,wait=off")
    words = ("tail", EVENT, "--ndjson", "-q")
    with Home() as home:
        with RealGuest(the_qemu(), busy=True, extra=[*second, "-D", "{dir}/log"]) as guest:
            with qtctl(home, guest.address, *words, stdout=subprocess.PIPE) as process:
                await_events_on(guest)
                yield "qtctl, log file", *measure(guest, process, records, idle_s)
            with Qmp(guest.address) as monitor:
                monitor.switch(EVENT, True)
            peer = ["tail", "-n0", "-F", str(guest.directory / "log")]
            with subprocess.Popen(peer, stdout=subprocess.PIPE) as process:
                try:
                    yield "tail -F, log file", *measure(guest, process, records, idle_s)
                finally:
                    end(process)
        with (
            RealGuest(the_qemu(), busy=True, extra=second, stderr=subprocess.DEVNULL) as guest,
            qtctl(home, guest.address, *words, stdout=subprocess.PIPE) as process,
        ):
            await_events_on(guest)
            yield "qtctl, spool", *measure(guest, process, records, idle_s)


def await_events_on(guest: RealGuest) -> None:
    """Wait until a follower has switched the event on."""
    with Qmp(str(guest.directory / "second.sock")) as monitor:
        if not poll(lambda: EVENT in monitor.enabled(), 20, every=0.05):
            raise RuntimeError("qtctl tail enabled no event")


def main() -> int:
    """Measure and print; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=int, default=300)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of idling")
    options = parser.parse_args()
    ours: list[float] = []
    allowed, broken = LIMIT_S, False
    for title, found, cpu in rows(options.records, options.idle):
        p50, p99 = statistics.median(found), quantile(found, 0.99)
        print(
            f"{title:18} p50 {p50 * 1e3:6.2f} ms, p99 {p99 * 1e3:6.2f} ms "
            f"of {len(found)}; idle CPU {cpu * 1e3:.2f} ms a second",
            flush=True,
        )
        if title.startswith("qtctl"):
            ours.append(p99)
            broken |= cpu > IDLE_LIMIT
        else:
            allowed = max(allowed, LIMIT * p99)
    print(f"limits: p99 {allowed * 1e3:.0f} ms, idle CPU {IDLE_LIMIT * 1e3:.0f} ms a second")
    return broken or max(ours) > allowed


if __name__ == "__main__":
    sys.exit(main())
