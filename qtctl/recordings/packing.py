"""Rows of a batch packed for compression: whole, small, and quick to make and to read.

Numbers go column by column, less their smallest, one byte plane after the other. The bytes of
arguments go event by event and, where rows are of one size, byte column by byte column: similar
bytes then stand side by side. Bytes before a record's arguments are not kept: the columns hold
the same. Nothing here decodes an argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.records.columns import Int64Array, rows_by_key
from qtctl.records.kernels import layout
from qtctl.records.rows import Rows
from qtctl.shapes import member, pair, whole

_LONG = 1024
"""Rows of at least so many bytes are not laid out by columns."""
_THOUSAND = 1000
_MOST_ROWS = 1 << 24


def pack(rows: Rows) -> tuple[dict[str, Any], bytes]:
    """Pack rows, of which there is at least one: what :func:`unpack` must know, and the bytes."""
    by_event, _ = rows_by_key(rows.event)
    order, bounds = _laid_order(rows.event, rows.size, by_event)
    step = np.diff(rows.time_ns, prepend=rows.time_ns[:1])
    unit = 1 if (step % _THOUSAND).any() else _THOUSAND
    columns = {
        "event": rows.event.astype(np.int64),
        "time": step // unit,
        "tid": rows.tid.astype(np.int64),
        "arrived": rows.arrived.astype(np.int64),
        "size": rows.size[by_event],
    }
    if rows.cut.any():
        columns["cut"] = rows.cut.astype(np.int64)
    facts: dict[str, Any] = {
        "rows": len(rows),
        "bytes": len(rows.data),
        "first_ns": int(rows.time_ns[0]),
        "unit_ns": unit,
    }
    pieces = []
    for name, column in columns.items():
        facts[name], piece = _pack_numbers(column)
        pieces.append(piece)
    out = np.empty(len(rows.data), np.uint8)
    if len(out):
        layout.lay_out(
            rows.data, rows.begin.data, rows.size.data, order.data, bounds.data, _LONG, out.data
        )
    return facts, b"".join((*pieces, out.tobytes()))


def unpack(facts: dict[str, Any], packed: bytes, at: int) -> tuple[Rows, int]:
    """Undo :func:`pack`; return the rows and where their bytes end.

    Raises:
        ValueError: the facts or the bytes are malformed.
    """
    count = whole(member(facts, "rows"), "the number of rows", 1, _MOST_ROWS)
    total = whole(member(facts, "bytes"), "the number of bytes", 0)
    first_ns = whole(member(facts, "first_ns"), "the first time")
    unit_ns = whole(member(facts, "unit_ns"), "the unit of time")
    columns = {}
    for name in ("event", "time", "tid", "arrived", "size", *(("cut",) if "cut" in facts else ())):
        columns[name], at = _unpack_numbers(member(facts, name), packed, at, count)
    event = columns["event"].astype(np.int32)
    if int(event.min()) < -1 or (event != columns["event"]).any():
        raise ValueError("no such event")
    tid = columns["tid"].astype(np.int32)
    if (tid != columns["tid"]).any():
        raise ValueError("no such thread")
    by_event, _ = rows_by_key(event)
    size = np.empty(count, np.int64)
    size[by_event] = columns["size"]
    if int(size.min()) < 0 or int(size.max()) > total or int(size.sum()) != total:
        raise ValueError("sizes do not add up")
    laid = packed[at : at + total]
    if len(laid) != total:
        raise ValueError("bytes are missing")
    begin, data = np.zeros(count, np.int64), np.empty(total, np.uint8)
    order, bounds = _laid_order(event, size, by_event)
    if total:
        layout.put_back(laid, size.data, order.data, bounds.data, _LONG, begin.data, data.data)
    time_ns = np.cumsum(columns["time"] * unit_ns) + first_ns
    rows = Rows(
        event,
        time_ns,
        tid,
        columns["arrived"].astype(np.bool_),
        columns.get("cut", np.zeros(count)).astype(np.bool_),
        begin,
        size,
        data.tobytes(),
    )
    return rows, at + total


def _pack_numbers(values: Int64Array) -> tuple[list[int], bytes]:
    """Return [smallest, bytes each] and the planes, the lowest byte's first."""
    least = values.min()
    above = (values.view(np.uint64) - least.view(np.uint64)).astype("<u8", copy=False)
    width = (int(above.max()).bit_length() + 7) // 8
    return [int(least), width], above.view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()


def _unpack_numbers(facts: object, packed: bytes, at: int, count: int) -> tuple[Int64Array, int]:
    first, size = pair(facts, "the facts of a column")
    least, width = whole(first, "the smallest number"), whole(size, "the width of numbers", 0, 8)
    end = at + count * width
    if end > len(packed):
        raise ValueError("numbers are missing")
    planes = np.frombuffer(packed, np.uint8, count * width, at).reshape(width, count)
    above = np.zeros((count, 8), np.uint8)
    above[:, :width] = planes.T
    values = above.view("<u8").reshape(-1).astype(np.uint64, copy=False)
    return (values + np.int64(least).view(np.uint64)).view(np.int64), end


def _laid_order(
    event: NDArray[np.int32], size: Int64Array, by_event: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """Return row numbers by event, then by size, and the bounds of groups alike in both."""
    classes = np.minimum(size, _LONG).astype(np.int32)
    by_size, _ = rows_by_key(classes)
    order = by_size[rows_by_key(event[by_size])[0]]
    alike = event[order].astype(np.int64) * (_LONG + 1) + classes[order]
    starts = np.flatnonzero(np.diff(alike, prepend=alike[0] - 1))
    return order, np.append(starts, len(order))
