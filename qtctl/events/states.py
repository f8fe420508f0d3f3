"""Reads and switches event states over QMP.

Source: ``trace-event-get-state`` and ``trace-event-set-state`` (``qapi/trace.json``), checked on
QEMU 7.2, 10.0, 10.2 and 11.1. The ``vcpu`` argument is never sent: 10.0 and later refuse it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from qtctl.errors import OutcomeUnknown, Refused
from qtctl.events.patterns import cover
from qtctl.events.selection import Selection
from qtctl.model import EventState
from qtctl.monitor.answers import states_of

if TYPE_CHECKING:
    from qtctl.monitor.client import Monitor

States = dict[str, EventState]
FEW = 8
"""Up to this many events are read and switched one by one; listing all takes longer."""
_READ_BACK_TIMEOUT_S = 0.5
_TRACE_LISTINGS = ("monitor_qmp_", "qmp_", "visit_")
"""Prefixes of events that QEMU traces while it lists events, six for each (7.2)."""


class SwitchReport(NamedTuple):
    """The result of a switch, by event name, each list sorted.

    ``matched`` = ``changed`` + ``already`` + ``unavailable`` + ``failed`` + ``unknown``; ``failed``
    read back in the other state, and so did ``unknown``, but QEMU did not answer and may switch
    them later. ``unmatched`` are patterns that matched no event.
    """

    enable: bool
    matched: tuple[str, ...]
    changed: tuple[str, ...]
    already: tuple[str, ...]
    unavailable: tuple[str, ...]
    failed: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    dry_run: bool = False
    unknown: tuple[str, ...] = ()


def unknown_words(report: SwitchReport) -> str:
    """Return a sentence on the events of which QEMU did not acknowledge the switch."""
    word = "on" if report.enable else "off"
    return (
        f"QEMU did not answer, and may still switch {word} later: {', '.join(report.unknown)}; "
        "the outcome is unknown, and qtctl restore puts them back"
    )


async def read_states(monitor: Monitor, name: str = "*", *, timeout_s: float = 5.0) -> States:
    """Return the state of every event that ``name`` matches, sorted by name.

    QEMU lists in reverse order of registration. An unknown plain name gives nothing, and so does
    one that is no UTF-8 (a surrogate stands for such a byte), for QMP cannot carry it.
    """
    if any("\ud800" <= character <= "\udfff" for character in name):
        return {}
    try:
        states = await monitor.ask(
            "trace-event-get-state", states_of, {"name": name}, timeout_s=timeout_s
        )
    except Refused:
        if "*" in name:
            raise
        return {}
    return dict(sorted(states.items()))


async def read_named(monitor: Monitor, names: Sequence[str], *, timeout_s: float = 5.0) -> States:
    """Return the states of ``names``, or of all events if there are many names."""
    if len(names) > FEW:
        return await read_states(monitor, timeout_s=timeout_s)
    states: States = {}
    for name in names:
        states |= await read_states(monitor, name, timeout_s=timeout_s)
    return states


def are_listed_loudly(names: Collection[str]) -> bool:
    """Return whether reading the states of ``names`` while they are on fills the trace."""
    return len(names) > FEW and any(name.startswith(_TRACE_LISTINGS) for name in names)


def as_if_enabled(states: States) -> States:
    """Return states of which nothing is known now: any event may be on, if it is available."""
    unavailable = EventState.UNAVAILABLE
    return {n: s if s == unavailable else EventState.ENABLED for n, s in states.items()}


async def read_selected(monitor: Monitor, selection: Selection) -> States:
    """Return the states of the events that ``selection`` picks, and perhaps of more."""
    if selection.plain:
        return await read_named(monitor, selection.included)
    return await read_states(monitor)


def plan(states: States, selection: Selection, enable: bool) -> SwitchReport:
    """Classify the events that ``selection`` picks: to change, already so, or unavailable."""
    wanted = EventState.ENABLED if enable else EventState.DISABLED
    matched = sorted(selection.pick(states))
    return SwitchReport(
        enable,
        tuple(matched),
        tuple(n for n in matched if states[n] not in (wanted, EventState.UNAVAILABLE)),
        tuple(n for n in matched if states[n] == wanted),
        tuple(n for n in matched if states[n] == EventState.UNAVAILABLE),
        unmatched=tuple(selection.unmatched(list(states))),
    )


async def set_states(monitor: Monitor, names: Sequence[str], enable: bool, states: States) -> bool:
    """Switch ``names`` with few commands; ``states`` are those read before, of all events if many.

    Returns whether QEMU answered each. A command without a reply is not sent again: the caller
    reads the states back.

    Raises:
        OutcomeUnknown: no reply, and the state could not be read either; or no reply twice. QEMU
            may have switched some of the events.
        Refused, LinkLost: see :meth:`qtctl.monitor.client.Monitor.execute`.
    """
    wanted = EventState.ENABLED if enable else EventState.DISABLED
    patterns: Iterable[str] = names
    if len(states) > FEW:  # all states are known, so a pattern can be safe, and takes one command
        harmless = [n for n, s in states.items() if s in (wanted, EventState.UNAVAILABLE)]
        patterns = cover(names, harmless, states)
    unanswered = 0
    for pattern in patterns:
        arguments = {"name": pattern, "enable": enable, "ignore-unavailable": True}
        try:
            await monitor.execute("trace-event-set-state", arguments)
        except OutcomeUnknown as unknown:
            unanswered += 1
            if unanswered > 1:
                raise
            try:
                await read_states(monitor, pattern, timeout_s=_READ_BACK_TIMEOUT_S)
            except Exception:
                raise unknown from None
    return not unanswered
