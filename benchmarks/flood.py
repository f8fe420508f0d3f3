"""Follow a real guest that floods its log: count its lines, measure the cost.

    python -m benchmarks.flood [--seconds 60] [--pairs 5] [--pattern PATTERN]
        [--spool /dev/shm]

``written`` is an independent count of newlines, with no code of qtctl's: of the part by which the
log file grew during the run, or of the spool, by a second reader that frees nothing. It must equal
the sum of qtctl's ``read``, ``own`` and ``lost``. Guest speed is the growth of the log, with QEMU
alone and followed, alternately.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.common import (
    CLOSING_S,
    MIB,
    Home,
    Qmp,
    Usage,
    first_in_line,
    keepers,
    open_files,
    poll,
    qtctl,
    the_qemu,
)
from tests.qemus import RealGuest

Place = Literal["spool", "file"]

PATTERN = "*"
HOT = "memory_region_ops_*"
#: The guest's clock chip says "update in progress": once in a while.
FEW = "addr == 0x71 and value & 0x80"
RSS_LIMIT = 200 * MIB
SPOOL_LIMIT = 64 * MIB
GROWTH_LIMIT = 16 * MIB
SPEED_LIMIT = 0.02

_READ = MIB
_LOOK_S = 0.002
_SETTLE_S = 0.5
_LONG_S = 30.0
_WINDOW_S = 3.0
_ATTEMPTS = 3


def booted(place: Place) -> RealGuest:
    """Return a guest, not started, that logs to a plain file, or whose log needs a spool."""
    if place == "file":
        return RealGuest(the_qemu(), busy=True, extra=["-D", "{dir}/log"])
    return RealGuest(the_qemu(), busy=True, stderr=subprocess.DEVNULL)


class LineCounter:
    """Counts the newlines of a growing file, and its size.

    ``blind``: qtctl freed lines before they were counted here, so that the count is useless.
    """

    def __init__(self, path: str, offset: int) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._began_at = self._offset = self._size = offset
        self.lines = 0
        self.blind = False
        self.peak_bytes = 0
        self.first = self.last = 0.0

    @property
    def bytes(self) -> int:
        """Bytes written so far."""
        return self._size - self._began_at

    @property
    def seconds(self) -> float:
        """Seconds from the first to the last growth."""
        return self.last - self.first

    def look(self) -> None:
        """Update the size of the file and its size on disk."""
        state = os.fstat(self._fd)
        if state.st_size != self._size:
            self._size, self.last = state.st_size, time.monotonic()
            self.first = self.first or self.last
        self.peak_bytes = max(self.peak_bytes, state.st_blocks * 512)

    def count(self) -> None:
        """Count the lines written since the last call."""
        self.look()
        while data := os.pread(self._fd, _READ, self._offset):
            self._offset += len(data)
            self.lines += data.count(b"\n")
            self.blind |= b"\0" in data
            self.look()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def spool_of(pid: int) -> str | None:
    """Return a path to the spool that a guest has open, or None."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if "/qtctl-spool-" in str(entry.readlink()):
                    return str(entry)
    return None


@dataclass
class Run:
    """One run of ``qtctl tail``: its counters, an independent count, and its resources.

    ``blind``: the independent count fell behind and is useless.
    """

    place: Place
    seconds: float = 0.0
    written: int = 0
    written_bytes: int = 0
    read: int = 0
    shown: int = 0
    filtered: int = 0
    lost: int = 0
    own: int = 0
    unknown_gaps: int = 0
    early_rss: int = 0
    late_rss: int = 0
    peak_rss: int = 0
    peak_spool: int = 0
    cpu: float = 0.0
    blind: bool = False
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.place}: {self.seconds:.1f} s, {self.written / self.seconds:,.0f} lines/s, "
            f"{self.written_bytes / self.seconds / 1e6:.0f} MB/s\n"
            f"  written {self.written:,}, read {self.read:,}, lost {self.lost:,}"
            f"{f' and {self.unknown_gaps} times an unknown number' if self.unknown_gaps else ''}; "
            f"shown {self.shown:,}, filtered {self.filtered:,}\n"
            f"  RSS after a quarter {self.early_rss / MIB:.0f} MiB, at the end "
            f"{self.late_rss / MIB:.0f}, peak {self.peak_rss / MIB:.0f}; peak spool "
            f"{self.peak_spool / MIB:.0f} MiB\n"
            f"  {self.cpu / self.seconds:.2f} s of CPU a second, "
            f"{self.cpu / self.read * 1e6:.2f} us a line"
        )


def follow(
    guest: RealGuest,
    home: Home,
    place: Place,
    seconds: float,
    *,
    pattern: str = PATTERN,
    where: str | None = FEW,
) -> Run:
    """Follow a guest for ``seconds``; compare qtctl's counters with an independent count."""
    run = Run(place)
    files = open_files(guest.pid)
    with Qmp(guest.address) as monitor:
        states = monitor.enabled()
    log = guest.directory / "log"
    counter = LineCounter(str(log), log.stat().st_size) if place == "file" else None
    words = ["tail", pattern, "--ndjson", "--duration", f"{seconds}s"]
    words += ["--where", where] if where is not None else []
    out, errors = home.path / "out", home.path / "errors"
    with (
        out.open("wb") as stdout,
        errors.open("wb") as stderr,
        qtctl(home, guest.address, *words, stdout=stdout, stderr=stderr) as process,
        first_in_line(),
    ):
        usage, cpu_before = Usage(process.pid), 0.0
        while process.poll() is None:
            usage.sample()
            if counter is not None and counter.seconds < seconds / 4:
                run.early_rss = usage.rss
            if counter is None and (path := spool_of(guest.pid)):
                counter = LineCounter(path, 0)
            if counter is not None:
                counter.look() if place == "file" else counter.count()
                cpu_before = cpu_before if counter.first else usage.cpu
            time.sleep(_LOOK_S)
    if process.returncode or counter is None:
        raise RuntimeError(f"qtctl tail ended with {process.returncode}: {errors.read_text()}")
    counter.count()
    counter.close()
    _sums(run, out)
    run.seconds, run.cpu = counter.seconds, usage.cpu - cpu_before
    run.written, run.written_bytes, run.blind = counter.lines, counter.bytes, counter.blind
    run.peak_rss, run.late_rss = usage.peak_rss, usage.rss
    run.peak_spool = counter.peak_bytes if place == "spool" else 0
    run.problems = [*_broken(run), *_left_behind(guest, home, files, states)]
    return run


def _sums(run: Run, out: Path) -> None:
    """Compare the printed records with the printed summary."""
    events = losses = 0
    summary = None
    with out.open() as lines:
        for line in lines:
            record = json.loads(line)
            kind = record["type"]
            events += kind == "event"
            if kind == "loss":
                run.unknown_gaps += record["count"] is None
                losses += record["count"] or 0
            if kind == "summary":
                summary = record
    if summary is None:
        run.problems.append("no summary was printed")
        return
    run.read, run.shown, run.filtered, run.lost = (
        summary[name] for name in ("read", "shown", "filtered", "lost")
    )
    run.own = summary.get("own", 0)
    if (events, losses) != (run.shown, run.lost):
        run.problems.append(
            f"printed {events:,} events and {losses:,} lost, summed up "
            f"{run.shown:,} and {run.lost:,}"
        )


def _broken(run: Run) -> list[str]:
    """Return the limits that a run broke, as messages."""
    checks = {
        "read is not shown + filtered": run.read != run.shown + run.filtered,
        "written is not read + own + lost": not run.blind and not _adds_up(run),
        "nothing was written": not run.written,
        "lines of a plain file were lost": run.place == "file" and run.lost > 0,
        "RSS is above 200 MB": run.peak_rss > RSS_LIMIT,
        "RSS grew": run.seconds > _LONG_S and run.late_rss > run.early_rss + GROWTH_LIMIT,
        "more than a core was used": run.filtered > run.shown and run.cpu > run.seconds,
        "the spool is above 64 MiB": run.peak_spool > SPOOL_LIMIT,
    }
    return [*run.problems, *(text for text, broken in checks.items() if broken)]


def _adds_up(run: Run) -> bool:
    accounted = run.read + run.own + run.lost
    return run.written > accounted if run.unknown_gaps else run.written == accounted


def _left_behind(guest: RealGuest, home: Home, files: set[str], states: set[str]) -> list[str]:
    """Return what was not restored or removed, as messages."""
    with Qmp(guest.address) as monitor:
        on = monitor.enabled() ^ states
    poll(lambda: open_files(guest.pid) == files, CLOSING_S)
    moved = open_files(guest.pid) ^ files
    checks = {
        f"events not restored: {', '.join(sorted(on)[:3])}": bool(on),
        f"open files not restored: {', '.join(sorted(moved))}": bool(moved),
        "a lease is left behind": bool(home.leases()),
        "a spool is left behind": bool(home.spools()),
        "a keeper still runs": not poll(lambda: not keepers(guest.pid), 2),
    }
    return [text for text, broken in checks.items() if broken]


def grep_beside(guest: RealGuest, seconds: float, pattern: str) -> str:
    """Run ``tail -F | grep -c`` as a peer; return its CPU time per line, as text."""
    log = guest.directory / "log"
    with (
        Qmp(guest.address) as monitor,
        subprocess.Popen(["tail", "-n", "0", "-F", str(log)], stdout=subprocess.PIPE) as tail,
        subprocess.Popen(
            ["grep", "-c", "memory_region_ops_read"], stdin=tail.stdout, stdout=subprocess.PIPE
        ) as grep,
    ):
        counter = LineCounter(str(log), log.stat().st_size)
        used = [Usage(process.pid) for process in (tail, grep)]
        try:
            monitor.switch(pattern, True)
            time.sleep(seconds)
            monitor.switch(pattern, False)
            counter.count()
            counter.close()
            time.sleep(_SETTLE_S)
            for usage in used:
                usage.sample()
        finally:
            tail.kill()
    cpu = sum(usage.cpu for usage in used)
    return f"  peer: tail -F | grep -c ONE, {cpu / counter.lines * 1e6:.2f} us a line"


class Speed(NamedTuple):
    """Rate at which a guest logs: MB per second, and per second of its CPU time."""

    wall: float
    cpu: float


def speeds(
    guest: RealGuest, home: Home, place: Place, seconds: float, pairs: int
) -> dict[str, list[Speed]]:
    """Return how fast a guest writes to a log, alone and followed, alternately.

    Alone it writes to a file on disk, or also to one where the spool would be. Each is new, for
    writes that are still pending slow down the next measurement.
    """
    disk, memory = home.path / "own", home.runtime / "own"
    ways: dict[str, Callable[[], Speed]] = {"alone": lambda: _alone(guest, disk, seconds)}
    if place == "spool":
        ways["followed"] = lambda: _followed(guest, home, None, seconds)
        ways["alone, where the spool is"] = lambda: _alone(guest, memory, seconds)
    else:
        ways["followed"] = lambda: _followed(guest, home, disk, seconds)
    found: dict[str, list[Speed]] = {way: [] for way in ways}
    for _ in range(pairs):
        for way, measure in ways.items():
            found[way].append(measure())
    return found


@contextlib.contextmanager
def _logging(guest: RealGuest, path: Path) -> Iterator[None]:
    """Let the guest log to a new file during the block."""
    with Qmp(guest.address) as monitor:
        monitor.hmp(f"logfile {path}")
    try:
        yield
    finally:
        with Qmp(guest.address) as monitor:
            monitor.hmp("logfile /dev/null")
        path.unlink()


def _alone(guest: RealGuest, path: Path, seconds: float) -> Speed:
    with _logging(guest, path), Qmp(guest.address) as monitor:
        monitor.switch(HOT, True)
        rate = _growth(guest.pid, path, seconds)
        monitor.switch(HOT, False)
    return rate


def _followed(guest: RealGuest, home: Home, path: Path | None, seconds: float) -> Speed:
    """Measure a guest with a log at ``path``, or with none."""
    words = ("tail", HOT, "--where", FEW, "-q")
    nothing = subprocess.DEVNULL
    with (
        _logging(guest, path) if path is not None else contextlib.nullcontext(),
        qtctl(home, guest.address, *words, stdout=nothing, stderr=nothing),
    ):
        if path is None and not poll(lambda: spool_of(guest.pid) is not None, 20):
            raise RuntimeError("qtctl made no spool")
        return _growth(guest.pid, path or Path(spool_of(guest.pid) or ""), seconds)


def _growth(pid: int, path: Path, seconds: float) -> Speed:
    """Return how fast a file grows, from its first growth on."""
    before = path.stat().st_size
    if not poll(lambda: path.stat().st_size > before, 20):
        raise RuntimeError(f"nothing is written to {path}")
    time.sleep(_SETTLE_S)
    usage = Usage(pid)
    usage.sample()
    size, cpu, began = path.stat().st_size, usage.cpu, time.monotonic()
    time.sleep(seconds)
    usage.sample()
    grown = (path.stat().st_size - size) / 1e6
    return Speed(grown / (time.monotonic() - began), grown / (usage.cpu - cpu))


def print_speeds(place: Place, found: dict[str, list[Speed]]) -> None:
    """Print rates, and medians of the ratios of adjacent measurements, followed to alone."""
    print(f"guest speed, {place}: MB/s, and MB in a second of QEMU's own CPU time")
    for way, rates in found.items():
        wall, cpu = (statistics.median(one) for one in zip(*rates, strict=True))
        print(f"  {way:28}{wall:8.1f}{cpu:8.1f}")
    for way in found.keys() - {"followed"}:
        left = [
            (followed.wall / alone.wall, followed.cpu / alone.cpu)
            for alone, followed in zip(found[way], found["followed"], strict=True)
        ]
        wall, cpu = (statistics.median(one) for one in zip(*left, strict=True))
        print(f"  followed / {way}: {wall:.3f}, by CPU time {cpu:.3f} (goal {1 - SPEED_LIMIT:.2f})")


def main() -> int:
    """Run all and print; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each counted run; 0: none")
    parser.add_argument("--pairs", type=int, default=5, help="of guest speed; 0: none")
    parser.add_argument("--spool", default="/dev/shm", help="folder for spools")
    parser.add_argument("--pattern", default=PATTERN, help="events to enable in counted runs")
    options = parser.parse_args()
    problems = []
    places: tuple[Place, ...] = ("spool", "file")
    runs: tuple[tuple[Place, float, str, str | None], ...] = (
        *((place, options.seconds, options.pattern, FEW) for place in places),
        # All records are shown, more than can be printed: skipped ones must be counted.
        ("spool", min(options.seconds, 10.0), PATTERN, None),
    )
    for place, seconds, pattern, where in runs if options.seconds else ():
        for _ in range(_ATTEMPTS):
            with Home(options.spool) as home, booted(place) as guest:
                run = follow(guest, home, place, seconds, pattern=pattern, where=where)
            print(f"{pattern} {f'--where {where!r}' if where else '(all shown)'}\n{run}")
            if place == "file":
                with booted(place) as guest:
                    print(grep_beside(guest, min(seconds, 10.0), pattern))
            sys.stdout.flush()
            if not run.blind:
                break
            print("  the independent count fell behind and is useless: repeating")
        else:
            run.problems.append("the independent count never kept up")
        problems += [f"{place}: {problem}" for problem in run.problems]
    for place in places if options.pairs else ():
        with Home(options.spool) as home, booted("spool") as guest:
            print_speeds(place, speeds(guest, home, place, _WINDOW_S, options.pairs))
    for problem in problems:
        print(f"BROKEN: {problem}", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
