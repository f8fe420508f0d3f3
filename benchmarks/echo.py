"""Latency of the prompt under a flood: from a key to its echo, from a record to the screen.

    python -m benchmarks.echo [--keys 200] [--rate 0]

A prompt in a pty: first on a guest that logs nothing, then under a flood, in one run. A key is a
letter that no record contains; its latency lasts from just before it is sent until it is drawn. The
latency of a record lasts from QEMU's timestamp (``-msg timestamp=on``) until its row is read from
the pty. With ``--rate``, the benchmark appends so many lines per second to the log of a paused
guest, for machines on which QEMU cannot write that many.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import itertools
import os
import re
import select
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import Home, Usage, quantile, the_qemu
from tests.qemus import RealGuest
from tests.terminals import Pty

LIMIT_S = 0.05
FLOOD = "memory_region_ops_*"
_LETTERS = "GHJKLMNQUVWXYZ"
_PAUSE_S = 0.06
_PATIENCE_S = 10.0
_POUR_S = 0.02
_ROW = re.compile(rb"(\d\d):(\d\d):(\d\d)\.(\d{6})")


@dataclass
class Seen:
    """Latencies in one state, in seconds: from key to echo, from record to screen."""

    keys: list[float] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0


class Watched(Pty):
    """A prompt on a pty, which the measuring thread itself reads."""

    def _read(self) -> None:
        """Read nothing: :meth:`take` does."""

    def take(self, seconds: float, seen: Seen) -> None:
        """Read the next output, within ``seconds``, and add the age of its rows to the results."""
        if not select.select([self.fd], [], [], max(0.0, seconds))[0]:
            return
        data = os.read(self.fd, 1 << 16)
        now = datetime.datetime.now()
        self.output += data
        for match in _ROW.finditer(data):
            hour, minute, second, micro = map(int, match.groups())
            then = now.replace(hour=hour, minute=minute, second=second, microsecond=micro)
            seen.rows.append((now - then).total_seconds() % 86_400)

    def drawn(self, words: bytes, seen: Seen) -> None:
        """Read until ``words`` are drawn."""
        place, deadline = len(self.output), time.monotonic() + _PATIENCE_S
        while words not in self.output[place:]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{words!r} was not drawn: {bytes(self.output[-2000:])!r}")
            self.take(0.1, seen)

    def queued_s(self) -> float:
        """Return the time that the prompt's main thread and this one waited for a processor."""
        pid = self.process.pid
        paths = (f"/proc/{pid}/task/{pid}/schedstat", "/proc/thread-self/schedstat")
        return sum(int(Path(path).read_text().split()[1]) for path in paths) / 1e9

    def pause(self, seconds: float, seen: Seen) -> None:
        """Read for ``seconds``."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.take(left, seen)


def type_keys(prompt: Watched, count: int) -> Seen:
    """Type letters one by one, deleting each, and measure the time until each is drawn."""
    seen, usage = Seen(), Usage(prompt.process.pid)
    usage.sample()
    cpu, began = usage.cpu, time.monotonic()
    for letter in itertools.islice(itertools.cycle(_LETTERS), count):
        queued, sent = prompt.queued_s(), time.perf_counter()
        prompt.send(letter)
        prompt.drawn(letter.encode(), seen)
        seen.keys.append(time.perf_counter() - sent)
        seen.queued.append(seen.keys[-1] - (prompt.queued_s() - queued))
        prompt.pause(_PAUSE_S / 2, seen)
        prompt.send("\x7f")
        prompt.pause(_PAUSE_S / 2, seen)
    usage.sample()
    seen.seconds = time.monotonic() - began
    seen.cpu = (usage.cpu - cpu) / seen.seconds
    return seen


@contextlib.contextmanager
def pouring(path: Path, rate: int) -> Iterator[None]:
    """Append ``rate`` lines per second in QEMU's format to a log, during the block."""
    if not rate:
        yield
        return
    line = (
        "1@TIME:memory_region_ops_read cpu 0 mr 0x55d5a9b25240 addr 0xb2 value 0xb5 size 1 name 'x'"
    )
    lines = f"{line}\n".encode() * int(rate * _POUR_S)
    ends = threading.Event()

    def pour() -> None:
        due = time.monotonic()
        with path.open("ab", buffering=0) as log:
            while not ends.wait(max(0.0, due - time.monotonic())):
                log.write(lines.replace(b"TIME", f"{time.time():.6f}".encode()))
                due += _POUR_S

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def measure(keys: int, rate: int) -> tuple[Seen, Seen, str]:
    """Return the results while idle and under a flood, and the counters of the flood."""
    unseen, extra = Seen(), ("-msg", "timestamp=on")
    paused = ("-S", "-D", "{dir}/log") if rate else ()
    with (
        Home() as home,
        RealGuest(
            the_qemu(), busy=True, extra=(*extra, *paused), stderr=subprocess.DEVNULL
        ) as guest,
        Watched(("-t", guest.address), home.environment) as prompt,
    ):
        prompt.drawn(b" on ", unseen)
        idle = type_keys(prompt, keys)
        prompt.send(f"tail {FLOOD}\r")
        prompt.drawn(b" changed), ", unseen)
        began = time.monotonic()
        with pouring(guest.directory / "log", rate):
            prompt.pause(2.0, unseen)
            flood = type_keys(prompt, keys)
        prompt.send("\x03")
        place = len(prompt.output)
        prompt.drawn(b" filtered, ", unseen)
        seconds = time.monotonic() - began
        prompt.pause(0.5, unseen)
        summary = re.search(rb"(\d+) read[^\r]*", prompt.output[place - 100 :])
        assert summary is not None
        prompt.send("\x04")
        with contextlib.suppress(OSError):  # it has ended
            prompt.pause(_PATIENCE_S, unseen)
    return idle, flood, f"{summary[0].decode()}: {int(summary[1]) / seconds:,.0f} lines/s"


def row(title: str, values: list[float]) -> str:
    """Return a row of the table."""
    if not values:
        return f"{title:28} none"
    p50, p99 = statistics.median(values), quantile(values, 0.99)
    return f"{title:28} p50 {p50 * 1e3:6.1f} ms, p99 {p99 * 1e3:6.1f} ms of {len(values)}"


def main() -> int:
    """Measure and print; return 1 if the limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keys", type=int, default=200, help="of each state")
    parser.add_argument("--rate", type=int, default=0, help="of the flood; 0: what QEMU writes")
    options = parser.parse_args()
    idle, flood, sums = measure(options.keys, options.rate)
    print(row("key to echo, idle", idle.keys))
    print(row("key to echo, flood", flood.keys))
    print("less the time that the prompt and the benchmark waited for a processor:")
    print(row("key to echo, idle", idle.queued))
    print(row("key to echo, flood", flood.queued))
    print(row("record to screen, flood", flood.rows))
    print(f"flood: {sums}; {len(flood.rows) / flood.seconds:.0f} rows/s drawn")
    print(f"CPU a second, typing: idle {idle.cpu:.2f} s, flood {flood.cpu:.2f} s")
    print(f"limit: key to echo p99 {LIMIT_S * 1e3:.0f} ms, less the time waited for a processor")
    return quantile(flood.queued, 0.99) > LIMIT_S


if __name__ == "__main__":
    sys.exit(main())
