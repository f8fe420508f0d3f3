"""Which trace backends a running QEMU has, by the signs of each in its process.

Source: ``scripts/tracetool/backend/*.py`` and ``trace/control.c`` for what each backend leaves
behind; checked on QEMU 7.2 (Debian's and one built with all six), 10.0 and 11.1. HMP's answers,
where a monitor could be asked, win over what the process shows.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from qtctl.backends.base import Process
from qtctl.backends.elf import Elf
from qtctl.backends.table import TABLE
from qtctl.model import Backend, Guest
from qtctl.monitor.processes import fd_links

if TYPE_CHECKING:
    from qtctl.backends.base import AskingPart

Signs: TypeAlias = Mapping[Backend, bool | None]
"""Whether each backend is there; None: could not be looked at."""


def no_signs() -> Signs:
    """Return the signs of a QEMU of which nothing can be looked at."""
    return dict.fromkeys(_detected())


def backends_from(signs: Signs) -> tuple[Backend, ...]:
    """Return the backends that are known to be there, in the table's order.

    ``(Backend.NOP,)`` means that each was looked for and is absent; an empty result that none was
    found and some could not be looked at (:func:`undecided`).
    """
    found = tuple(backend for backend, sign in signs.items() if sign)
    return found or (() if undecided(signs) else (Backend.NOP,))


def undecided(signs: Signs) -> tuple[Backend, ...]:
    """Return the backends that may or may not be there, because a sign could not be read."""
    return tuple(backend for backend, sign in signs.items() if sign is None)


def signs_of_process(guest: Guest) -> Signs:
    """Read the signs of a local guest from its binary and open files; asks no monitor.

    What may not be read (another user's process, one that is gone) is None. Never raises.
    Takes about 0.1 s for a binary of 100 MB.
    """
    return signs_in(Path(f"/proc/{guest.pid}/exe"), fd_links(guest.pid), _detected())


def has_any(pid: int, backends: Iterable[Backend]) -> bool:
    """Return whether a process shows one of ``backends``; False where it cannot be looked at."""
    return any(signs_in(Path(f"/proc/{pid}/exe"), fd_links(pid), backends).values())


def questions() -> dict[Backend, str]:
    """Return the line for the human monitor that decides on a backend, of those that have one."""
    lines = {one: getattr(TABLE[one].signs, "QUESTION", "") for one in _detected()}
    return {backend: line for backend, line in lines.items() if line}


def with_answers(signs: Signs, answers: Mapping[Backend, str]) -> Signs:
    """Return the signs with the monitor's answers to :func:`questions`, which win."""
    parts = {backend: cast("AskingPart", TABLE[backend].signs) for backend in answers}
    return {**signs, **{one: part.in_answer(answers[one]) for one, part in parts.items()}}


def _detected() -> list[Backend]:
    return [backend for backend, row in TABLE.items() if row.signs is not None]


def signs_in(
    executable: Path, links: Sequence[str] | None, backends: Iterable[Backend]
) -> dict[Backend, bool | None]:
    """Read the signs of backends from an executable, and from the names of a process's open files.

    None is the sign of what may not be read, as for no ``links``.
    """
    found: dict[Backend, bool | None] = dict.fromkeys(backends)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(executable.open("rb"))
            image = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):
            process = Process(links=links)
        else:
            process = Process(image, _elf(image), links)
        for backend in found:
            part = TABLE[backend].signs
            if part is not None:
                with contextlib.suppress(ValueError, IndexError, struct.error):  # damaged headers
                    found[backend] = part.in_process(process)
    return found


def _elf(image: mmap.mmap) -> Elf | None:
    """Return the headers; None for a file without sections or with damaged ones."""
    try:
        elf = Elf(image)
    except ValueError:
        return None
    return elf if elf.sections else None
