"""The journal of changes that qtctl made on a guest, with the state before them.

One folder per guest holds one JSON file per lease. A lease that a running verb holds names that
process; when it is gone, the next run restores the guest. A standing lease (``enable``,
``disable``) names nobody and stays until ``restore``. Files are written and synced before QEMU is
asked, and a lock per guest orders the qtctl processes that share one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from qtctl.errors import LeaseError
from qtctl.monitor.processes import same_process
from qtctl.shapes import (
    Malformed,
    elements,
    flag,
    member,
    members,
    pair,
    parsed,
    shown,
    text,
    whole,
)

SCHEMA = 1
LOCK_TIMEOUT_S = 5.0
_LOCK_POLL_S = 0.02


class Owner(NamedTuple):
    """Who holds a lease: a process, by pid and start time, and which of its leases this is."""

    pid: int
    started: int
    serial: int

    def alive(self) -> bool:
        """Return whether the process still runs."""
        return same_process(self.pid, self.started)


class Change(NamedTuple):
    """One event's state before any qtctl touched it (``found``) and the state a lease wants."""

    found: bool
    wanted: bool


class Resource(NamedTuple):
    """A change other than to events: a redirected log, a tracer's session.

    ``kind`` says how it is undone, with ``facts``. Leases with equal resources share them; the last
    one to end undoes them.
    """

    kind: str
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Lease:
    """Changes made for one owner; None is a standing lease."""

    owner: Owner | None
    events: Mapping[str, Change] = field(default_factory=dict)
    resources: tuple[Resource, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.events) or bool(self.resources)


def extend(
    lease: Lease, changes: Mapping[str, bool], wanted: bool, others: Iterable[Lease]
) -> Lease:
    """Return ``lease`` with events added. ``changes`` maps each event to its present state.

    The state that other leases found takes precedence: they may have caused the present one. An
    event that is wanted as it was found needs no entry, unless that overrules another lease, whose
    state must be restored later.
    """
    others = list(others)
    overruled = {
        name for other in others for name, one in other.events.items() if one.wanted != wanted
    }
    found = {name: change.found for other in others for name, change in other.events.items()}
    found |= {name: change.found for name, change in lease.events.items()}
    events = dict(lease.events)
    for name, now in changes.items():
        before = found.get(name, now)
        if before == wanted and name not in overruled:
            events.pop(name, None)
        else:
            events[name] = Change(before, wanted)
    return replace(lease, events=events)


def to_give_back(lease: Lease, others: Iterable[Lease], now: Mapping[str, bool]) -> dict[str, bool]:
    """Return the events to switch when ``lease`` ends, with the state to put back.

    That state is the one another lease wants, else the one found. Skipped are events that another
    lease still wants as they are, that somebody else switched meanwhile (their state is not the
    one the lease wanted), and that the guest no longer has.
    """
    held = {(name, change.wanted) for other in others for name, change in other.events.items()}
    back = {}
    for name, change in lease.events.items():
        if now.get(name) == change.wanted and (name, change.wanted) not in held:
            before = not change.wanted if (name, not change.wanted) in held else change.found
            if before != change.wanted:
                back[name] = before
    return back


class Journal:
    """The leases on one guest, as files in ``folder`` (made on the first write, mode 0700).

    Call methods other than :meth:`locked` with the lock held.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broken: dict[Path, str] = {}
        """Why a file could not be read, by the name that it has now."""

    @contextlib.asynccontextmanager
    async def locked(
        self, waits: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[None]:
        """Hold the guest's lock; ``waits`` is called repeatedly while waiting for it.

        Raises:
            LeaseError: the folder cannot be made, or another qtctl keeps the lock for 5 s.
        """
        with _explained(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise LeaseError(
                            f"another qtctl has been switching this guest for {LOCK_TIMEOUT_S:g} s",
                            hint="qtctl doctor",
                        ) from None
                    if waits is not None:
                        await waits()
                    await asyncio.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(handle)

    def leases(self) -> list[Lease]:
        """Read every lease; a malformed file is renamed and added to :attr:`broken`."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(_from_json(parsed(path.read_bytes())))
            except FileNotFoundError:
                continue
            except (ValueError, OSError) as error:
                aside = path.with_suffix(f".broken-{time.time_ns()}")
                with contextlib.suppress(OSError):
                    path.rename(aside)
                self.broken[aside] = str(error)
        return found

    def orphans(self) -> list[Lease]:
        """Return the leases whose owner ended without ending them."""
        return [le for le in self.leases() if le.owner is not None and not le.owner.alive()]

    def others(self, owner: Owner | None) -> list[Lease]:
        """Return the live and the standing leases that are not ``owner``'s."""
        others = [lease for lease in self.leases() if lease.owner != owner]
        return [lease for lease in others if lease.owner is None or lease.owner.alive()]

    def of(self, owner: Owner | None) -> Lease:
        """Return ``owner``'s lease, empty if there is none."""
        return next((le for le in self.leases() if le.owner == owner), Lease(owner))

    def write(self, lease: Lease) -> None:
        """Write ``lease`` to disk and sync it; remove an empty one.

        Raises:
            LeaseError: it cannot be written (disk full, no permission); the old one still stands.
        """
        owner = lease.owner
        name = "standing" if owner is None else "-".join(map(str, owner))
        path = self.folder / f"{name}.json"
        with _explained(self.folder):
            if not lease:
                path.unlink(missing_ok=True)
                return
            fresh = path.with_suffix(".new")
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(_to_json(lease), file)
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(path)
            finally:
                fresh.unlink(missing_ok=True)
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def forget(self) -> None:
        """Remove the folder of a guest that has ended."""
        for path in self.folder.glob("*"):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def guest_key(pid: int, started: int) -> str:
    """Return the name of a guest's folder; another boot or process has another one."""
    return f"{_boot()}-{pid}-{started}"


def guest_of_key(key: str) -> tuple[int, int] | None:
    """Return pid and start time of the guest that a folder's name stands for.

    The pid is 0 for a guest of an earlier boot; None for the folder of a remote guest.
    """
    match = re.fullmatch(r"([0-9a-f]{8})-(\d+)-(\d+)", key)
    if match is None:
        return None
    return (int(match[2]), int(match[3])) if match[1] == _boot() else (0, 0)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]


def _to_json(lease: Lease) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "owner": lease.owner,
        "events": {name: [change.found, change.wanted] for name, change in lease.events.items()},
        "resources": [{"kind": one.kind, "facts": dict(one.facts)} for one in lease.resources],
    }


def _from_json(document: object) -> Lease:
    """Return the lease of a journal's file.

    Raises:
        Malformed: it has another shape, or is of another version.
    """
    lease = members(document, "the lease")
    whole(member(lease, "schema"), "its schema", SCHEMA, SCHEMA)
    owner = member(lease, "owner")
    return Lease(
        None if owner is None else _owner(owner),
        {
            text(name, "an event"): Change(*(flag(one, name) for one in pair(states, name)))
            for name, states in members(member(lease, "events"), "its events").items()
        },
        tuple(_resource(one) for one in elements(member(lease, "resources"), "its resources")),
    )


def _owner(written: object) -> Owner:
    numbers = elements(written, "the owner")
    if len(numbers) != len(Owner._fields):
        raise Malformed(f"the owner is {shown(numbers)}")
    return Owner(*(whole(one, "the owner", 0) for one in numbers))


def _resource(written: object) -> Resource:
    resource = members(written, "a resource")
    facts = members(member(resource, "facts"), "its facts")
    return Resource(
        text(member(resource, "kind"), "its kind"),
        {text(name, "a fact"): text(fact, name) for name, fact in facts.items()},
    )


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LeaseError(
            f"cannot keep the lease journal in {folder}: {error.strerror}; nothing was switched",
            hint="set XDG_STATE_HOME to a folder that can be written",
        ) from error
