"""One row per trace backend: what it is, how a QEMU gets it, and whether qtctl can follow it.

Source: ``docs/devel/tracing.rst`` of QEMU, checked on 7.2, 10.0, 10.2 and 11.1.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from qtctl.errors import Unsupported, UsageError
from qtctl.model import Backend


class BackendRow(NamedTuple):
    """``follows_qmp``: whether QEMU's event states decide what this backend gets."""

    name: Backend
    summary: str
    followed: bool
    follows_qmp: bool = True
    instead: str = ""


# The cheapest for the guest first, as benchmarks/cost.py measures it.
TABLE: dict[Backend, BackendRow] = {
    row.name: row
    for row in (
        BackendRow(
            Backend.UST,
            "LTTng-UST tracepoints",
            followed=True,
            follows_qmp=False,
            instead="lttng enable-event -u 'qemu:PATTERN'",
        ),
        BackendRow(Backend.SIMPLE, "a binary file", followed=True),
        BackendRow(Backend.LOG, "lines in QEMU's log", followed=True),
        BackendRow(Backend.FTRACE, "the kernel's trace buffer", followed=True),
        BackendRow(
            Backend.DTRACE,
            "USDT probes",
            followed=True,
            follows_qmp=False,
            instead="bpftrace -p PID -e 'usdt:BINARY:qemu:EVENT { ... }'",
        ),
        BackendRow(Backend.SYSLOG, "the system log", followed=True),
        BackendRow(
            Backend.NOP,
            "no tracing at all",
            followed=False,
            follows_qmp=False,
            instead="a QEMU configured with --enable-trace-backends=log",
        ),
    )
}


# It is told from an open trace_marker; without the right to open that, QEMU writes nowhere.
_MISSING = {"ftrace": "if it was built with ftrace: start it as root, with tracefs mounted"}


def candidates(
    known: Collection[Backend], asked: str, where: str, *, named: bool = True
) -> list[Backend]:
    """Return the backends to try, best first. ``asked`` is a backend's name or ``auto``.

    ``auto`` means those that this QEMU has, the cheapest for the guest first (the table's order).
    ``named`` tells that events are named: without, what is on is followed, and that only QMP knows.

    Raises:
        UsageError: there is no backend of that name, or it needs events to be named.
        Unsupported: this QEMU does not have it, or qtctl cannot follow what it has.
    """
    if asked != "auto" and asked not in TABLE:
        raise UsageError(f"no backend is called {asked!r}", hint=", ".join(TABLE))
    if set(known) <= {Backend.NOP}:
        raise Unsupported(
            f"QEMU on {where} was built without tracing (--enable-trace-backends=nop)",
            hint=TABLE[Backend.NOP].instead,
        )
    if asked != "auto" and asked not in known:
        raise Unsupported(
            f"QEMU on {where} has no {asked} backend; it has {', '.join(known)}",
            hint=_MISSING.get(asked, ""),
        )
    wanted = [name for name in TABLE if name in known and asked in ("auto", name)]
    usable = [name for name in wanted if TABLE[name].followed]
    if not usable:
        raise Unsupported(
            f"qtctl cannot follow {', '.join(wanted)} yet, which QEMU on {where} traces to",
            hint=TABLE[wanted[0]].instead,
        )
    usable = [name for name in usable if named or TABLE[name].follows_qmp]
    if not usable:
        raise UsageError(
            f"{', '.join(wanted)} says nothing until a tracer is told which events",
            hint="qtctl tail PATTERN",
        )
    return usable
