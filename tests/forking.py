"""Starts qtctl as a fork of a process that has imported it: most of a verb's time are its imports.

``python -m tests.forking qtctl FD`` serves one worker of pytest on that socket. A process that it
starts is one of its own, with its own environment, descriptors, signals and end, but for two
things: the interpreter's flags and ``/proc/PID/cmdline`` are those of the server.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

TOP = Path(__file__).resolve().parent.parent
_LIMIT = 1 << 20
#: Threads of NumPy and pyarrow would not survive a fork.
_NO_THREADS = {
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
_READ_ONCE = ("PYTHON", "LANG", "LC_", "LD_", "OPENBLAS", "OMP_")


def read_once(environment: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Return the settings that an interpreter or its libraries read once, when they start."""
    return frozenset(item for item in environment.items() if item[0].startswith(_READ_ONCE))


class Forked:
    """A process that the server started, with what is used of ``subprocess.Popen``."""

    def __init__(self, pid: int, ended: int, pipes: Sequence[IO[bytes] | None]) -> None:
        self.pid = pid
        self.stdin, self.stdout, self.stderr = pipes
        self.returncode: int | None = None
        #: For how many seconds its main thread waited for a processor; known after its end.
        self.queued = 0.0
        self._ended = ended
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return its exit status (minus the signal that ended it), or None while it runs."""
        with self._lock:
            if self.returncode is None and select.select([self._ended], [], [], 0)[0]:
                told = os.read(self._ended, 1000)
                os.close(self._ended)
                self.returncode, self.queued = json.loads(told) if told else (-signal.SIGKILL, 0.0)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its exit status.

        Raises:
            subprocess.TimeoutExpired: It did not end in ``timeout`` seconds.
        """
        if self.poll() is None:
            with contextlib.suppress(ValueError, OSError):  # another thread was told meanwhile
                select.select([self._ended], [], [], timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(["qtctl"], timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal; one that has ended gets none."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The server of this process; ``start`` may be called by several threads."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forking", "qtctl", str(theirs.fileno())],
            cwd=TOP,
            env={**environment, **_NO_THREADS},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def start(
        self, args: Sequence[str], environment: Mapping[str, str], cwd: str, *streams: Any
    ) -> Forked:
        """Start qtctl; ``streams`` are stdin, stdout, stderr as ``subprocess.Popen`` has them."""
        with contextlib.ExitStack() as theirs:
            ours: list[IO[bytes] | None] = []
            files: list[int] = []
            for number, stream in enumerate(streams):
                pipe, file = _end_of(stream, number, files)
                ours.append(pipe)
                files.append(file)
                if stream in (subprocess.PIPE, subprocess.DEVNULL):
                    theirs.callback(os.close, file)
            ended, told = os.pipe()
            theirs.callback(os.close, told)
            request = json.dumps({"args": args, "env": dict(environment), "cwd": cwd}).encode()
            with self._lock:
                socket.send_fds(self._link, [request], [*files, told])
                answer = self._link.recv(_LIMIT)
        return Forked(json.loads(answer), ended, ours)

    def stop(self) -> None:
        """End the server; what it started goes on."""
        self._link.close()
        self._process.wait()


def _end_of(stream: Any, number: int, before: Sequence[int]) -> tuple[IO[bytes] | None, int]:
    """Return our end of a stream, if it is a pipe, and the descriptor that the process gets."""
    if stream == subprocess.PIPE:
        read, write = os.pipe()
        if number == 0:
            return os.fdopen(write, "wb", 0), read
        return os.fdopen(read, "rb", 0), write
    if stream == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_RDWR)
    if stream == subprocess.STDOUT:
        return None, before[1]
    if stream is None:
        return None, number
    return None, stream if isinstance(stream, int) else stream.fileno()


@functools.cache
def server(environment: frozenset[tuple[str, str]]) -> Server:
    """Return the server of this process whose interpreter has these settings."""
    made = Server(dict(environment))
    atexit.register(made.stop)
    return made


@dataclass(slots=True)
class _Children:
    """Processes that run, and where to tell of their end."""

    ends: dict[int, int] = field(default_factory=dict)

    def reap(self) -> None:
        for pid, told in [*self.ends.items()]:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                continue
            queued = queued_seconds(pid)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            with contextlib.suppress(BrokenPipeError):  # nobody waits any more
                os.write(told, json.dumps([status, queued]).encode())
            os.close(told)
            del self.ends[pid]


def queued_seconds(pid: int) -> float:
    """Return for how long the main thread of a process waited for a processor."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _serve(link: socket.socket) -> list[str]:
    """Answer requests; return the arguments in each process that is started."""
    woken, wake = os.pipe()
    asked = link.fileno()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    usual = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGINT)}
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for what it starts
    children = _Children()
    while True:
        ready = select.select([asked, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 1000)
            children.reap()
        if asked not in ready:
            continue
        request, files, _, _ = socket.recv_fds(link, _LIMIT, 4)
        if not request:
            link.close()
            sys.exit(0)
        with warnings.catch_warnings():
            # Of threads that a library started where _NO_THREADS does not stop it (Python 3.12).
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            for file in files[:3]:
                os.close(file)
            children.ends[pid] = files[3]
            link.send(json.dumps(pid).encode())
            continue
        signal.set_wakeup_fd(-1)
        for number, handler in usual.items():
            signal.signal(number, handler)
        for file in (woken, wake, link.detach(), files[3], *children.ends.values()):
            os.close(file)
        return _become(json.loads(request), files[:3])


def _become(request: dict[str, Any], files: Sequence[int]) -> list[str]:
    """Take over the streams, the environment and the folder of a request."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.stdin = _text(0, sys.stdin)
    sys.stdout = _text(1, sys.stdout)
    sys.stderr = _text(2, sys.stderr)
    words: list[str] = request["args"]
    return words


def _text(number: int, like: Any) -> io.TextIOWrapper:
    """Return a stream as the interpreter makes it at its start."""
    raw = os.fdopen(number, "rb" if number == 0 else "wb", closefd=False)
    lines = number == 2 or os.isatty(number)
    return io.TextIOWrapper(raw, like.encoding, like.errors, "\n", line_buffering=lines)


def main() -> None:
    """Import qtctl, serve, and run its command line in each process that is started."""
    import numpy  # noqa: F401 - not all modules of qtctl import it

    import qtctl

    for module in pkgutil.walk_packages(qtctl.__path__, "qtctl."):
        if not module.name.endswith("__main__"):
            __import__(module.name)
    gc.collect()
    gc.freeze()
    words = _serve(socket.socket(fileno=int(sys.argv[2])))
    sys.argv = [str(TOP / "qtctl" / "__main__.py"), *words]
    try:
        runpy.run_module("qtctl", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    # As the interpreter ends, but for freeing everything: that would copy it first.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else code is not None)


if __name__ == "__main__":
    main()
