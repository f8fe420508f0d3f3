"""One LTTng live session for one guest: made, filled with events, read, ended.

Manuals: lttng-create(1), lttng-enable-channel(1), lttng-track(1), babeltrace2(1) and
babeltrace2-source.ctf.lttng-live(7); checked on LTTng 2.13.9 and babeltrace2 2.0.4. All of this
blocks: call it in a thread.

``lttng list SESSION`` is never run: it crashed the session daemon (2.13.9) that had a session like
ours. Without a session's name ``lttng list`` did not.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from qtctl.backends.ust import daemons
from qtctl.backends.ust.daemons import MARK, NoDaemon, Ports, lttng
from qtctl.errors import QtctlError, Unsupported
from qtctl.folders import runtime_folder
from qtctl.model import Guest
from qtctl.monitor.processes import pid_inside

LIVE_TIMER_US = 20_000
"""How often the tracer flushes its buffers, in us: the longest that a record waits."""
RETRY_US = 5_000
"""How often babeltrace2 asks again once it has everything, in us."""
_PRETTY = (
    "--component=sink.text.pretty",
    '--params=clock-seconds=true,no-delta=true,name-default="hide",name-payload=true,'
    'field-default="hide"',
)
"""Options of babeltrace2 for the text that ``decoder.py`` reads."""
DISK_BYTES = 64 << 20
"""Bytes that the relay daemon keeps for a reader that is behind; then it overwrites packets."""
_FREE_BYTES = 2 * DISK_BYTES
_SUBBUFFER_BYTES = 1 << 20
_SUBBUFFERS = 8
_REGISTER_TIMEOUT_S = 8.0
"""A process that lost its session daemon looks for another only every 5 s (lttng-ust 2.13)."""
_ATTACH_TIMEOUT_S = 8.0
STOP_TIMEOUT_S = 5.0
"""How long stopping and ending a session may take before its daemon is given up."""
_ASK_TIMEOUT_S = 2.0
_POLL_S = 0.02
_CHUNK = 100
_CHANNEL = "qtctl"
_NEVER = "qtctl:nothing"


def new_facts() -> dict[str, str]:
    """Return the lease facts of a session that is about to be made.

    Raises:
        Unsupported: no folder has room for the relay daemon's files.
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
        f"no place for what LTTng's relay daemon keeps: {', '.join(tried)}",
        hint=f"free {_FREE_BYTES >> 20} MiB there, or set TMPDIR",
    )


def open_session(
    guest: Guest, facts: Mapping[str, str], includes: Sequence[str], excludes: Sequence[str]
) -> subprocess.Popen[bytes]:
    """Make the session that ``facts`` name, and record ``includes`` of ``guest`` but ``excludes``.

    Returns babeltrace2 reading it, attached before the first event is switched on, so none is
    missed. What was made is ended by :func:`end_session`, also where this fails.

    Raises:
        Unsupported: a program is missing, a daemon fails, or the guest is not registered.
    """
    for needed in ("lttng", "lttng-sessiond", "lttng-relayd", "babeltrace2", "stdbuf"):
        daemons.program(needed)
    name, folder = facts["session"], Path(facts["folder"])
    folder.mkdir(mode=0o700)
    with daemons.one_at_a_time():
        try:
            daemons.sessions()
        except NoDaemon:
            daemons.start_session_daemon(folder)
        ports = daemons.start_relay_daemon(folder)
        _await_registered(guest)
        _create(name, ports, guest)
    lttng("start", name)
    reader = _attach(name, ports)
    events, left_out = ([f"qemu:{pattern}" for pattern in part] for part in (includes, excludes))
    try:
        for low in range(0, len(events), _CHUNK):
            _enable(name, events[low : low + _CHUNK], left_out)
    except BaseException:
        with reader:
            reader.kill()
        raise
    return reader


def _create(name: str, ports: Ports, guest: Guest) -> None:
    lttng(
        *("create", name, f"--live={LIVE_TIMER_US}"),
        f"--ctrl-url=tcp://127.0.0.1:{ports.control}",
        f"--data-url=tcp://127.0.0.1:{ports.data}",
    )
    size = DISK_BYTES // (2 * (os.cpu_count() or 1))
    # A file holds a packet at least, and the smallest packet should leave room for a burst.
    packet = min(_SUBBUFFER_BYTES, 1 << max(16, (size // 4).bit_length() - 1))
    lttng(
        *("enable-channel", "--userspace", f"--session={name}", "--discard"),
        *(f"--subbuf-size={packet}", f"--num-subbuf={_SUBBUFFERS}"),
        *(f"--tracefile-size={max(size, packet)}", "--tracefile-count=2", _CHANNEL),
    )
    lttng(
        *("add-context", "--userspace", f"--session={name}", f"--channel={_CHANNEL}"),
        *("--type=vpid", "--type=vtid"),
    )
    lttng("track", "--userspace", f"--session={name}", f"--vpid={pid_inside(guest.pid)}")
    _enable(name, [_NEVER], [])


def _enable(name: str, includes: Sequence[str], excludes: Sequence[str]) -> None:
    lttng(
        *("enable-event", "--userspace", f"--session={name}", f"--channel={_CHANNEL}"),
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


def _listed(name: str, ports: Ports) -> tuple[str, int] | None:
    """Return the address of the session at the relay daemon and how many read it."""
    url = f"net://127.0.0.1:{ports.live}"
    try:
        said = subprocess.run(
            [daemons.program("babeltrace2"), "--input-format=lttng-live", url],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=daemons.COMMAND_TIMEOUT_S,
            env=daemons.environment(),
            check=False,
        ).stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        return None
    pattern = rf"^(net://\S+/host/\S+/{re.escape(name)}) .*?(\d+) client\(s\)"
    match = re.search(pattern, said, re.M)
    return (match[1], int(match[2])) if match else None


def _attach(name: str, ports: Ports) -> subprocess.Popen[bytes]:
    """Start babeltrace2 and wait until it reads the session: it shows nothing older."""
    deadline = time.monotonic() + _ATTACH_TIMEOUT_S
    while (listed := _listed(name, ports)) is None:
        if time.monotonic() > deadline:
            raise Unsupported(f"LTTng's relay daemon does not show the session {name}")
        time.sleep(_POLL_S)
    inputs = f'inputs=[{json.dumps(listed[0])}],session-not-found-action="end"'
    live = "--component=source.ctf.lttng-live"
    reader = _reading(f"--retry-duration={RETRY_US}", live, f"--params={inputs}")
    while (listed := _listed(name, ports)) is None or not listed[1]:
        if reader.poll() is not None or time.monotonic() > deadline:
            reader.kill()
            said, _ = reader.communicate()
            told = said.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            raise Unsupported(f"babeltrace2 did not attach to the session {name}: {told[-1]}")
        time.sleep(_POLL_S)
    return reader


def show(path: Path) -> subprocess.Popen[bytes]:
    """Start babeltrace2 on the traces below a folder; its stdout has records and messages.

    Raises:
        Unsupported: babeltrace2 is missing.
    """
    return _reading(str(path.resolve()))


def _reading(*source: str) -> subprocess.Popen[bytes]:
    """Start babeltrace2, unbuffered and with its messages among the records.

    In blocks it would keep the last records back, and report losses inside records.
    """
    reader = daemons.program("babeltrace2")
    return subprocess.Popen(
        [daemons.program("stdbuf"), "--output=L", reader, *source, *_PRETTY],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=daemons.environment(),
    )


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
