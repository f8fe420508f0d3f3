"""Attaching to a guest: which one a TARGET means, and through which monitor."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from qtctl.config import settings
from qtctl.errors import ConnectionFailed, MonitorBusy, QtctlError, UsageError
from qtctl.events.patterns import near
from qtctl.model import Address, Guest, Holder
from qtctl.monitor import advice
from qtctl.monitor.address import parse_target
from qtctl.monitor.client import connect
from qtctl.monitor.cmdline import parse_cmdline
from qtctl.monitor.guests import (
    described,
    find_guest,
    lost_addresses,
    running_guests,
    the_only_guest,
)
from qtctl.monitor.holders import holders
from qtctl.monitor.hosts import OtherHost, parse_host
from qtctl.monitor.networks import is_elsewhere
from qtctl.monitor.processes import status_of
from qtctl.monitor.rendezvous import is_lent
from qtctl.session.journals import leases_folder, prune
from qtctl.session.session import Session

TARGET_VARIABLES = ("QTCTL_TARGET", "QMP_SOCKET")


@contextlib.asynccontextmanager
async def attach(
    target: str | None = None,
    *,
    events_all: Path | None = None,
    lend: bool = False,
    say: Callable[[str], None] = lambda text: None,
    told: Callable[[str], None] = lambda text: None,
    elsewhere: bool = False,
) -> AsyncIterator[Session]:
    """Attach to a guest: find it, connect, and restore what a killed run left switched.

    ``target`` is any TARGET of the command line, or a name that ``[targets]`` of the user's
    configuration has; without it ``$QTCTL_TARGET``, ``$QMP_SOCKET``,
    else the only guest running. ``say`` is called with a line for each thing restored. The monitor
    is borrowed where another qtctl lends it; with ``lend`` this process lends it to others, and
    ``told`` is called with a line for each client that comes and goes. ``elsewhere``: the guest may
    be one of another host (``ssh://``); its session can follow it, and no more.

    Raises:
        UsageError: the target cannot be right, or several guests are running and none is named.
        ConnectionFailed: no guest or no monitor, or another guest than the one that ``target``
            names answers at its address; MonitorBusy where another client holds it.
    """
    if elsewhere and (host := other_host(target)) is not None:
        from qtctl.session.elsewhere import attach_elsewhere

        if events_all is not None:
            raise UsageError(
                f"--events-all is a file of this host, and the qtctl of {host.host} does the work"
            )
        async with attach_elsewhere(host, say) as far:
            yield far
        return
    address, guest = resolve(target)
    try:
        monitor = await connect(address, guest, lend=lend, log=told)
    except MonitorBusy as busy:
        if busy.hint:
            raise  # a lender that does not answer
        raise _busy(address, guest or find_guest(address), busy) from busy
    session = Session(monitor, guest, events_all)
    try:
        if monitor.lending_note:
            say(monitor.lending_note)
        prune(leases_folder())
        for notice in await session.leasing.recover():
            say(notice)
        with session.mending(say):
            yield session
    finally:
        await monitor.close()


def resolve(target: str | None) -> tuple[Address, Guest | None]:
    """Return the address of a TARGET, and the guest if the TARGET was resolved to one.

    Raises:
        UsageError: the target cannot be right, or several guests are running.
        ConnectionFailed: no such guest, or it has no QMP monitor.
    """
    if (host := other_host(target)) is not None:
        raise UsageError(
            f"{host.target} of {host.host} cannot be reached by this verb from here",
            hint=f"{host.by_hand} -t qtctl -t {shlex.quote(host.target)} ...",
        )
    chosen = from_environment() if target is None else target
    parsed = None if chosen is None else parse_named(chosen)
    if isinstance(parsed, Address):
        return parsed, None
    guest = the_only_guest() if parsed is None else find_guest(parsed)
    if guest is None:
        names = [one.name for one in running_guests() if one.name]
        similar = near(parsed, names, 1) if isinstance(parsed, str) else []
        hint = f"qtctl -t {shlex.quote(similar[0])} ..." if similar else "qtctl ps"
        raise ConnectionFailed(f"no running guest is {chosen!r}", hint=hint)
    if not guest.addresses:
        lost = [f"{described(pid)} listens at {place}" for place, pid in lost_addresses(guest)]
        text = f"{described(guest.pid)} has no QMP monitor that can be connected to"
        raise ConnectionFailed("; ".join([text, *lost]), hint=_other_way(guest, bool(lost)))
    if len(guest.addresses) == 1:
        return guest.addresses[0], guest
    addresses = sorted(guest.addresses, key=lambda address: is_elsewhere(address, guest))
    lent = [address for address in addresses if is_lent(address, guest)]
    free = [address for address in addresses if not holders(address, guest)]
    return (lent or free or addresses)[0], guest


def other_host(target: str | None) -> OtherHost | None:
    """Return the host of a TARGET, as :func:`attach` takes it; None if that is this one.

    Raises:
        UsageError: the target cannot be right.
    """
    chosen = from_environment() if target is None else target
    if chosen is None:
        return None
    return parse_host(settings().tables["targets"].get(chosen, chosen))


def parse_named(target: str) -> Address | int | str:
    """Parse a TARGET, or the one that ``[targets]`` of the user's configuration calls so.

    Raises:
        UsageError: the target cannot be right.
    """
    configured = settings()
    named = configured.tables["targets"].get(target)
    if named is None:
        return parse_target(target)
    try:
        return parse_target(named)
    except UsageError as error:
        raise configured.wrong(("targets", target), error.message) from error


def _other_way(guest: Guest, path_is_taken: bool) -> str:
    """Return the hint for a guest without a QMP monitor: its human monitor switches events, too."""
    human = parse_cmdline(guest.argv).human_monitors
    if human and not path_is_taken:
        place = shlex.quote(f"{guest.root}{human[0]}")
        return (
            f"socat - UNIX:{place}, and there: trace-event NAME on; info trace-events; logfile FILE"
        )
    another = ", and a PATH that no other guest has" if path_is_taken else ""
    return advice.start_with(guest, f"-qmp unix:PATH,server=on,wait=off{another}")


def from_environment() -> str | None:
    """Return the target in the environment, or None; refuse one that a script left empty."""
    for name in TARGET_VARIABLES:
        if (value := os.environ.get(name)) is not None:
            if not value.strip():
                raise UsageError(f"${name} is set, but empty", hint=f"unset {name}, or -t TARGET")
            return value
    return None


def _busy(address: Address, guest: Guest | None, busy: MonitorBusy) -> QtctlError:
    """Return the error for a monitor that does not answer: held, by whom; stopped; or hung."""
    if guest is not None and _is_stopped(guest):
        return ConnectionFailed(
            f"guest {guest.pid} behind {address} is stopped (SIGSTOP or a debugger)",
            hint=f"kill -CONT {guest.pid}",
        )
    if held := _others(address, guest):
        return MonitorBusy(
            f"{address} is in use by {', '.join(map(str, held))}; QMP takes one client at a time",
            hint=advice.free_monitor(guest, held),
        )
    return MonitorBusy(
        f"{busy.message}: another client may hold it, or QEMU hangs",
        hint="end the other client, or give QEMU a second -qmp socket",
    )


def waited_for(target: str | None) -> str:
    """Return in words what attaching to a TARGET waits for; raise as :func:`resolve` does."""
    if (host := other_host(target)) is not None:
        return f"the qtctl of {host.host}"
    address, guest = resolve(target)
    guest = guest or find_guest(address)
    if guest is not None and _is_stopped(guest):
        return f"{address}: guest {guest.pid} is stopped"
    held = ", ".join(map(str, _others(address, guest)))
    return f"{address}, held by {held}" if held else str(address)


def _is_stopped(guest: Guest) -> bool:
    return status_of(guest.pid).get("State", "")[:1] in ("T", "t")


def _others(address: Address, guest: Guest | None) -> list[Holder]:
    """List who holds a monitor but this process.

    Our own end, just closed, may still look like a connection without a process.
    """
    return [one for one in holders(address, guest) if one.pid not in (None, os.getpid())]
