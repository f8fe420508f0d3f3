"""LTTng's daemons: finding them, starting those that are missing, ending those of qtctl.

Manuals: lttng(1), lttng-sessiond(8) of LTTng-tools 2.13. A daemon that qtctl
started has a folder named ``qtctl-lttng-`` and some random letters in its arguments, which
distinguishes it from the user's, also for the qtctl that runs after a killed one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from qtctl.errors import QtctlError, Unsupported
from qtctl.monitor.processes import argv_of, fd_links, pids, stat_number

MARK = "qtctl-lttng-"
COMMAND_TIMEOUT_S = 8.0
"""How long one ``lttng`` command may take; switching 4,000 tracepoints on takes 1.6 s."""
_LOCK_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 2.0
_POLL_S = 0.02
_PARENT = 4
"""Field of /proc/PID/stat."""
_NO_DAEMON = "No session daemon is available"


class NoDaemon(QtctlError):
    """No session daemon of this user runs."""


def program(name: str) -> str:
    """Return the path of a program of LTTng's.

    Raises:
        Unsupported: it is not installed; the hint names Debian's package.
    """
    found = shutil.which(name)
    if found is None:
        raise Unsupported(
            f"{name} is not installed, and without it nothing of LTTng can be read",
            hint="install lttng-tools",
        )
    return found


def environment() -> dict[str, str]:
    """Return the environment that LTTng's programs get: theirs, in English."""
    return {**os.environ, "LC_ALL": "C", "LTTNG_MAN_BIN_PATH": "/bin/false"}


def lttng(*words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run ``lttng WORDS`` on a session daemon that runs, and return its output.

    Raises:
        NoDaemon: none runs.
        Unsupported: the command failed or took too long; the message quotes it.
    """
    what = f"lttng {' '.join(words[:2])}"
    try:
        ran = subprocess.run(
            [program("lttng"), "--no-sessiond", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Unsupported(
            f"{what} took more than {timeout_s:g} s: the session daemon hangs or is overloaded",
            hint="lttng list; then restart lttng-sessiond",
        ) from late
    output = (ran.stdout + ran.stderr).decode("utf-8", "replace")
    if ran.returncode:
        if _NO_DAEMON in output:
            raise NoDaemon(f"{what}: no session daemon runs", hint="lttng-sessiond --daemonize")
        lines = ran.stderr.decode("utf-8", "replace").splitlines()
        told = lines[0].removeprefix("Error: ").strip() if lines else f"code {ran.returncode}"
        raise Unsupported(f"{what} failed: {told}", hint="lttng list; lttng-sessiond -v tells more")
    return output


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Keep other qtctls of this user from starting and ending daemons meanwhile.

    One that has the lock for more than 10 s is not waited for.
    """
    handle = -1
    with contextlib.suppress(OSError, KeyError):
        home = pwd.getpwuid(os.getuid()).pw_dir  # $HOME may differ between two qtctls
        handle = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while handle >= 0 and time.monotonic() < deadline:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_POLL_S)
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def sessions(timeout_s: float = COMMAND_TIMEOUT_S) -> list[str]:
    """Return the names of the recording sessions of the session daemon.

    Raises:
        NoDaemon: none runs.
        Unsupported: it does not answer.
    """
    return re.findall(r"^\s*\d+\) (\S+)", lttng("list", timeout_s=timeout_s), re.M)


def start_session_daemon(folder: Path) -> None:
    """Start a session daemon for user-space tracing, marked with ``folder``, which must exist.

    Raises:
        Unsupported: it did not start.
    """
    config = folder / "lttng.conf"
    config.write_text("[sessiond]\n")
    words = [program("lttng-sessiond"), "--background", "--no-kernel", f"--config={config}"]
    _start(words, "the session daemon", folder)


def _start(words: Sequence[str], what: str, folder: Path) -> None:
    """Run a daemon that goes to the background once it is ready."""
    said = folder / "said"  # not a pipe: in the background it keeps that open
    try:
        with said.open("wb") as file:
            ran = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,
                timeout=COMMAND_TIMEOUT_S,
                env=environment(),
                cwd="/",
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unsupported(
            f"{what} of LTTng did not start: {error}", hint=" ".join(words)
        ) from error
    if ran.returncode:
        told = said.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Unsupported(f"{what} of LTTng did not start: {told[0]}", hint=" ".join(words))


def marked(mark: str, name: str) -> list[int]:
    """Return the pids of this user's processes called ``name`` with ``mark`` in an argument."""
    found = []
    for pid in pids():
        command, *words = argv_of(pid) or ("",)
        if command.rpartition("/")[2] == name and any(mark in word for word in words):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}").stat().st_uid == os.getuid():
                    found.append(pid)
    return found


def end_marked(mark: str, name: str) -> None:
    """End such processes and wait for them; one that does not obey within 2 s is killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _END_TIMEOUT_S
        found = marked(mark, name)
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        while found and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            found = marked(mark, name)
        if not found:
            return


class Writers:
    """The daemons that write a session's files below ``folder``: a consumer, its session daemon."""

    def __init__(self, folder: Path) -> None:
        self._watched: dict[str, int] = {}
        inside = f"{folder}/"
        for pid in pids():
            if "lttng-consumerd" not in (argv_of(pid) or ("",))[0]:
                continue
            if any(link.startswith(inside) for link in fd_links(pid) or ()):
                self._watch("the consumer daemon", pid)
                self._watch("the session daemon", stat_number(pid, _PARENT) or 0)

    def _watch(self, what: str, pid: int) -> None:
        with contextlib.suppress(OSError):
            if pid > 1:
                self._watched.setdefault(what, os.pidfd_open(pid))

    def ended(self) -> str:
        """Return which of them has ended; empty if none."""
        for what, handle in self._watched.items():
            if select.select([handle], (), (), 0)[0]:
                return what
        return ""

    def close(self) -> None:
        """Watch them no longer."""
        for handle in self._watched.values():
            os.close(handle)
        self._watched = {}
