"""Format values of a query's result as table cells, CSV and JSON. Pure formatting."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any


def column_values(column: Any) -> list[Any]:
    """Return the values of an Arrow column; times in ns as text, which Python's have not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = _without_ns(column.type)
    if kind == column.type:
        return list(column.to_pylist())
    column = column.cast(kind)
    if pa.types.is_string(kind):  # as isoformat() of other times
        column = pc.utf8_replace_slice(column, 10, 11, "T")
    return list(column.to_pylist())


def _without_ns(kind: Any) -> Any:
    """Return an Arrow type with text in place of times in ns, which to_pylist() may refuse."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_without_ns(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(one.name, _without_ns(one.type)) for one in kind.fields])
    return kind


def json_value(value: Any) -> Any:
    """Return ``value`` as a JSON value: integers exact, bytes in hex, times as ISO 8601."""
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
    """Return ``value`` as a table cell: null is empty, a text is unchanged."""
    if value is None:
        return ""
    if type(value) is str or type(value) is int:  # the common case, kept fast
        return str(value)
    value = json_value(value)
    return value if isinstance(value, str) else json.dumps(value)


def hex_cell(value: Any) -> str:
    """Return an integer in hex, other values like :func:`cell`."""
    return hex(value) if type(value) is int else cell(value)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV (RFC 4180, but with LF line ends), without the last newline."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return out.getvalue().removesuffix("\n")


def distinct(names: Iterable[str]) -> list[str]:
    """Return column names, made unique by appending ``_1``, ``_2`` ... to duplicates."""
    found: list[str] = []
    for name in names:
        unique, number = name, 0
        while unique in found:
            number += 1
            unique = f"{name}_{number}"
        found.append(unique)
    return found
