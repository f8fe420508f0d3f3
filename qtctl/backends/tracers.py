"""Backends that do not look at QEMU's event states: telling that a guest has them, and saying so.

The events of ust and dtrace fire whenever a tracer is attached: ``ust.py`` and ``dtrace.py`` in
``scripts/tracetool/backend/`` generate no check of the state (checked on 7.2).
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path

from qtctl.backends.table import TABLE
from qtctl.model import Backend

_ELF64 = struct.Struct("<16x2xHI8x8xQ4x6xHHH")
_SECTION = struct.Struct("<I20xQQ24x")
_NOTES = b".note.stapsdt"


def may_have_tracers(pid: int) -> bool:
    """Tell at a glance whether a process may have ust or dtrace; a no is sure where it is read.

    Looks at the libraries it has mapped and at the names of its binary's sections, a few KiB.
    """
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
        return "liblttng-ust" in maps or _NOTES in _section_names(Path(f"/proc/{pid}/exe"))
    except OSError:
        return False


def _section_names(path: Path) -> bytes:
    """Return the names of the sections of a 64-bit little-endian ELF file; b'' for others."""
    with path.open("rb") as file:
        try:
            head = file.read(64)
            if head[:6] != b"\x7fELF\x02\x01":
                return b""
            *_, sections, size, _count, names = _ELF64.unpack(head)
            file.seek(sections + size * names)
            _, offset, length = _SECTION.unpack(file.read(_SECTION.size))
            file.seek(offset)
            return file.read(min(length, 1 << 16))
        except (struct.error, ValueError, OverflowError):
            return b""


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
