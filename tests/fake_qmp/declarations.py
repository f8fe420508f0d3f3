"""A small reader of ``trace-events-all``, enough to make up plausible lines."""

from __future__ import annotations

import functools
import gzip
import re
from dataclasses import dataclass

from .transcripts import DATA

_EVENT = re.compile(
    r"^(?P<properties>(?:[a-z]+ )*)(?P<name>\w+)\((?P<arguments>[^)]*)\)(?P<rest>.*)$"
)
_PIECE = re.compile(r'"((?:[^"\\]|\\.)*)"|(\w+)')
#: What the C library puts for the macros of inttypes.h on a 64-bit machine.
_MACRO = re.compile(r"PRI([diouxX])(?:8|16|32|64|PTR|MAX)$")


@dataclass(frozen=True, slots=True)
class Declaration:
    """One event: its arguments as (type, name), and its format with macros expanded."""

    name: str
    arguments: tuple[tuple[str, str], ...]
    format: str


def _format(text: str) -> str:
    pieces = []
    for quoted, word in _PIECE.findall(text):
        macro = _MACRO.match(word)
        pieces.append(macro[1] if macro else quoted)
    return "".join(pieces).replace("\\n", "\n").replace('\\"', '"').replace("\\t", "\t")


def _argument(text: str) -> tuple[str, str]:
    found = re.match(r"(.*?)(\w+)$", text.strip())
    return (found[1].strip(), found[2]) if found else (text, "")


def parse(text: str) -> dict[str, Declaration]:
    """Read declarations; of an event that is there twice the first one counts."""
    events: dict[str, Declaration] = {}
    for line in text.replace("\\\n", " ").splitlines():
        found = _EVENT.match(line)
        if found is None:
            continue
        listed = found["arguments"].strip()
        arguments = () if listed in ("", "void") else tuple(map(_argument, listed.split(",")))
        events.setdefault(
            found["name"], Declaration(found["name"], arguments, _format(found["rest"]))
        )
    return events


@functools.cache
def load(version: str) -> dict[str, Declaration]:
    """Read the declarations of one captured build."""
    with gzip.open(DATA / f"trace-events-all-{version}.gz", "rt", encoding="utf-8") as file:
        return parse(file.read())
