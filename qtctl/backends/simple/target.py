"""Where QEMU's trace file is, and redirecting it to a spool and back.

QEMU source: ``trace/simple.c``, ``monitor/misc.c`` (``trace-file``); checked on 7.2 and 10.2.
``trace-file`` reports no failure, so its status is queried after every change. Going from off
to on empties the file, as does ``set`` while on; ``set`` while off opens nothing.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from typing import NamedTuple

from qtctl.backends.log.target import Hmp, has_open, holds_trace, open_files, quoted
from qtctl.backends.spool.spool import Spool
from qtctl.errors import QtctlError, Unsupported
from qtctl.model import Guest
from qtctl.monitor.advice import run_beside

_STATUS = re.compile(r'Trace file "(.*)" (on|off)\.\s*', re.DOTALL)


class Status(NamedTuple):
    """The answer of ``trace-file``: the file's name as QEMU spells it, and whether it is on."""

    name: str
    on: bool


class TraceReach(StrEnum):
    """Kind of file that the trace file is."""

    OFF = "off"
    FILE = "file"
    NULL = "null"
    OTHER = "other"
    DENIED = "denied"


class TraceFile(NamedTuple):
    """Where the trace goes. ``fd`` is the guest's descriptor of a file, else -1."""

    reach: TraceReach
    name: str
    fd: int = -1


async def read_status(monitor: Hmp) -> Status:
    """Query the name and state of the trace file.

    Raises:
        Unsupported: the answer has an unknown form.
    """
    answer = await monitor.hmp("trace-file")
    match = _STATUS.fullmatch(answer)
    if match is None:
        raise Unsupported(
            f"QEMU does not say where its trace file is, but {answer.strip()!r}",
            hint="qtctl hmp trace-file",
        )
    return Status(match[1], match[2] == "on")


def find_file(guest: Guest, status: Status) -> TraceFile:
    """Find the trace file among the guest's open files. Sends nothing to the guest."""
    if not status.on:
        return TraceFile(TraceReach.OFF, status.name)
    try:
        entries = open_files(guest.pid)
    except OSError:
        return TraceFile(TraceReach.DENIED, status.name)
    reach = TraceReach.OTHER
    for entry in entries:
        if not entry.write_only or not entry.is_file:
            continue
        try:
            if holds_trace(guest.pid, entry.fd):
                return TraceFile(TraceReach.FILE, status.name, entry.fd)
        except PermissionError:
            reach = TraceReach.DENIED
        except OSError:
            continue
    if os.path.normpath(status.name) == os.devnull:
        reach = TraceReach.NULL
    return TraceFile(reach, status.name)


def refusal(found: TraceFile, guest: Guest) -> QtctlError:
    """Return why a trace file that is on can neither be read nor pointed elsewhere."""
    if found.reach is TraceReach.DENIED:
        return Unsupported(
            f"the trace file {found.name} may not be read",
            hint=run_beside(guest),
        )
    return Unsupported(
        f"the trace file {found.name} is no plain file that begins as QEMU wrote it: "
        "it cannot be followed, and pointing it elsewhere would empty or hang it",
        hint="qtctl hmp trace-file off",
    )


async def _send(monitor: Hmp, line: str, wanted: Status) -> None:
    """Send one ``trace-file`` command and check that the status is ``wanted``."""
    answer = (await monitor.hmp(line)).strip()
    if answer:
        raise Unsupported(f"{line!r} was answered with {answer!r}")
    now = await read_status(monitor)
    if now != wanted:
        state = "on" if now.on else "off"
        raise Unsupported(f"after {line!r} the trace file is {now.name!r}, {state}")


async def _point(monitor: Hmp, now: Status, wanted: Status) -> None:
    if now.on:
        await _send(monitor, "trace-file off", Status(now.name, False))
    await _send(monitor, f"trace-file set {quoted(wanted.name)}", Status(wanted.name, False))
    if wanted.on:
        await _send(monitor, "trace-file on", wanted)


async def redirect(monitor: Hmp, guest: Guest, found: TraceFile, spool: Spool) -> None:
    """Point the trace at ``spool``, which must be off or /dev/null before, and see that it is so.

    Raises:
        Unsupported: QEMU would not open it; the trace file is as it was.
    """
    was_on = found.reach is TraceReach.NULL
    try:
        await _point(monitor, Status(found.name, was_on), Status(spool.seen, True))
        if not has_open(guest.pid, spool.path):
            raise Unsupported(f"QEMU says {spool.seen} is on but did not open it")
    except Unsupported as error:
        note = await put_back(monitor, found.name, was_on, spool.seen)
        raise Unsupported(
            f"guest {guest.pid} cannot trace to {spool.seen}: {error.message}"
            + (f"; {note}" if note else ""),
            hint="qtctl hmp trace-file",
        ) from error
    await flush(monitor)


async def flush(monitor: Hmp) -> None:
    """Have QEMU flush its buffer. Only for a plain file: QEMU waits for it."""
    await monitor.hmp("trace-file flush")


async def put_back(monitor: Hmp, name: str, on: bool, seen: str) -> str:
    """Point the trace from ``seen`` back to ``name``; return a sentence on what failed, else ''.

    A trace file that somebody else pointed elsewhere meanwhile is left alone. ``on`` must be true
    only for /dev/null: any other file would be emptied.
    """
    try:
        now = await read_status(monitor)
        if now.name == seen:
            await _point(monitor, now, Status(name, on))
    except Unsupported as error:
        return f"the trace file was not put back to {name}: {error.message}"
    return ""
