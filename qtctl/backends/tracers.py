"""Backends that do not look at QEMU's event states: detecting them, and a note for the user.

The events of ust and dtrace fire whenever a tracer is attached: ``ust.py`` and ``dtrace.py`` in
``scripts/tracetool/backend/`` generate no check of the state (checked on 7.2).
"""

from __future__ import annotations

from collections.abc import Collection

from qtctl.backends.table import TABLE
from qtctl.model import Backend


def may_have_tracers(pid: int) -> bool:
    """Return whether a process has such a backend; False is certain where it could be read."""
    from qtctl.backends.detect import has_any

    return has_any(pid, ignore_states(TABLE))


def ignore_states(known: Collection[Backend]) -> tuple[Backend, ...]:
    """Return those of a guest's backends that do not look at the event states."""
    return tuple(name for name in known if not TABLE[name].follows_qmp)


def states_note(known: Collection[Backend]) -> str:
    """Return a sentence on tracers that ignore event states; '' for a guest without any."""
    ignoring = ignore_states(known)
    if not ignoring:
        return ""
    names = " and ".join(ignoring)
    if len(ignoring) == len(known):
        return (
            f"QMP changes nothing here: this QEMU traces to {names} only, whose events fire "
            "whenever a tracer is attached, whatever their state; try: qtctl tail PATTERN"
        )
    return (
        f"{names} {'does' if len(ignoring) == 1 else 'do'} not look at these states: "
        "events there fire whenever a tracer is attached"
    )
