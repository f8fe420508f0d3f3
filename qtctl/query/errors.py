"""Convert errors of DuckDB: usage errors name the place in the SQL and similar names.

With ``errors_as_json`` on, DuckDB reports an error as a JSON object behind the name of its type
(checked with 2.0.1): ``exception_type``, ``exception_message``, and for some ``position`` (a byte
offset in the SQL), ``error_subtype``, ``type``, ``name`` and ``candidates``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from qtctl.errors import QtctlError, UsageError
from qtctl.events.patterns import near

_FAILURES = {
    "out of memory": "a query that keeps less: fewer columns or groups, or a LIMIT",
    "io": "",
    "internal": "",
    "fatal": "",
    "interrupt": "",
}
"""Types of errors that the SQL did not cause, with a hint for each."""
_SHOWN_COLUMNS = 76
_CUT = "..."


def convert_error(error: Exception, sql: str, tables: Sequence[str]) -> QtctlError:
    """Return an error of DuckDB's as a QtctlError: a UsageError where the SQL caused it.

    ``tables`` are the names of all tables, among which similar ones are suggested.
    """
    report = _report(str(error))
    kind = str(report.get("exception_type", "")).casefold()
    text = str(report.get("exception_message", error)).strip()
    if kind in _FAILURES:
        return QtctlError(f"the query failed: {text}", hint=_FAILURES[kind])
    message = text.split("\n")[0]
    name, candidates = report.get("name"), str(report.get("candidates", ""))
    hint = ""
    match report.get("error_subtype"), report.get("type"):
        case "MISSING_ENTRY", "Table":
            message = f"there is no table {name}, as no event of the files has that name"
            hint = ", ".join(near(str(name), tables)) or "events"
        case "COLUMN_NOT_FOUND", _:
            message = f"there is no column {name}"
            hint = ", ".join(candidates.split(","))
        case "MISSING_ENTRY", _:
            hint = candidates
    if kind == "permission":
        message = "a query reads the files named on the command line, and nothing else"
    place = str(report.get("position", ""))
    # SQL may raise JSON of its author's making, by error().
    known = re.fullmatch("[0-9]{1,9}", place)
    where, more = _place(sql, int(place)) if known else ("", ())
    return UsageError(f"{message.rstrip('!.')}{where}", hint=hint, more=more)


def _report(text: str) -> dict[str, Any]:
    """Return the JSON object in an error's text; empty if there is none."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    except ValueError:
        return {}
    return found if "exception_type" in found else {}


def _place(sql: str, position: int) -> tuple[str, tuple[str, ...]]:
    """Return line, column and a caret below the place ``position`` bytes into ``sql``."""
    before = sql.encode("utf-8", "surrogateescape")[:position].decode("utf-8", "ignore")
    begun = before.split("\n")
    number, column = len(begun), len(begun[-1])
    line = sql.split("\n")[number - 1].replace("\t", " ")
    start = max(0, column - _SHOWN_COLUMNS // 2) if len(line) > _SHOWN_COLUMNS else 0
    shown = line[start : start + _SHOWN_COLUMNS]
    shown = _CUT * (start > 0) + shown + _CUT * (start + _SHOWN_COLUMNS < len(line))
    caret = " " * (column - start + len(_CUT) * (start > 0)) + "^"
    return f" (line {number}, column {column + 1})", (f"  {shown}", f"  {caret}")
