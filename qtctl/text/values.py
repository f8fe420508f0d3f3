"""Values of a database's answer, as text for people, as CSV and as JSON. Pure formatting."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

__all__ = ["cell", "csv_text", "distinct", "hex_cell", "json_value"]


def json_value(value: Any) -> Any:
    """Return ``value`` as JSON has it: whole numbers whole, bytes in hex, times as ISO 8601."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case bytes():
            return value.hex()
        case dict():
            return {str(key): json_value(one) for key, one in value.items()}
        case list() | tuple():
            return [json_value(one) for one in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def cell(value: Any) -> str:
    """Return ``value`` as one cell of a table: nothing for null, a text as it is."""
    if value is None:
        return ""
    if type(value) is str or type(value) is int:  # nearly all are, so this must be quick
        return str(value)
    value = json_value(value)
    return value if isinstance(value, str) else json.dumps(value)


def hex_cell(value: Any) -> str:
    """Return a whole number in hex, anything else as :func:`cell` does."""
    return hex(value) if type(value) is int else cell(value)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV (RFC 4180, but lines end in a newline), without the last newline."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return out.getvalue().removesuffix("\n")


def distinct(names: Iterable[str]) -> list[str]:
    """Return names of columns with ``_1``, ``_2`` ... behind those that came before."""
    found: list[str] = []
    for name in names:
        unique, number = name, 0
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found
