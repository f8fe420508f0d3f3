"""Helpers of benchmarks: machine facts, temporary folders, a QMP client, process usage."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import psutil

from tests.qemus import Qemu, find

MIB = 1 << 20
#: Of the capture that saved traces are made of: records that make 1 GB, and a pair of events.
GIGABYTE = 13_600_000
PAIR = ("virtio_blk_handle_read", "virtio_blk_req_complete")
Output = int | IO[bytes] | None
#: QEMU closes a log some 50 ms after it was pointed elsewhere.
CLOSING_S = 2.0
#: qtctl as users start it, by the interpreter that runs the benchmark.
_SCRIPT = Path(sys.executable).with_name("qtctl")
QTCTL: tuple[str, ...] = (str(_SCRIPT),) if _SCRIPT.exists() else (sys.executable, "-m", "qtctl")


def too_slow(rows: Sequence[tuple[str, float]], peer: str, limits: Mapping[str, float]) -> bool:
    """Print the rows whose rate is below their limit, and return whether there is one.

    A limit is a multiple of the peer's rate in the same run, so it holds on any processor.
    """
    rates = dict(rows)
    broken = [title for title, limit in limits.items() if rates[title] < limit * rates[peer]]
    for title in broken:
        ratio = rates[title] / rates[peer]
        print(f"{title}: {ratio:.2f} times {peer}, below {limits[title]:g}", file=sys.stderr)
    return bool(broken)


def facts() -> list[str]:
    """Describe the machine on which the figures are measured."""
    model = "unknown CPU"
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    qemu = find("path")
    return [
        f"date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        f"cores: {os.cpu_count()} x {model}",
        f"kernel: {platform.system()} {platform.release()}",
        f"Python: {platform.python_version()}",
        f"QEMU: {'.'.join(map(str, qemu.version)) if qemu else 'none on PATH'}",
        f"load when begun: {os.getloadavg()[0]:.1f}",
    ]


def the_qemu() -> Qemu:
    """Return the QEMU on PATH; exit if there is none."""
    qemu = find("path")
    if qemu is None:
        sys.exit("this benchmark needs qemu-system-x86_64 on PATH")
    return qemu


def quantile(values: Sequence[float], part: float) -> float:
    """Return the quantile ``part`` of ``values`` (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def best(measure: Callable[[], float], seconds: float) -> float:
    """Return the best rate of repeated runs during ``seconds``, at least one."""
    rates, ends = [measure()], time.perf_counter() + seconds
    while time.perf_counter() < ends:
        rates.append(measure())
    return max(rates)


def peer(command: list[str], units: int) -> float:
    """Run a program to its end; return the units per second of its processor time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # To a pipe: grep stops at the first hit where its output goes to /dev/null.
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return units / used


def print_rates(rows: Sequence[tuple[str, float]], unit: str, beside: str) -> None:
    """Print rates in millions per second, and their ratio to that of the row ``beside``."""
    by = dict(rows)
    print(f"| | million {unit}/s | times {beside} |\n|---|---|---|")
    for title, rate in rows:
        print(f"| {title} | {rate / 1e6:.2f} | {rate / by[beside]:.2f} |")


class Ran(NamedTuple):
    """Resources of a program: wall-clock and CPU seconds, and peak memory in bytes."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    out: bytes


def run(*words: str, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a program to its end; raise with its stderr if it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(words, stdout=out, stderr=errors, env=environment)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(words)}: {errors.read().decode(errors='replace')}")
        out.seek(0)
        return Ran(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, out.read())


def poll(condition: Callable[[], bool], seconds: float, every: float = 0.005) -> bool:
    """Wait at most ``seconds`` until ``condition`` is true; return whether it is."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


class Home:
    """Temporary folders for the leases, spools and caches of qtctl.

    ``runtime`` is below the folder ``memory``, as a login session's runtime folder is in memory.
    """

    def __init__(self, memory: str = "/dev/shm") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="qtctl-bench-")
        self._memory = tempfile.TemporaryDirectory(prefix="qtctl-bench-", dir=memory)
        self.path = Path(self._folder.name)
        self.runtime = Path(self._memory.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()
        self._memory.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        """Return an environment with these folders, in which byte code is cached as for a user."""
        changed = {
            "XDG_STATE_HOME": str(self.path / "state"),
            "XDG_CACHE_HOME": str(self.path / "cache"),
            "XDG_RUNTIME_DIR": str(self.runtime),
        }
        dropped = ("PYTHONDONTWRITEBYTECODE", "QTCTL_TARGET", "QMP_SOCKET")
        return {k: v for k, v in os.environ.items() if k not in dropped} | changed

    def leases(self) -> list[Path]:
        """Return the existing lease files."""
        return sorted(self.path.glob("state/qtctl/leases/*/*.json"))

    def spools(self) -> list[Path]:
        """Return the existing spool folders."""
        return sorted(self.runtime.glob("qtctl/qtctl-spool-*"))


class Qmp:
    """A QMP connection that shares no code with qtctl."""

    def __init__(self, path: str) -> None:
        self._link = socket.socket(socket.AF_UNIX)
        self._link.settimeout(10)
        self._link.connect(path)
        self._lines = self._link.makefile("rb")
        self._lines.readline()
        self.run("qmp_capabilities")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._link.close()

    def run(self, command: str, **arguments: Any) -> Any:
        """Execute a command and return its result."""
        message = json.dumps({"execute": command, "arguments": arguments})
        self._link.sendall(message.encode() + b"\n")
        while True:
            answer = json.loads(self._lines.readline())
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def hmp(self, line: str) -> None:
        """Run an HMP command that prints nothing on success."""
        reply = self.run("human-monitor-command", **{"command-line": line})
        if reply.strip():
            raise RuntimeError(reply)

    def switch(self, pattern: str, enable: bool) -> None:
        """Switch events; unavailable ones are ignored."""
        arguments = {"name": pattern, "enable": enable, "ignore-unavailable": True}
        self.run("trace-event-set-state", **arguments)

    def enabled(self) -> set[str]:
        """Return the names of the events that are on."""
        states = self.run("trace-event-get-state", name="*")
        return {event["name"] for event in states if event["state"] == "enabled"}


def open_files(pid: int) -> set[str]:
    """Return the link targets of a process's writable descriptors, without sockets."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if entry.lstat().st_mode & stat.S_IWUSR:
                    found.add(str(entry.readlink()))
    return {name for name in found if not name.startswith("socket:")}


def keepers(guest_pid: int) -> list[int]:
    """Return the pids of the spool keepers of this guest."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if str(guest_pid) in words and any(word.endswith("keeper.py") for word in words):
                found.append(process.pid)
    return found


@contextlib.contextmanager
def qtctl(
    home: Home, address: str, *words: str, stdout: Output = None, stderr: Output = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run qtctl on a guest; send it SIGINT at the end of the block if it still runs."""
    process = subprocess.Popen(
        [*QTCTL, "-t", address, *words],
        env=home.environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
    )
    try:
        yield process
    finally:
        end(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def end(process: subprocess.Popen[bytes]) -> int:
    """Send SIGINT to a process, SIGKILL after 10 s, and return its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


@contextlib.contextmanager
def first_in_line() -> Iterator[None]:
    """Give this process, not its children, real-time priority if permitted."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    allowed = False
    with contextlib.suppress(OSError):
        real_time = os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, real_time, os.sched_param(1))
        allowed = True
    try:
        yield
    finally:
        if allowed:
            os.sched_setscheduler(0, *before)


class Usage:
    """CPU time and memory of a process: RSS, and peak RSS."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._status = Path(f"/proc/{pid}/status")
        self.rss = self.peak_rss = 0
        self.cpu = 0.0

    def sample(self) -> None:
        """Update the figures; those of an ended process remain."""
        with contextlib.suppress(psutil.Error, OSError, IndexError):
            times = self._process.cpu_times()
            self.cpu = max(self.cpu, times.user + times.system)
            text = self._status.read_text()
            self.peak_rss = max(self.peak_rss, int(text.split("VmHWM:", 1)[1].split()[0]) * 1024)
            self.rss = int(text.split("VmRSS:", 1)[1].split()[0]) * 1024
