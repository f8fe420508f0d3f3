"""Places of a probe's arguments, from the note's words to the kernel's fetch arguments.

Source: SystemTap's ``sys/sdt.h`` (``SIZE@OPERAND``, the operand as the assembler writes it) and
Documentation/trace/uprobetracer.rst of Linux. x86_64 and aarch64; checked on x86_64.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ARGUMENT = re.compile(r"(-?)([1248])(f?)@(.*?)(?=\s+-?[1248]f?@|\s*$)")

_LETTERS = ("a", "b", "c", "d")
_X86 = {
    **{f"{wide}{x}x": f"{x}x" for x in _LETTERS for wide in ("r", "e", "")},
    **{f"{x}l": f"{x}x" for x in _LETTERS},
    **{f"{wide}{x}": x for x in ("si", "di", "bp", "sp") for wide in ("r", "e", "")},
    **{f"{x}l": x for x in ("si", "di", "bp", "sp")},
    **{f"r{n}{part}": f"r{n}" for n in range(8, 16) for part in ("", "d", "w", "b")},
}
_ARM = {
    **{f"{wide}{n}": f"x{n}" for n in range(31) for wide in ("x", "w")},
    "sp": "sp",
    "wsp": "sp",
    "x30": "lr",
    "w30": "lr",
    "lr": "lr",
}
_ZERO = ("xzr", "wzr")


class Operand(NamedTuple):
    """Where an argument of ``bits`` bits is: what the kernel fetches, without a type."""

    fetch: str
    bits: int


def parse_places(text: str) -> list[Operand | None] | None:
    """Return the places of a note's arguments, None for one that the kernel cannot fetch.

    Returns None for a text that cannot be parsed.
    """
    found, at = [], 0
    text = text.strip()
    for match in _ARGUMENT.finditer(text):
        if text[at : match.start()].strip():
            return None
        at = match.end()
        fetch = None if match[3] else _fetch(match[4])
        found.append(None if fetch is None else Operand(fetch, 8 * int(match[2])))
    return found if at == len(text) else None


def _fetch(operand: str) -> str | None:
    """Return the fetch argument of an operand, None if there is none."""
    if match := re.fullmatch(r"[$#]?(-?\d+)", operand):
        return f"\\{match[1]}"
    if operand in _ZERO:
        return "\\0"
    if match := re.fullmatch(r"%(\w+)", operand):
        return _register(_X86.get(match[1]))
    if match := re.fullmatch(r"([-+]?\d*)\(%(\w+)\)", operand):
        return _memory(_X86.get(match[2]), match[1])
    if match := re.fullmatch(r"\[(\w+)(?:,\s*#?(-?\d+))?\]", operand):
        return _memory(_ARM.get(match[1]), match[2] or "")
    return _register(_ARM.get(operand))


def _register(name: str | None) -> str | None:
    return None if name is None else f"%{name}"


def _memory(name: str | None, offset: str) -> str | None:
    return None if name is None else f"{int(offset or 0):+d}(%{name})"
