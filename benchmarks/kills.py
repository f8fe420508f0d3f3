"""SIGKILL of ``qtctl tail`` at random moments: the next run must restore the guest.

    python -m benchmarks.kills [--kills 100] [--seed 1]

A kill comes a random time after the start, after the first entry in the journal, or around the end
of the tail. Some events are on before the run, some of them among those that tail switches; they
must stay on. After each kill the benchmark inspects the guest to find the stage that was hit; then
``qtctl list`` runs, after which events and log target must be restored, and no lease, spool or
keeper may remain.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.common import (
    CLOSING_S,
    QTCTL,
    Home,
    Qmp,
    keepers,
    open_files,
    poll,
    qtctl,
    the_qemu,
)
from benchmarks.flood import spool_of
from tests.qemus import RealGuest

PATTERNS = ("virtio_*", "memory_region_ops_*")
BEFORE = ("virtio_blk_req_complete", "memory_region_ops_read", "qcow2_*")
_ON = "Ctrl-C gives back"


def booted() -> RealGuest:
    """Return a guest, not started, whose log needs a spool."""
    return RealGuest(the_qemu(), image="virtio-blk", busy=True, stderr=subprocess.DEVNULL)


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: its time, the stage it hit, and the problems after the next run."""

    when: str
    stage: str
    problems: tuple[str, ...]


def kills(guest: RealGuest, home: Home, count: int, seed: int) -> Iterator[Kill]:
    """Kill ``count`` times; yield each result."""
    chance = random.Random(seed)
    with Qmp(guest.address) as monitor:
        for pattern in BEFORE:
            monitor.switch(pattern, True)
        states = monitor.enabled()
    files = open_files(guest.pid)
    for _ in range(count):
        after, stage = _kill(guest, home, chance, states)
        yield Kill(after, stage, tuple(_next_run(guest, home, files, states)))


def _kill(guest: RealGuest, home: Home, chance: random.Random, states: set[str]) -> tuple[str, str]:
    """Kill a tail; return the time, as text, and the stage it was in."""
    errors = home.path / "errors"
    milestone, delay, duration = _moment(chance)
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [*QTCTL, "-t", guest.address, "tail", *PATTERNS, "--duration", f"{duration:.3f}s"],
            env=home.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )

    def reached() -> bool:
        if milestone == "on":
            return _ON in errors.read_text() or process.poll() is not None
        return milestone == "start" or bool(home.leases()) or process.poll() is not None

    try:
        if not poll(reached, 20, every=0.001):
            raise RuntimeError(f"qtctl tail does not begin: {errors.read_text()}")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        ended = process.poll() is not None
    finally:
        process.kill()
        process.wait()
    return f"{delay:.3f} s after {milestone}", "had ended" if ended else _stage(
        guest, home, errors.read_text(), states
    )


def _moment(chance: random.Random) -> tuple[str, float, float]:
    """Return a milestone, the delay of the kill after it, and the duration of the tail, in s."""
    draw = chance.random()
    if draw < 0.3:
        return "start", chance.uniform(0, 0.6), 60.0
    if draw < 0.65:
        return "journal", chance.uniform(0, 0.15), 60.0
    duration = chance.uniform(0.01, 0.5)
    return "on", max(0.0, duration + chance.uniform(-0.2, 0.1)), duration


def _stage(guest: RealGuest, home: Home, errors: str, states: set[str]) -> str:
    with Qmp(guest.address) as monitor:
        switched = monitor.enabled() != states
    begun = _ON in errors
    leases = [json.loads(path.read_text()) for path in home.leases()]
    if switched:
        return "events on" if begun else "events on, not reported yet"
    if begun:
        return "restoring" if leases else "restored"
    if any(lease["events"] for lease in leases):
        return "events in the journal, not on"
    if leases:
        moved = spool_of(guest.pid) is not None
        return "log in the journal, moved" if moved else "log in the journal, not moved"
    return "a spool without a lease" if home.spools() else "nothing done yet"


def _next_run(guest: RealGuest, home: Home, files: set[str], states: set[str]) -> Iterator[str]:
    """Run another verb; yield what was not restored or removed after it, as messages."""
    words = ("list", "--state", "enabled", "--json", "-q")
    with qtctl(home, guest.address, *words, stdout=subprocess.PIPE) as process:
        out = process.communicate(timeout=20)[0]
    if process.returncode:
        yield f"qtctl list ended with {process.returncode}"
        return
    listed = {event["name"] for event in json.loads(out)["events"]}
    if listed != states:
        yield f"events listed that are not restored: {sorted(listed ^ states)[:3]}"
    with Qmp(guest.address) as monitor:
        now = monitor.enabled()
    if now != states:
        yield f"events not restored: {sorted(now ^ states)[:3]}"
    if not poll(lambda: open_files(guest.pid) == files, CLOSING_S):
        yield f"open files not restored: {sorted(open_files(guest.pid) ^ files)}"
    if leases := home.leases():
        yield f"lease left behind: {leases[0].name}"
    if spools := home.spools():
        yield f"spool left behind: {spools[0].name}"
        for folder in spools:  # for the next kill
            shutil.rmtree(folder)
    if not poll(lambda: not keepers(guest.pid), 2):
        yield "a keeper still runs"


def main() -> int:
    """Kill, check and print; return 1 if a guest was not restored."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    stages: collections.Counter[str] = collections.Counter()
    good = 0
    with Home() as home, booted() as guest:
        for kill in kills(guest, home, options.kills, options.seed):
            stages[kill.stage] += 1
            good += not kill.problems
            for problem in kill.problems:
                print(f"BROKEN {kill.when}, {kill.stage}: {problem}", flush=True)
    print(f"{good} of {options.kills} guests restored by the next run (seed {options.seed})")
    for stage, count in stages.most_common():
        print(f"  {count:4}  {stage}")
    return bool(good != options.kills)


if __name__ == "__main__":
    sys.exit(main())
