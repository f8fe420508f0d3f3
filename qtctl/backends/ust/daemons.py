"""LTTng's daemons: finding them, starting those that are missing, ending those of qtctl.

Manuals: lttng(1), lttng-sessiond(8), lttng-relayd(8) of LTTng-tools 2.13. A daemon that qtctl
started has a folder named ``qtctl-lttng-`` and some random letters in its arguments, which
distinguishes it from the user's, also for the qtctl that runs after a killed one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from qtctl.errors import QtctlError, Unsupported
from qtctl.monitor.processes import argv_of, pids

MARK = "qtctl-lttng-"
COMMAND_TIMEOUT_S = 8.0
"""How long one ``lttng`` command may take; switching 4,000 tracepoints on takes 1.6 s."""
_LOCK_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 2.0
_POLL_S = 0.02
_PACKAGES = {"babeltrace2": "babeltrace2", "stdbuf": "coreutils"}
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
        package = _PACKAGES.get(name, "lttng-tools")
        raise Unsupported(
            f"{name} is not installed, and without it nothing of LTTng can be read",
            hint=f"install {package}",
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


class Ports(NamedTuple):
    """TCP ports of a relay daemon on 127.0.0.1."""

    control: int
    data: int
    live: int


def start_relay_daemon(folder: Path) -> Ports:
    """Start a relay daemon that keeps its files below ``folder`` and listens on free local ports.

    Raises:
        Unsupported: it did not start.
    """
    relay = program("lttng-relayd")
    for attempt in range(3):
        ports = _free_ports()
        words = [
            *(relay, "--background", f"--output={folder / 'out'}"),
            f"--control-port=tcp://127.0.0.1:{ports.control}",
            f"--data-port=tcp://127.0.0.1:{ports.data}",
            f"--live-port=tcp://127.0.0.1:{ports.live}",
        ]
        try:
            _start(words, "the relay daemon", folder)
            break
        except Unsupported:
            if attempt == 2:
                raise
    return ports


def _free_ports() -> Ports:
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(3):
            link = stack.enter_context(socket.socket())
            link.bind(("127.0.0.1", 0))
            ports.append(int(link.getsockname()[1]))
    return Ports(*ports)


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
