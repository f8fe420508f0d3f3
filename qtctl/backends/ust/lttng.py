"""One LTTng session for one guest: made, filled with events, ended.

Manuals: lttng-create(1), lttng-enable-channel(1), lttng-track(1); checked on LTTng 2.13.9. All of
this blocks: call it in a thread.

``lttng list SESSION`` is never run: it crashed the session daemon (2.13.9) that had a session like
ours. Without a session's name ``lttng list`` did not.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from qtctl.backends.ust import daemons
from qtctl.backends.ust.daemons import MARK, NoDaemon, lttng
from qtctl.errors import QtctlError, Unsupported
from qtctl.folders import runtime_folder
from qtctl.model import Guest
from qtctl.monitor.processes import pid_inside

SWITCH_TIMER_US = 20_000
"""How often the tracer hands over its buffers, in us: the longest that a record waits there."""
METADATA_TIMER_US = 100_000
"""How often new metadata are written, in us."""
DISK_BYTES = 128 << 20
"""Bytes that LTTng keeps in files for a reader that is behind; then it overwrites them."""
_FREE_BYTES = DISK_BYTES + DISK_BYTES // 4
FILES = 8
"""How many files a processor has."""
FILE_BYTES = max(1 << 16, 1 << (DISK_BYTES // (FILES * (os.cpu_count() or 1))).bit_length() - 1)
PACKET_BYTES = min(1 << 20, FILE_BYTES)
PACKETS = FILES * FILE_BYTES // PACKET_BYTES // 4
KEEP_BYTES = (FILES - 1) * FILE_BYTES - (PACKETS + 1) * PACKET_BYTES
"""How much of a processor's files may wait to be read; at the end its buffers have room, too."""
CHANNEL = "qtctl"
OUTPUT = "trace"
_REGISTER_TIMEOUT_S = 8.0
"""A process that lost its session daemon looks for another only every 5 s (lttng-ust 2.13)."""
STOP_TIMEOUT_S = 5.0
"""How long stopping and ending a session may take before its daemon is given up."""
_ASK_TIMEOUT_S = 2.0
_POLL_S = 0.02
_CHUNK = 100


def new_facts() -> dict[str, str]:
    """Return the lease facts of a session that is about to be made.

    Raises:
        Unsupported: no folder has room for its files.
    """
    runtime = runtime_folder()
    tried = []
    for base in (Path(tempfile.gettempdir()), *([runtime] if runtime else [])):
        try:
            room = os.statvfs(base)
            os.rmdir(tempfile.mkdtemp(prefix=MARK, dir=base))  # noqa: PTH106
        except OSError as error:
            tried.append(f"{base} ({error.strerror})")
            continue
        if room.f_bavail * room.f_frsize >= _FREE_BYTES:
            serial = secrets.token_hex(6)
            return {
                "session": f"qtctl-{os.getpid()}-{serial}",
                "folder": str(base / f"{MARK}{serial}"),
            }
        tried.append(f"{base} (no room)")
    raise Unsupported(
        f"no place for what LTTng writes: {', '.join(tried)}",
        hint=f"free {_FREE_BYTES >> 20} MiB there, or set TMPDIR",
    )


def open_session(
    guest: Guest, facts: Mapping[str, str], includes: Sequence[str], excludes: Sequence[str]
) -> bool:
    """Make the session that ``facts`` name, and record ``includes`` of ``guest`` but ``excludes``.

    Returns whether LTTng writes metadata of events as they are registered; otherwise it does so
    only in :func:`renew`. What was made is ended by :func:`end_session`, also where this fails.

    Raises:
        Unsupported: a program is missing, a daemon fails, or the guest is not registered.
    """
    for needed in ("lttng", "lttng-sessiond"):
        daemons.program(needed)
    name, folder = facts["session"], Path(facts["folder"])
    folder.mkdir(mode=0o700)
    with daemons.one_at_a_time():
        try:
            daemons.sessions()
        except NoDaemon:
            daemons.start_session_daemon(folder)
        _await_registered(guest)
        timed = _create(name, folder, guest)
    events = [f"qemu:{one}" for one in includes]
    left_out = [f"qemu:{one}" for one in excludes]
    for low in range(0, len(events), _CHUNK):
        _enable(name, events[low : low + _CHUNK], left_out)
    lttng("start", name, timeout_s=4 * daemons.COMMAND_TIMEOUT_S)
    if not timed:
        renew(name)
    return timed


def renew(name: str) -> None:
    """Have metadata written by stopping the session and starting it again.

    Raises:
        Unsupported: the session daemon fails; the session may be stopped.
    """
    lttng("stop", name)
    lttng("start", name)


def _create(name: str, folder: Path, guest: Guest) -> bool:
    """Make the session; return whether its metadata are written as they come."""
    lttng("create", name, f"--output={folder / OUTPUT}")
    lttng(
        *("enable-channel", "--userspace", f"--session={name}", "--discard"),
        *(f"--subbuf-size={PACKET_BYTES}", f"--num-subbuf={PACKETS}"),
        f"--switch-timer={SWITCH_TIMER_US}",
        *(f"--tracefile-size={FILE_BYTES}", f"--tracefile-count={FILES}", CHANNEL),
    )
    timed = True
    try:  # 2.13 takes it for the channel of metadata, 2.16 refuses it
        lttng(
            *("enable-channel", "--userspace", f"--session={name}", "--subbuf-size=4k"),
            *("--num-subbuf=2", f"--switch-timer={METADATA_TIMER_US}", "metadata"),
        )
    except Unsupported:
        timed = False
    lttng(
        *("add-context", "--userspace", f"--session={name}", f"--channel={CHANNEL}"),
        *("--type=vpid", "--type=vtid"),
    )
    lttng("track", "--userspace", f"--session={name}", f"--vpid={pid_inside(guest.pid)}")
    return timed


def _enable(name: str, includes: Sequence[str], excludes: Sequence[str]) -> None:
    lttng(
        *("enable-event", "--userspace", f"--session={name}", f"--channel={CHANNEL}"),
        ",".join(includes),
        *([f"--exclude={','.join(excludes)}"] if excludes else []),
        timeout_s=4 * daemons.COMMAND_TIMEOUT_S,
    )


def _await_registered(guest: Guest) -> None:
    """Wait until the guest has registered, which it does also with a daemon that starts later."""
    pids = {str(guest.pid), str(pid_inside(guest.pid))}
    deadline = time.monotonic() + _REGISTER_TIMEOUT_S
    while True:
        failure = ""
        try:
            said = lttng("list", "--userspace")
            if not pids.isdisjoint(re.findall(r"^PID: (\d+) ", said, re.M)):
                return
        except Unsupported as error:  # as when some process ends while it is asked
            failure = f" ({error.message})"
        if time.monotonic() > deadline:
            raise Unsupported(
                f"guest {guest.pid} (user {guest.uid}) has not registered with the LTTng session "
                f"daemon of user {os.getuid()}{failure}",
                hint="run qtctl as the guest's user or root; lttng list -u shows who registered",
            )
        time.sleep(10 * _POLL_S)


def stop(name: str) -> int | None:
    """Stop recording, and hand everything to the reader; return how many events were discarded.

    None where that is not known: the daemon is gone, or hangs.
    """
    try:
        said = lttng("stop", name, timeout_s=STOP_TIMEOUT_S)
        lttng("destroy", "--no-wait", name, timeout_s=STOP_TIMEOUT_S)
    except QtctlError:
        return None
    match = re.search(r"(\d+) events? (?:was|were) discarded", said)
    # A packet with an old counter (see ``decoder.py``) makes LTTng's sum 2^63 too large.
    return int(match[1]) % (1 << 63) if match else 0


def end_session(facts: Mapping[str, str]) -> str:
    """End what :func:`open_session` made of ``facts``; return what could not be ended, or ''.

    A session daemon that a qtctl started is ended once it has no session left, whoever made it.
    """
    name, folder = facts["session"], Path(facts["folder"])
    note = ""
    with daemons.one_at_a_time():
        try:
            lttng("destroy", name, timeout_s=STOP_TIMEOUT_S)
        except NoDaemon:
            pass
        except QtctlError as error:
            if "not found" not in error.message:
                note = f"the LTTng session {name} could not be ended: {error.message}"
        daemons.end_marked(str(folder), "lttng-relayd")
        if daemons.marked(MARK, "lttng-sessiond") and _idle(name, hung=bool(note)):
            daemons.end_marked(MARK, "lttng-sessiond")
    if folder.name.startswith(MARK):  # the path comes from a journal
        shutil.rmtree(folder, ignore_errors=True)
    return note if note and _runs() else ""


def _runs() -> bool:
    try:
        daemons.sessions(timeout_s=_ASK_TIMEOUT_S)
    except NoDaemon:
        return False
    except QtctlError:
        pass
    return True


def _idle(name: str, *, hung: bool) -> bool:
    """Return whether the session daemon has no session but ``name``, or does not listen."""
    try:
        return set(daemons.sessions(timeout_s=_ASK_TIMEOUT_S)) <= {name}
    except NoDaemon:
        return True
    except QtctlError:
        return hung
