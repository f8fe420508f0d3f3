"""The verb status: what is on, who has leases, where output goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qtctl.commands.context import Context, Result
from qtctl.commands.registry import Options, command
from qtctl.model import EventState
from qtctl.monitor.answers import run_state_of
from qtctl.session.session import Session
from qtctl.text.style import Style, counted
from qtctl.text.tables import pairs

_SHOWN_EVENTS = 12


@command(
    "status",
    examples=(
        "qtctl status",
        "qtctl -t vm1 status",
        "qtctl status --json | jq -r '.events.enabled[]'",
    ),
    guests="each",
)
async def status(context: Context, options: Options) -> Result:
    """Print the state of tracing on one guest."""
    async with context.attached() as session:
        document = await _status(session)
    return Result(document, lambda style: _status_lines(style, document))


async def _status(session: Session) -> dict[str, Any]:
    run_state = await session.monitor.ask("query-status", run_state_of)
    backends = await session.backends()
    states = await session.all_states()
    target = await session.log_target()
    guest = session.guest
    from qtctl.backends.tracers import states_note

    return {
        "address": session.where,
        "pid": guest and guest.pid,
        "name": guest and guest.name,
        "version": ".".join(map(str, session.monitor.version)),
        "package": session.monitor.package,
        "run_state": run_state,
        "backends": [str(name) for name in backends.known],
        "undecided": [str(name) for name in backends.undecided],
        "states_note": states_note(backends.known),
        "log": {
            "reach": str(target.reach),
            "target": str(target),
            "certain": target.certain,
            "others": [other.path for other in target.others],
        },
        "declarations": session.facts.declarations_path and str(session.facts.declarations_path),
        "events": {
            "total": len(states),
            "enabled": [n for n, state in states.items() if state == EventState.ENABLED],
            "unavailable": [n for n, state in states.items() if state == EventState.UNAVAILABLE],
        },
        "leases": [
            {
                "pid": lease.owner and lease.owner.pid,
                "running": lease.owner is not None and lease.owner.alive(),
                "events": sorted(lease.events),
                "resources": [{"kind": one.kind, **one.facts} for one in lease.resources],
            }
            for lease in await session.leasing.leases()
        ],
        "lender": await session.monitor.lender(),
    }


def _status_lines(style: Style, document: dict[str, Any]) -> Iterator[str]:
    events = document["events"]
    enabled, unavailable = events["enabled"], len(events["unavailable"])
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
        ("events", f"{events['total']}, {len(enabled)} on, {unavailable} unavailable"),
        ("on", f"{shown}{more}" if enabled else "none"),
    ]
    if document["states_note"]:
        rows.append(("note", document["states_note"]))
    rows += [("lease", _lease_line(lease)) for lease in document["leases"]]
    if document["lender"]:
        rows.append(("lent by", lender_line(document["lender"])))
    return pairs(style, rows)


def _lease_line(lease: dict[str, Any]) -> str:
    who = "standing, until qtctl restore" if lease["pid"] is None else f"qtctl pid {lease['pid']}"
    held = "".join(f", {resource['kind']}" for resource in lease["resources"])
    return f"{who}: {counted(len(lease['events']), 'event')}{held}"


def lender_line(lender: dict[str, Any]) -> str:
    """Return who lends the monitor, in words."""
    others = counted(len(lender["clients"]), "other client")
    return f"qtctl pid {lender['pid']} at {lender['path']}, with {others}"
