"""Verbs that look and change nothing: ps, status, doctor."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qtctl.commands.context import Context
from qtctl.commands.registry import Result, command
from qtctl.errors import QtctlError
from qtctl.leases.leasing import owner_alive
from qtctl.model import Address, Backend, EventState, Guest
from qtctl.session.session import Session, state_folder
from qtctl.text.style import Style, counted, escaped
from qtctl.text.tables import pairs, table
from qtctl.version import VERSION

_SHOWN_EVENTS = 12


@command(
    "ps",
    examples=("qtctl ps", "qtctl ps --json | jq '.guests[].pid'"),
    details="Asks the kernel only: no monitor is connected to.",
)
async def ps(context: Context, options: argparse.Namespace) -> Result:
    """List running guests."""
    from qtctl.monitor.guests import running_guests

    guests = [_guest_document(guest) for guest in running_guests()]
    if not guests:
        context.say("no running QEMU guest was found; try: qtctl demo")
    header = ("PID", "NAME", "VERSION", "MONITOR", "HELD BY", "BACKENDS")
    return Result(
        {"guests": guests}, lambda style: table(style, header, list(map(_ps_row, guests)))
    )


def _guest_document(guest: Guest) -> dict[str, Any]:
    from qtctl.backends.detect import backends_from, signs_of_process, undecided
    from qtctl.monitor.holders import holders

    signs = signs_of_process(guest)
    return {
        "pid": guest.pid,
        "name": guest.name,
        "version": guest.version,
        "monitors": [
            {
                "address": str(address),
                "holders": [{"pid": h.pid, "name": h.name} for h in holders(address, guest)],
                "lent": _lent(address),
            }
            for address in guest.addresses
        ],
        "backends": [str(backend) for backend in backends_from(signs)],
        "undecided": [str(backend) for backend in undecided(signs)],
        "exe": guest.exe,
    }


def _lent(address: Address) -> dict[str, Any] | None:
    """Return where a monitor is lent and to whom, as the kernel tells it; None where it is not."""
    from qtctl.monitor.holders import holders, listens
    from qtctl.monitor.rendezvous import meeting_of

    meeting = meeting_of(address)
    if meeting is None or not listens(meeting.path):
        return None
    clients = holders(Address(path=meeting.path))
    return {"path": meeting.path, "clients": [{"pid": c.pid, "name": c.name} for c in clients]}


def _ps_row(guest: dict[str, Any]) -> tuple[str, ...]:
    monitors = guest["monitors"]
    held = {_held_by(monitor) for monitor in monitors if monitor["holders"]}
    return (
        str(guest["pid"]),
        guest["name"] or "-",
        guest["version"] or "?",
        " ".join(monitor["address"] for monitor in monitors) or "none",
        " ".join(sorted(held)) or "-",
        ",".join([*guest["backends"], *(f"{name}?" for name in guest["undecided"])]) or "?",
    )


def _held_by(monitor: dict[str, Any]) -> str:
    names = " ".join(sorted(map(_holder, monitor["holders"])))
    return f"{names} lends to {len(monitor['lent']['clients'])}" if monitor["lent"] else names


def _holder(holder: dict[str, Any]) -> str:
    return f"{holder['name']}({holder['pid'] or '?'})"


@command(
    "status",
    examples=("qtctl status", "qtctl status --json"),
)
async def status(context: Context, options: argparse.Namespace) -> Result:
    """Show one guest's state as far as tracing goes."""
    async with context.attached() as session:
        document = await _status(session)
    return Result(document, lambda style: _status_lines(style, document))


async def _status(session: Session) -> dict[str, Any]:
    run_state = await session.monitor.execute("query-status")
    backends = await session.backends()
    states = await session.all_states()
    target = session.facts.log_target(backends)
    guest = session.guest
    from qtctl.backends.tracers import states_note

    return {
        "address": session.where,
        "pid": guest and guest.pid,
        "name": guest and guest.name,
        "version": ".".join(map(str, session.monitor.version)),
        "package": session.monitor.package,
        "run_state": run_state.get("status"),
        "backends": [str(name) for name in backends.known],
        "undecided": [str(name) for name in backends.undecided],
        "states_note": states_note(backends.known),
        "log": {"reach": str(target.reach), "target": str(target)},
        "declarations": session.facts.declarations_path and str(session.facts.declarations_path),
        "events": {
            "total": len(states),
            "enabled": [n for n, state in states.items() if state == EventState.ENABLED],
            "unavailable": [n for n, state in states.items() if state == EventState.UNAVAILABLE],
        },
        "leases": await _leases(session),
        "lender": await session.monitor.lender(),
    }


async def _leases(session: Session) -> list[dict[str, Any]]:
    return [
        {
            "pid": lease.owner and lease.owner.pid,
            "running": lease.owner is not None and owner_alive(lease.owner),
            "events": sorted(lease.events),
            "resources": [{"kind": one.kind, **one.facts} for one in lease.resources],
        }
        for lease in await session.leasing.leases()
    ]


def _status_lines(style: Style, document: dict[str, Any]) -> Iterator[str]:
    events = document["events"]
    enabled = events["enabled"]
    shown = ", ".join(enabled[:_SHOWN_EVENTS])
    more = f" and {len(enabled) - _SHOWN_EVENTS} more" if len(enabled) > _SHOWN_EVENTS else ""
    backends = ", ".join([*document["backends"], *(f"{n} (?)" for n in document["undecided"])])
    rows = [
        ("guest", f"{document['name'] or 'unnamed'} (pid {document['pid'] or 'not known'})"),
        ("monitor", document["address"]),
        ("version", f"{document['version']} {document['package']}".strip()),
        ("state", str(document["run_state"])),
        ("backends", backends),
        ("log goes to", document["log"]["target"]),
        ("declarations", document["declarations"] or "none found"),
        (
            "events",
            f"{events['total']}, {len(enabled)} on, {len(events['unavailable'])} unavailable",
        ),
        ("on", f"{shown}{more}" if enabled else "none"),
    ]
    if document["states_note"]:
        rows.append(("note", document["states_note"]))
    rows += [("lease", _lease_line(lease)) for lease in document["leases"]]
    if document["lender"]:
        rows.append(("lent by", _lender_line(document["lender"])))
    return pairs(style, rows)


def _lease_line(lease: dict[str, Any]) -> str:
    who = "standing, until qtctl restore" if lease["pid"] is None else f"qtctl pid {lease['pid']}"
    held = "".join(f", {resource['kind']}" for resource in lease["resources"])
    return f"{who}: {counted(len(lease['events']), 'event')}{held}"


def _lender_line(lender: dict[str, Any]) -> str:
    others = counted(len(lender["clients"]), "other client")
    return f"qtctl pid {lender['pid']} at {lender['path']}, with {others}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing doctor looked at: ``level`` is ok, note or bad; ``mend`` is a command or empty."""

    level: str
    what: str
    mend: str = ""


@command(
    "doctor",
    examples=("qtctl doctor", "qtctl -t /run/vm.sock doctor"),
    details="Exit code 1 if something is wrong.",
)
async def doctor(context: Context, options: argparse.Namespace) -> Result:
    """Check this machine, then the guest."""
    findings = [*_machine()]
    try:
        async with context.attached() as session:
            findings += await _guest(session)
    except QtctlError as error:
        findings.append(Finding("bad", error.message, error.hint))
    bad = any(finding.level == "bad" for finding in findings)
    document = {"findings": [asdict(finding) for finding in findings]}
    return Result(document, lambda style: _finding_lines(style, findings), int(bad))


def _finding_lines(style: Style, findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        role = {"ok": "good", "note": "note", "bad": "bad"}[finding.level]
        first, *more = map(escaped, finding.what.split("\n"))
        yield f"{style.paint(finding.level.ljust(4), role)}  {first}"
        yield from (f"      {line}" for line in more)
        if finding.mend:
            yield f"      try: {escaped(finding.mend)}"


def _machine() -> Iterator[Finding]:

    yield Finding("ok", f"qtctl {VERSION}, Python {platform.python_version()}")
    yield _form_of_kernels()
    folder = state_folder()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if os.access(existing, os.W_OK):
        yield Finding("ok", f"leases are kept in {folder}")
    else:
        yield Finding(
            "bad",
            f"leases cannot be kept: {existing} is not writable",
            "set XDG_STATE_HOME to a folder that can be written",
        )


def _form_of_kernels() -> Finding:
    """Return whether the kernels (see ``setup.py``) run compiled or interpreted."""
    package = Path(__file__).parents[1]
    names = [
        ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for path in sorted(package.rglob("[!_]*.py"))
        if path.name == "kernel.py" or path.parent.name == "kernels"
    ]
    interpreted = [name for name in names if not importlib.import_module(name).COMPILED]
    if not interpreted:
        return Finding("ok", "decoding runs compiled")
    slow = "decoding runs as plain Python, about 100 times slower"
    if interpreted != names:
        slow += f", in {', '.join(interpreted)}"
    return Finding("note", slow, "install gcc and the Python headers, then reinstall qtctl")


async def _guest(session: Session) -> list[Finding]:
    version = ".".join(map(str, session.monitor.version))
    findings = [Finding("ok", f"{session.where} answers: QEMU {version}")]
    run_state = (await session.monitor.execute("query-status")).get("status")
    if run_state != "running":
        findings.append(Finding("note", f"the guest is {run_state}", "qtctl qmp cont"))
    lender = await session.monitor.lender()
    if lender:
        findings.append(Finding("ok", f"lent by {_lender_line(lender)}"))
    backends = await session.backends()
    findings += _backend_findings(session, backends.known, backends.undecided)
    states = await session.all_states()
    findings.append(_declared(session, list(states)))
    enabled = sum(state == EventState.ENABLED for state in states.values())
    if enabled:
        leases = await _leases(session)
        mend = "qtctl restore" if leases else "qtctl list --state enabled"
        findings.append(Finding("note", f"{counted(enabled, 'event')} on", mend))
    return findings


def _backend_findings(
    session: Session, known: tuple[Backend, ...], undecided: tuple[Backend, ...]
) -> Iterator[Finding]:
    from qtctl.backends.log.target import Reach
    from qtctl.backends.table import candidates
    from qtctl.session.facts import Backends

    names = ", ".join(known) or "none that can be seen"
    try:
        candidates(known, "auto", session.where)
    except QtctlError as error:
        yield Finding("bad", f"trace backends: {names}; {error.message}", error.hint)
        return
    yield Finding("ok", f"trace backends: {names}")
    if undecided:
        yield Finding(
            "note",
            f"not known from here: {', '.join(undecided)}",
            "run qtctl on the guest's own machine, as the user that runs it",
        )
    target = session.facts.log_target(Backends(known, undecided))
    if target.reach is Reach.FILE:
        yield Finding("ok", f"the log goes to {target}, and can be read there")
    elif target.reach in (Reach.PER_THREAD, Reach.UNKNOWN):
        yield Finding("bad", f"the log goes {target}", "start QEMU with -D FILE, without -d tid")
    else:
        back = "to /dev/null" if target.undo == "/dev/null" else "back"
        yield Finding("ok", f"the log goes to {target}; tail points it at a spool, then {back}")


def _declared(session: Session, names: list[str]) -> Finding:
    path: Path | None = session.facts.declarations_path
    if path is None:
        return Finding(
            "bad",
            "no trace-events-all was found beside the guest's binary: arguments stay text",
            "qtctl --events-all FILE, from the same build",
        )
    declarations = session.facts.declarations
    missing = [name for name in names if name not in declarations.by_name]
    if missing or declarations.errors:
        what = f"{path} is not of this build: {len(missing)} events of the guest are not in it"
        if not missing:
            what = f"{path} has {len(declarations.errors)} lines that could not be read"
        return Finding("bad", what, "qtctl --events-all FILE, from the same build")
    return Finding("ok", f"{len(names)} events, all declared in {path}")
