"""The verb ps: list running guests."""

from __future__ import annotations

from typing import Any

from qtctl.commands.context import Context, Result
from qtctl.commands.registry import Options, command
from qtctl.model import Address, Guest
from qtctl.text.tables import table

HEADER = ("PID", "NAME", "VERSION", "MONITOR", "HELD BY", "BACKENDS")


@command(
    "ps",
    examples=("qtctl ps", "qtctl ps --json | jq '.guests[].pid'", "qtctl ps | cut -f 2"),
    details="Asks the kernel only: no monitor is connected to.",
)
async def ps(context: Context, options: Options) -> Result:
    """List running guests."""
    guests = _guest_documents()
    if not guests:
        context.say("no running QEMU guest was found; try: qtctl demo")
    return Result(
        {"guests": guests}, lambda style: table(style, HEADER, list(map(_ps_row, guests)))
    )


def guest_rows() -> list[tuple[str, ...]]:
    """Return a row for each running guest, with the columns of ``HEADER``."""
    return list(map(_ps_row, _guest_documents()))


def _guest_documents() -> list[dict[str, Any]]:
    from qtctl.monitor.guests import running_guests

    return list(map(_guest_document, running_guests()))


def _guest_document(guest: Guest) -> dict[str, Any]:
    from qtctl.backends.detect import backends_from, signs_of_process, undecided
    from qtctl.monitor.holders import holders
    from qtctl.monitor.networks import is_elsewhere

    signs = signs_of_process(guest)
    return {
        "pid": guest.pid,
        "name": guest.name,
        "version": guest.version,
        "monitors": [
            {
                "address": str(address),
                "holders": [one._asdict() for one in holders(address, guest)],
                "lent": _lent(address, guest),
                "other_network": is_elsewhere(address, guest),
            }
            for address in guest.addresses
        ],
        "backends": [str(backend) for backend in backends_from(signs)],
        "undecided": [str(backend) for backend in undecided(signs)],
        "exe": guest.exe,
    }


def _lent(address: Address, guest: Guest) -> dict[str, Any] | None:
    """Return where a monitor is lent and to whom, from the kernel's tables; None if it is not."""
    from qtctl.monitor.guest_paths import listeners_at
    from qtctl.monitor.holders import holders
    from qtctl.monitor.rendezvous import rendezvous_of

    rendezvous = rendezvous_of(address, guest)
    if rendezvous is None or not listeners_at(Address(path=rendezvous.path)):
        return None
    clients = [one._asdict() for one in holders(Address(path=rendezvous.path))]
    return {"path": rendezvous.path, "clients": clients}


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
    names = " ".join(sorted(f"{one['name']}({one['pid'] or '?'})" for one in monitor["holders"]))
    return f"{names} lends to {len(monitor['lent']['clients'])}" if monitor["lent"] else names
