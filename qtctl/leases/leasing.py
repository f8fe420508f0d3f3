"""Switching events so that the guest can be given back: journal, then QEMU, then read back."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import operator
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from qtctl.errors import LeaseError, NothingMatched, QtctlError, Refused, TooBroad
from qtctl.events.patterns import near
from qtctl.events.selection import Selection
from qtctl.events.states import (
    States,
    SwitchReport,
    are_listed_loudly,
    as_if_enabled,
    plan,
    read_named,
    read_selected,
    read_states,
    set_states,
)
from qtctl.leases.journal import Journal, Lease, Owner, Resource, extend, to_give_back
from qtctl.model import EventState, Guest
from qtctl.monitor.client import Monitor
from qtctl.monitor.news import CONTROL
from qtctl.monitor.processes import start_ticks

_serials = itertools.count(1)


def new_owner() -> Owner:
    """Return an owner for a lease of this process."""
    return Owner(os.getpid(), start_ticks(os.getpid()) or 0, next(_serials))


class GivenBack(NamedTuple):
    """The result of ending a lease: events restored, events left, sentences for the user.

    Of the ``unknown`` events QEMU did not acknowledge the switch; they stay in the journal.
    """

    events: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class Undo(Protocol):
    """Undoes resources, by their kind."""

    async def end(self, resource: Resource, monitor: Monitor, guest: Guest | None) -> str:
        """Undo a resource while its guest runs; return what could not be undone, else ''."""

    def discard(self, resource: Resource) -> None:
        """Remove what is left of a resource once its guest has ended."""


class Leasing:
    """Leases on one guest, over its monitor and its journal; ``undo`` ends leased resources."""

    def __init__(self, monitor: Monitor, guest: Guest | None, journal: Journal, undo: Undo) -> None:
        self.monitor = monitor
        self._guest = guest
        self.journal = journal
        self._undo = undo
        self._turn = asyncio.Lock()
        self._listed: States = {}
        """What the last listing before a switch read."""
        self.acted_s = 0.0
        """When QEMU last acknowledged a switch, by ``time.monotonic``."""

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Hold the guest's lock; its holder may need the monitor, which is free while waiting."""
        # One at a time in this process as well: flock(2) would block two of it on each other.
        async with self._turn, self.journal.locked(self.monitor.release):
            await self.monitor.reacquire()
            yield

    async def leases(self) -> list[Lease]:
        """Return all leases on this guest."""
        if not self.journal.folder.is_dir():
            return []
        async with self._locked():
            return self.journal.leases()

    async def recover(self) -> list[str]:
        """End the leases of killed runs; return a sentence for each."""
        if not self.journal.folder.is_dir():
            return []
        notices = []
        async with self._locked():
            for orphan in self.journal.orphans():
                given = await self._end(orphan)
                notices += [_recovered(orphan, given), *given.notes]
        notices += [
            f"the lease journal {path} could not be read ({why}): what it held was not put back"
            for path, why in self.journal.broken.items()
        ]
        self.journal.broken.clear()
        return notices

    async def switch(
        self,
        owner: Owner | None,
        selection: Selection,
        enable: bool,
        *,
        dry_run: bool = False,
        agreed: bool = True,
        told_as: Sequence[str] | None = None,
    ) -> SwitchReport:
        """Switch the selected events; journal, set, read back, notify the consoles.

        Events that another lease already switched are held by ``owner`` as well. The consoles are
        sent the selection's patterns, or ``told_as``; nothing if that is empty.

        Raises:
            NothingMatched: no event is picked; the guest was not touched.
            TooBroad: more than half of all events are picked to be switched on, and ``agreed`` is
                false; the guest was not touched.
            LeaseError: the journal cannot be written; the guest was not touched.
            Refused: QEMU refused; the lease holds the events that were switched before.
            OutcomeUnknown: QEMU did not answer; the lease stays in the journal.
        """
        if dry_run:
            states = await read_selected(self.monitor, selection)
            return (await self._planned(states, selection, enable))._replace(dry_run=True)
        async with self._locked():
            states = self._listed = await read_selected(self.monitor, selection)
            report = await self._planned(states, selection, enable)
            # Where only plain names are picked, few others were read.
            if enable and not agreed and not selection.plain:
                self._refuse_most(selection, len(report.matched), len(states))
            lease, others = self.journal.of(owner), self.journal.others(owner)
            now = {name: states[name] == EventState.ENABLED for name in report.matched}
            for name in report.unavailable:
                del now[name]
            extended = extend(lease, now, enable, others)
            if extended != lease:
                await self._write(extended)
            self.acted_s = time.monotonic()
            if not report.changed:
                return report
            try:
                answered = await set_states(self.monitor, report.changed, enable, states)
                self.acted_s = time.monotonic()
            except Refused:
                await self._settle(extended, report)
                raise
            report = await self._settle(extended, report, answered=answered)
        if patterns := selection.words() if told_as is None else list(told_as):
            action, changed = "enable" if enable else "disable", len(report.changed)
            news = {"action": action, "patterns": patterns, "changed": changed, "pid": os.getpid()}
            with contextlib.suppress(QtctlError):
                await self.monitor.announce(CONTROL, news)
        return report

    async def _settle(
        self, lease: Lease, report: SwitchReport, *, answered: bool = True
    ) -> SwitchReport:
        """Read the states back; drop events that were not switched from the lease.

        Where QEMU did not answer it may switch them later: then they stay in the lease. Of events
        that trace the reading itself one is read, and the others only if that was not switched.
        """
        wanted = EventState.ENABLED if report.enable else EventState.DISABLED
        if answered and report.enable and are_listed_loudly(report.changed):
            first = report.changed[0]
            if (await read_named(self.monitor, [first])).get(first) == wanted:
                return report
        after = await read_named(self.monitor, report.changed)
        failed = tuple(name for name in report.changed if after.get(name) != wanted)
        if not answered:
            changed = tuple(name for name in report.changed if name not in failed)
            return report._replace(changed=changed, unknown=failed)
        if failed:
            events = {name: one for name, one in lease.events.items() if name not in failed}
            await self._write(replace(lease, events=events))
        changed = tuple(name for name in report.changed if name not in failed)
        return report._replace(changed=changed, failed=failed)

    async def _write(self, lease: Lease) -> None:
        """Write a lease in a thread: a slow disk must not block those who borrow the monitor.

        A cancelled caller waits for the write: a lease must not be written after its end.
        """
        writing = asyncio.ensure_future(asyncio.to_thread(self.journal.write, lease))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})
            raise

    async def _planned(self, states: States, selection: Selection, enable: bool) -> SwitchReport:
        report = plan(states, selection, enable)
        if report.matched:
            return report
        names = list(await read_states(self.monitor) if selection.plain else states)
        raise nothing_matched(selection, names, str(self.monitor.address))

    def _refuse_most(self, selection: Selection, picked: int, known: int) -> None:
        if picked * 2 > known:
            words = " ".join(map(repr, selection.words()))
            raise TooBroad(
                f"{words} takes in {picked} of the {known} events of {self.monitor.address}",
                hint="--yes, or fewer patterns",
            )

    async def hold(self, owner: Owner, resource: Resource) -> None:
        """Journal that ``resource`` is about to be made, or is shared.

        It replaces a resource of the same kind that ``owner`` held before.
        """
        async with self._locked():
            lease = self.journal.of(owner)
            others = tuple(one for one in lease.resources if one.kind != resource.kind)
            await self._write(replace(lease, resources=(*others, resource)))

    async def held(self, kind: str) -> list[Resource]:
        """Return the resources of a kind that running qtctls hold on this guest."""
        if not self.journal.folder.is_dir():
            return []
        async with self._locked():
            leases = self.journal.others(None)
        return [one for lease in leases for one in lease.resources if one.kind == kind]

    async def give_back(self, owner: Owner) -> GivenBack:
        """End ``owner``'s lease: events first, then resources, except those of other leases."""
        async with self._locked():
            lease = self.journal.of(owner)
            return await self._end(lease) if lease else GivenBack()

    async def release_events(self, owner: Owner) -> GivenBack:
        """Restore the events of ``owner``'s lease; keep its resources until they are read."""
        async with self._locked():
            return await self._end(self.journal.of(owner), keep=True)

    async def restore(self) -> GivenBack:
        """End every lease that no running process holds, standing ones included."""
        given = GivenBack()
        async with self._locked():
            for lease in self.journal.leases():
                if lease.owner is None or not lease.owner.alive():
                    ended = await self._end(lease)
                    given = GivenBack(*map(operator.add, given, ended))
        return given

    async def _end(self, lease: Lease, *, keep: bool = False) -> GivenBack:
        others = self.journal.others(lease.owner)
        back: dict[str, bool] = {}
        unknown: list[str] = []
        if lease.events:
            states = await self._states_at_end(lease)
            now = {name: state == EventState.ENABLED for name, state in states.items()}
            back = to_give_back(lease, others, now)
            for value in (False, True):
                names = [name for name, wanted in back.items() if wanted == value]
                if not await set_states(self.monitor, names, value, states):
                    after = await read_named(self.monitor, names)
                    now_wanted = EventState.ENABLED if value else EventState.DISABLED
                    unknown += [name for name in names if after.get(name) != now_wanted]
        self.acted_s = time.monotonic()
        left = tuple(sorted(set(lease.events) - set(back)))
        back = {name: value for name, value in back.items() if name not in unknown}
        # What QEMU may still switch stays in the journal, for the next run to look at.
        still = {name: lease.events[name] for name in unknown}
        notes = [_not_acknowledged(unknown)] if unknown else []
        if keep:
            with contextlib.suppress(LeaseError):  # on a full disk; that they are back is true
                await self._write(replace(lease, events=still))
            return GivenBack(tuple(sorted(back)), left, tuple(notes), tuple(unknown))
        shared = [resource for other in others for resource in other.resources]
        notes += [
            await self._undo.end(resource, self.monitor, self._guest)
            for resource in reversed(lease.resources)
            if resource not in shared
        ]
        await self._write(Lease(lease.owner, still))
        notes = list(filter(None, notes))
        return GivenBack(tuple(sorted(back)), left, tuple(notes), tuple(unknown))

    async def _states_at_end(self, lease: Lease) -> States:
        """Read the states of a lease's events, unless that would fill the trace.

        An event that somebody switched meanwhile has the state that is put back, so that it does
        no harm to switch it as well.
        """
        on = [name for name, change in lease.events.items() if change.wanted]
        if are_listed_loudly(on) and lease.events.keys() <= self._listed.keys():
            off = {
                n: EventState.DISABLED for n, change in lease.events.items() if not change.wanted
            }
            return as_if_enabled(self._listed) | off
        return await read_named(self.monitor, list(lease.events))


def forget(journal: Journal, undo: Undo) -> None:
    """Remove the leases of a guest that has ended, and their resources."""
    for lease in journal.leases():
        for resource in lease.resources:
            undo.discard(resource)
    journal.forget()


def nothing_matched(
    selection: Selection, names: list[str], where: str, look: str = "qtctl list"
) -> QtctlError:
    """Return the error for a selection that picks none of ``names``: near ones, or how to look."""
    included = selection.included
    wanted = ", ".join(repr(pattern) for pattern in included)
    similar = [name for pattern in included for name in near(pattern, names)][:3]
    hint = " or ".join(similar) if similar else look
    return NothingMatched(f"no event matches {wanted or 'this'} on {where}", hint=hint)


def _not_acknowledged(names: list[str]) -> str:
    return (
        f"QEMU did not answer when these were put back: {', '.join(names)}; the outcome is "
        "unknown, and the next qtctl run looks again"
    )


def _recovered(lease: Lease, given: GivenBack) -> str:
    """Return the sentence on a lease of a killed run that was ended."""
    count = len(given.events)
    parts = [f"{count} event{'s' * (count != 1)}"] if count or not lease.resources else []
    parts += [f"its {resource.kind}" for resource in lease.resources]
    pid = lease.owner.pid if lease.owner else 0
    return f"gave back {' and '.join(parts)} that qtctl pid {pid} left"
