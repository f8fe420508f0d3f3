"""Runs qtctl as users do: a process of its own, with private folders and a hard time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from qtctl.model import Guest
from qtctl.monitor.guests import find_guest
from tests.forking import Forked, queued_seconds, read_once, server
from tests.streams import check_stream

TOP = Path(__file__).resolve().parent.parent

#: No call of qtctl may hang longer than this, whatever the other side does; see ``Ran.seconds``.
LIMIT_SECONDS = 6.0
#: Conditions come true at once, or on a busy machine later; a test that fails waits this long.
PATIENCE_SECONDS = 60.0
_KILL_SECONDS = 150.0
_POLL_SECONDS = 0.005


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Poll until ``condition`` gives something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(_POLL_SECONDS)
    return found


@dataclass(frozen=True, slots=True)
class Ran:
    """What one call of qtctl did.

    ``seconds`` is how long it took, by a :class:`Stopwatch`.
    """

    args: tuple[str, ...]
    code: int
    raw: bytes
    raw_err: bytes
    seconds: float

    @property
    def out(self) -> str:
        """Stdout as text; what is no UTF-8 as surrogates."""
        return self.raw.decode("utf-8", "surrogateescape")

    @property
    def err(self) -> str:
        """Stderr as text; what is no UTF-8 as surrogates."""
        return self.raw_err.decode("utf-8", "surrogateescape")

    def said(self, code: int, *parts: str) -> Self:
        """Insist on an exit code and on what stderr names, and return this."""
        assert self.code == code, self
        for part in parts:
            assert part in self.err, (part, self)
        return self


class Running:
    """A qtctl that runs: read its pipes with threads, so that many can run at once."""

    def __init__(self, args: Sequence[str], process: subprocess.Popen[bytes] | Forked) -> None:
        self.args = tuple(args)
        self.process = process
        self._began = time.monotonic()
        self._watch = Stopwatch()
        self._seconds = 0.0
        self.out = bytearray()
        self.err = bytearray()
        pipes = ((process.stdout, self.out), (process.stderr, self.err))
        self._readers = [
            threading.Thread(target=_drain, args=(pipe, into)) for pipe, into in pipes if pipe
        ]
        for reader in self._readers:
            reader.start()
        self._waiter = threading.Thread(target=self._wait)
        self._waiter.start()

    def _wait(self) -> None:
        killer = threading.Timer(_KILL_SECONDS, self.process.kill)
        killer.start()
        if isinstance(self.process, Forked):
            self.process.wait()
            queued = self.process.queued
        else:
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
            queued = queued_seconds(self.process.pid)
            self.process.wait()
        elapsed = time.monotonic() - self._began - queued
        self._seconds = min(self._watch.seconds, max(0.0, elapsed))
        killer.cancel()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return not self._waiter.is_alive()

    def signal(self, number: int) -> None:
        """Send it a signal; one that has ended gets none."""
        self.process.send_signal(number)

    def said(self, text: str) -> None:
        """Wait until it said ``text`` on stderr."""
        wanted = text.encode()
        eventually(lambda: wanted in self.err or self.ended, f"{self.args} says {text!r}")
        assert wanted in self.err, (self.args, bytes(self.err))

    def wrote(self, data: bytes) -> None:
        """Wait until it wrote ``data`` on stdout."""
        eventually(lambda: data in self.out or self.ended, f"{self.args} writes {data!r}")
        assert data in self.out, (self.args, bytes(self.out[-2000:]), bytes(self.err))

    def wrote_often(self, data: bytes, times: int) -> None:
        """Wait until it wrote ``data`` so many times on stdout."""
        eventually(lambda: self.out.count(data) >= times or self.ended, f"it writes {data!r}")
        assert self.out.count(data) == times, (self.args, bytes(self.out[-2000:]), bytes(self.err))

    def finish(self, limit: float | None = LIMIT_SECONDS) -> Ran:
        """Wait for its end, which must come within ``limit`` seconds of its start."""
        self._waiter.join()
        for reader in self._readers:
            reader.join()
        code = self.process.poll()
        assert code is not None
        ran = Ran(self.args, code, bytes(self.out), bytes(self.err), self._seconds)
        assert limit is None or ran.seconds < limit, ran
        assert b"Traceback" not in ran.raw_err, ran.err
        assert "bug in qtctl" not in ran.err, ran
        if "--ndjson" in self.args:
            check_stream(ran.raw)
        return ran

    def end(self) -> None:
        """Kill it if a test left it."""
        if not self.ended:
            self.process.kill()
        self._waiter.join()
        for reader in self._readers:
            reader.join()


class Stopwatch:
    """Measures time without that in which some process of this machine waited for a processor.

    So a limit holds on an idle machine, and a busy one cannot break it.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._stalled = _stalled()

    @property
    def stalled(self) -> float:
        """For how many of the seconds since this was made some process waited."""
        return _stalled() - self._stalled

    @property
    def seconds(self) -> float:
        """The other seconds since this was made."""
        return max(0.0, time.monotonic() - self._began - self.stalled)


def _stalled() -> float:
    """Return for how long processes have waited for a processor or a disk since the boot.

    That is the kernel's pressure stall information; 0 where the kernel has none.
    """
    total = 0
    for what in ("cpu", "io"):
        try:
            some = Path(f"/proc/pressure/{what}").read_text().splitlines()[0]
            total += int(some.rpartition("=")[2])
        except (OSError, IndexError, ValueError):
            continue
    return total / 1e6


def _drain(pipe: IO[bytes], into: bytearray) -> None:
    with pipe:
        while data := os.read(pipe.fileno(), 1 << 16):
            into += data


class Qtctl:
    """Call it to run qtctl; its folders lie in ``home``, and what it started ends with it.

    ``env`` adds to (or with None removes from) a small environment of its own.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.state = home / "state"
        self.runtime = home / "run"
        self.cache = home / "cache"
        self._started: list[Running] = []
        self._usual = read_once(self.environment())
        for folder in (self.state, self.runtime, self.cache):
            folder.mkdir(mode=0o700, parents=True)

    def environment(self, env: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Return the environment that calls get."""
        base: dict[str, str | None] = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(TOP),
            "PYTHONFAULTHANDLER": "1",
            "PYTHONWARNINGS": "error",
            "XDG_STATE_HOME": str(self.state),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "XDG_CACHE_HOME": str(self.cache),
            **(env or {}),
        }
        return {key: value for key, value in base.items() if value is not None}

    def start(
        self,
        *args: str,
        env: Mapping[str, str | None] | None = None,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.PIPE,
        stderr: int | IO[Any] = subprocess.PIPE,
        before: Sequence[str] = (),
        **more: Any,
    ) -> Running:
        """Start qtctl; ``before`` is a command that runs it (``setpriv``, say).

        It is a fork of a server where that makes no difference: see :mod:`tests.forking`.
        """
        environment = self.environment(env)
        once = read_once(environment)
        process: subprocess.Popen[bytes] | Forked
        if before or more.keys() - {"cwd"} or once != self._usual:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "qtctl", *args],
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                **more,
            )
        else:
            folder = str(more.get("cwd") or Path.cwd())
            started = server(once).start
            process = started(args, environment, folder, stdin, stdout, stderr)
        running = Running(args, process)
        self._started.append(running)
        return running

    def __call__(self, *args: str, limit: float | None = LIMIT_SECONDS, **options: Any) -> Ran:
        """Run qtctl to its end."""
        return self.start(*args, **options).finish(limit)

    def leases(self) -> list[Path]:
        """List the leases in the journals."""
        return sorted((self.state / "qtctl").rglob("*.json"))

    def spools(self) -> list[Path]:
        """List the spools that are left."""
        found = [*self.runtime.rglob("qtctl-spool-*"), *self.cache.rglob("qtctl-spool-*")]
        return sorted(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for running in self._started:
            running.end()


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process that the test started with SIGSTOP for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def guest_by_pid(pid: int) -> Guest:
    """Return the guest that runs with this pid."""
    guest = find_guest(pid)
    assert guest is not None
    return guest
