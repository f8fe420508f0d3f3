"""Backends that do not look at QEMU's event states: telling that a guest has them, and saying so.

The events of ust and dtrace fire whenever a tracer is attached: ``ust.py`` and ``dtrace.py`` in
``scripts/tracetool/backend/`` generate no check of the state (checked on 7.2).
"""

from __future__ import annotations

import mmap
from collections.abc import Collection
from pathlib import Path

from qtctl.backends.elf import Elf
from qtctl.backends.table import TABLE
from qtctl.model import Backend

# Behind the three addresses of a note come the names of its provider and its probe.
_PROVIDER = b"qemu\0"


def may_have_tracers(pid: int) -> bool:
    """Return whether a process may have ust or dtrace; False is certain where it could be read.

    Looks at the libraries it has mapped and at its binary's USDT probes.
    """
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
        return "liblttng-ust" in maps or _has_probes(Path(f"/proc/{pid}/exe"))
    except (OSError, ValueError):
        return False


def _has_probes(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        try:
            elf = Elf(image)
            notes = elf.sections.get(b".note.stapsdt")
            return notes is not None and _PROVIDER in elf.data(notes)
        except ValueError:
            return False


def ignore_states(known: Collection[Backend]) -> tuple[Backend, ...]:
    """Return those of a guest's backends that do not look at the event states."""
    return tuple(b for b in known if b is not Backend.NOP and not TABLE[b].follows_qmp)


def states_note(known: Collection[Backend]) -> str:
    """Return what has to be said of event states where tracers ignore them; '' where none does."""
    deaf = ignore_states(known)
    if not deaf:
        return ""
    names = " and ".join(deaf)
    if len(deaf) == len(known):
        return (
            f"QMP changes nothing here: this QEMU traces to {names} only, whose events fire "
            "whenever a tracer is attached, whatever their state; try: qtctl tail PATTERN"
        )
    return (
        f"{names} {'does' if len(deaf) == 1 else 'do'} not look at these states: "
        "events there fire whenever a tracer is attached"
    )
