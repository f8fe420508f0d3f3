"""What DuckDB says of a query, in qtctl's words: the place, and names that are near. Pure text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qtctl.errors import QtctlError, UsageError
from qtctl.events.patterns import near

__all__ = ["worded"]

_KIND = re.compile(r"(?:[\w ]*: )?(\w[\w ]*?) Error: ")
_PLACE = re.compile(r"\n+LINE (\d+): (.*)\n( *)\^+\s*\Z", re.DOTALL)
_BEFORE = len("LINE : ")
_CUT = "..."
_TABLE = re.compile(r"Table with name (.+) does not exist!")
_COLUMN = re.compile(r'Referenced column "(.+?)" not found.*?Candidate bindings: (.*)', re.DOTALL)
_MEANT = re.compile(r'Did you mean "(.+?)"\?')
_OTHERS = {
    "Out of Memory": "a query that keeps less: fewer columns or groups, or a LIMIT",
    "IO": "",
    "Internal": "",
    "Fatal": "",
    "INTERRUPT": "",
}
"""Kinds of errors that are not the query's fault, and what to try."""


def worded(message: str, sql: str, tables: Sequence[str]) -> QtctlError:
    """Return the error for a message of DuckDB's; ``tables`` are those that could be named."""
    place = _PLACE.search(message)
    shown = ""
    if place:
        number, line, caret = place.groups()
        message = message[: place.start()]
        column = len(caret) - len(number) - _BEFORE
        shown = f" (line {number}, column {column + _cut_before(line, number, sql) + 1})"
        shown += f"\n  {line}\n  {' ' * column}^"
    kind = _KIND.search(message)
    text = message[kind.end() :] if kind else message
    if kind and kind[1] in _OTHERS:
        return QtctlError(f"the query failed: {text.strip()}", hint=_OTHERS[kind[1]])
    first, _, rest = text.strip().partition("\n")
    hint = ""
    if table := _TABLE.match(first):
        first = f"there is no table {table[1]}, as no event of the files has that name"
        hint = ", ".join(near(table[1], tables)) or "events"
    elif column_named := _COLUMN.match(text):
        first = f"there is no column {column_named[1]}"
        hint = column_named[2].split("\n")[0].replace('"', "")
    elif meant := _MEANT.search(rest):
        hint = meant[1]
    elif kind and kind[1] == "Permission":
        first, hint = "a query reads the files that it is given, and nothing else", ""
    return UsageError(f"{first.rstrip('!.')}{shown}", hint=hint)


def _cut_before(shown: str, number: str, sql: str) -> int:
    """Return how many characters of a line of ``sql`` DuckDB left out before what it shows."""
    rest = shown.removeprefix(_CUT)
    if rest == shown:
        return 0
    line = sql.split("\n")[int(number) - 1]
    return max(0, line.find(rest.removesuffix(_CUT))) - len(_CUT)
