"""The guests that several TARGETs mean, each once, with the name by which records call it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from qtctl.errors import ConnectionFailed, QtctlError, UsageError
from qtctl.model import EVERY, Guest
from qtctl.monitor.guests import find_guest, running_guests
from qtctl.session.attach import from_environment, other_host, resolve


class Chosen(NamedTuple):
    """One of several guests: ``target`` reaches it, ``name`` is what records and messages call it.

    The name is the guest's ``-name`` where it is the only one of that name, else its pid; without
    a process that can be seen, the TARGET itself.
    """

    target: str
    name: str


def several(targets: Sequence[str]) -> tuple[str, ...]:
    """Return the TARGETs if they may mean several guests; none if they mean one, or none is given.

    Without a TARGET, ``$QTCTL_TARGET`` may be ``all``.

    Raises:
        UsageError: a variable is set, but empty.
    """
    if not targets and from_environment() == EVERY:
        return (EVERY,)
    return tuple(targets) if len(targets) > 1 or EVERY in targets else ()


def awaited(targets: Sequence[str]) -> tuple[str, ...]:
    """Return the TARGETs of guests that may not be there yet.

    Raises:
        UsageError: they name no guest that could be waited for.
    """
    environment = from_environment()
    found = tuple(targets) if targets or environment is None else (environment,)
    if not found or EVERY in found:
        hint = "-t NAME, or -t SOCKET; -t may be repeated"
        raise UsageError("which guests are waited for must be named", hint=hint)
    return found


def chosen_guests(targets: Sequence[str]) -> list[Chosen]:
    """Return the guests that TARGETs mean, in their order, each once.

    One that is not found is among them: attaching to it says why.

    Raises:
        UsageError: a TARGET cannot be right.
        ConnectionFailed: all guests are meant, and none runs.
    """
    found: dict[object, tuple[str, Guest | None]] = {}
    for target, guest in _each(targets):
        key = target if guest is None else (guest.pid, guest.started)
        found.setdefault(key, (target, guest))
    names = Counter(guest.name for _, guest in found.values() if guest is not None)
    return [Chosen(target, _name(target, guest, names)) for target, guest in found.values()]


def _each(targets: Iterable[str]) -> Iterator[tuple[str, Guest | None]]:
    for target in targets:
        if target != EVERY:
            yield target, _guest_at(target)
            continue
        guests = running_guests()
        if not guests:
            raise ConnectionFailed("no QEMU guest was found", hint="qtctl -t SOCKET, or qtctl demo")
        yield from ((str(guest.pid), guest) for guest in guests)


def _guest_at(target: str) -> Guest | None:
    """Return the guest that a TARGET means; None where that is not known."""
    if other_host(target) is not None:
        return None
    try:
        address, guest = resolve(target)
    except UsageError:
        raise
    except QtctlError:
        return None
    return guest or find_guest(address)


def _name(target: str, guest: Guest | None, names: Counter[str | None]) -> str:
    if guest is None:
        return target
    return guest.name if guest.name and names[guest.name] == 1 else str(guest.pid)
