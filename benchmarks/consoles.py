"""Eight consoles run mixed verbs on one guest: replies are checked, and that nothing leaks.

    python -m benchmarks.consoles [--seconds 60] [--seed 1]

A real QEMU with one monitor. Each console runs verbs without a pause: four query and switch
events, three follow events for short times and lend the monitor to the others meanwhile, and one is
a plain QMP client on the lent socket. At any moment, a name is used by one console only, so that a
reply to another console is detected. At the end, events must be restored, and no lease, spool or
socket may remain.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import QTCTL, Home, Qmp, quantile, the_qemu
from tests.qemus import RealGuest

FOLLOWED = ("virtio_blk_handle_read", "virtio_blk_req_complete", "virtio_queue_notify")
_LIMIT_S = 60.0


@dataclass(slots=True)
class Tally:
    """Results: call times in seconds by verb, and problems."""

    times: dict[str, list[float]] = field(default_factory=lambda: collections.defaultdict(list))
    problems: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, verb: str, seconds: float, problem: str = "") -> None:
        with self.lock:
            self.times[verb].append(seconds)
            if problem:
                self.problems.append(problem)
                print(f"BROKEN {problem}", flush=True)


@dataclass(frozen=True, slots=True)
class Console:
    """One console: the guest, the events that it uses, and the tally of its results."""

    home: Home
    address: str
    names: Sequence[str]
    chance: random.Random
    tally: Tally
    ends: float

    def run(self, check: Callable[[str], bool], *words: str) -> None:
        """Run a verb and check its output."""
        began = time.monotonic()
        done = subprocess.run(
            [*QTCTL, "-t", self.address, *words],
            env=self.home.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        wrong = done.returncode or not check(done.stdout)
        failure = f"{' '.join(words)}: {done.returncode}, {done.stdout[-300:]!r}, {done.stderr!r}"
        self.tally.add(words[0], time.monotonic() - began, failure if wrong else "")

    def ask_and_switch(self) -> None:
        """Run verbs that query and switch events, one after the other."""
        while time.monotonic() < self.ends:
            name = self.chance.choice(self.names)
            match self.chance.choice(("list", "info", "status", "qmp", "hmp", "switch", "for")):
                case "list":
                    self.run(partial(_listed, name), "list", name, "--json")
                case "info":
                    self.run(partial(_described, name), "info", name)
                case "status":
                    self.run(lambda out: "run_state" in json.loads(out), "status", "--json")
                case "qmp":
                    request = {"execute": "trace-event-get-state", "arguments": {"name": name}}
                    self.run(partial(_answered, name), "qmp", json.dumps(request))
                case "hmp":
                    self.run(partial(_printed, name), "hmp", f"info trace-events {name}")
                case "switch":
                    self.run(partial(_switched, name), "enable", name, "--json")
                    self.run(partial(_switched, name), "disable", name, "--json")
                case _:
                    self.run(lambda out: "1 matched" in out, "enable", name, "--for", "300ms")

    def follow(self) -> None:
        """Follow events that other consoles follow too, for short times; lend the monitor then."""
        while time.monotonic() < self.ends:
            picked = self.chance.sample(FOLLOWED, self.chance.randint(1, len(FOLLOWED)))
            duration = f"{self.chance.uniform(0.1, 3):.2f}s"
            checked = partial(_followed, frozenset(picked))
            self.run(checked, "tail", *picked, "--duration", duration, "--ndjson")

    def be_plain(self) -> None:
        """Query as a plain QMP client, on the socket of the current lender."""
        while time.monotonic() < self.ends:
            try:
                with Qmp(_lent_path(self.home)) as monitor:
                    while time.monotonic() < self.ends:
                        name = self.chance.choice(self.names)
                        began = time.monotonic()
                        states = monitor.run("trace-event-get-state", name=name)
                        wrong = "" if states[0]["name"] == name else f"plain: {name}, {states}"
                        self.tally.add("plain QMP", time.monotonic() - began, wrong)
                        time.sleep(0.01)
            except (OSError, ValueError, IndexError):
                time.sleep(0.02)  # the lender has ended, and closed the connection


def _lent_path(home: Home) -> str:
    [path, *_] = (home.path / "run" / "qtctl").glob("lent-*[0-9a-f]")
    return str(path)


def _described(name: str, out: str) -> bool:
    return out.split()[1] == name


def _answered(name: str, out: str) -> bool:
    return bool(json.loads(out)[0]["name"] == name)


def _printed(name: str, out: str) -> bool:
    return out.startswith(f"{name} : ")


def _listed(name: str, out: str) -> bool:
    return [event["name"] for event in json.loads(out)["events"]] == [name]


def _switched(name: str, out: str) -> bool:
    report = json.loads(out)
    return bool(report["matched"] == [name] and not report["failed"])


def _followed(picked: frozenset[str], out: str) -> bool:
    rows: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    shown = {row["name"] for row in rows if row["type"] == "event"}
    summary = rows[-1]
    return bool(
        shown <= picked
        and summary["type"] == "summary"
        and summary["read"] == summary["shown"] + summary["filtered"]
    )


def left_behind(guest: RealGuest, home: Home, before: set[str]) -> list[str]:
    """Return what was not restored or removed, as messages."""
    with Qmp(guest.address) as monitor:
        now = monitor.enabled()
    found = [f"event not restored: {name}" for name in sorted(now ^ before)]
    found += [f"lease left behind: {path.name}" for path in home.leases()]
    found += [f"spool left behind: {path.name}" for path in home.spools()]
    sockets = [path for path in (home.path / "run" / "qtctl").glob("lent-*") if _answers(path)]
    return found + [f"monitor still lent: {path.name}" for path in sockets]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        return link.connect_ex(str(path)) == 0


def main() -> int:
    """Run and print; return 1 if there was a problem."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    tally = Tally()
    extra = ("-D", "{dir}/log")
    with Home() as home, RealGuest(the_qemu(), image="virtio-blk", busy=True, extra=extra) as guest:
        with Qmp(guest.address) as monitor:
            before = monitor.enabled()
            states = monitor.run("trace-event-get-state", name="usb_*")
        names = sorted(event["name"] for event in states if event["state"] == "disabled")
        ends = time.monotonic() + options.seconds
        threads = []
        for number in range(8):
            own = names[number::8]  # only this console queries and switches these
            chance = random.Random(options.seed * 8 + number)
            console = Console(home, guest.address, own, chance, tally, ends)
            work = (console.be_plain, *[console.follow] * 3, *[console.ask_and_switch] * 4)[number]
            threads.append(threading.Thread(target=work))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with subprocess.Popen(
            [*QTCTL, "-t", guest.address, "restore"], env=home.environment, stdout=subprocess.PIPE
        ) as restoring:
            restoring.communicate(timeout=_LIMIT_S)
        problems = [*tally.problems, *left_behind(guest, home, before)]
    for verb, times in sorted(tally.times.items()):
        median, p99 = quantile(times, 0.5) * 1e3, quantile(times, 0.99) * 1e3
        print(f"{verb:10} {len(times):6} calls, median {median:7.1f} ms, p99 {p99:7.1f} ms")
    for problem in problems[-20:]:
        print(f"BROKEN {problem}")
    print(f"{sum(map(len, tally.times.values()))} calls in {options.seconds:g} s, ", end="")
    print(f"{len(problems)} lost, mixed up or leaked")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
