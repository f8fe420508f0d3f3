"""Batches as log records, pairs as spans: protobuf messages from columns.

Sources: ``logs/v1/logs.proto`` and ``trace/v1/trace.proto`` of OTLP 1.10. Fields are written in the
order of their numbers, as protobuf does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtctl.analysis.latency import Spans
from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import Column, Int64Array, StringColumn
from qtctl.writers.otlp.fields import (
    FIXED64,
    VARINT,
    MessageBlock,
    attribute,
    field,
    tag,
    text_field,
    text_value,
)

_TIME, _SEVERITY, _BODY, _ATTRIBUTES, _OBSERVED, _EVENT_NAME = 1, 2, 5, 6, 11, 12
_TRACE_ID, _SPAN_ID, _NAME, _KIND, _START, _END, _SPAN_ATTRIBUTES = 1, 2, 5, 6, 7, 8, 9
_INTERNAL = b"\x01"
_WARN = b"\x0d"
_THREAD_ID, _THREAD_NAME = "thread.id", "thread.name"
"""By OpenTelemetry's semantic conventions."""
_RAW, _CUT, _BOOT = "qtctl.raw", "qtctl.cut", "qtctl.since_boot_ns"


def log_records(batch: Batch, observed_ns: int) -> list[MessageBlock]:
    """Return the records of a batch as log records, read at ``observed_ns`` (Unix, ns).

    A record has a time only where that is Unix time; one with a time of arrival has it as the
    observed time, one with a time since boot in an attribute.
    """
    return [
        _block(batch, event, rows, values, late, observed_ns)
        for event, rows, values, late in _alike(batch)
    ]


def _alike(
    batch: Batch,
) -> Iterator[tuple[int, Int64Array, Mapping[str, Column] | None, bool]]:
    """Yield what :meth:`Batch.alike` does, with rows of which all, or none, have arrived late."""
    for event, rows, values in batch.alike():
        arrived = batch.arrived[rows]
        late = bool(arrived[0])
        if bool(arrived.all()) == bool(arrived.any()):
            yield event, rows, values, late
            continue
        for late in (False, True):
            some = np.flatnonzero(arrived == late)
            taken = None if values is None else {k: _take(v, some) for k, v in values.items()}
            yield event, rows[some], taken, late


def _take(column: Column, rows: Int64Array) -> Column:
    return column.take(rows) if isinstance(column, StringColumn) else column[rows]


def _block(
    batch: Batch,
    event: int,
    rows: Int64Array,
    values: Mapping[str, Column] | None,
    late: bool,
    observed_ns: int,
) -> MessageBlock:
    made = MessageBlock(rows, _ATTRIBUTES)
    times = batch.time_ns[rows]
    since_boot = not late and batch.clock is Clock.MONOTONIC
    if not late and not since_boot:
        made.fixed(_TIME, times)
    name = "" if event < 0 else batch.names[event]
    if event < 0:
        lines = batch.texts(rows)
        made.choice(lines.codes, [text_value(_BODY, text) for text in lines.texts])
    else:
        made.literal(text_value(_BODY, name))
    _thread(made, batch, rows)
    if since_boot:
        made.attribute(_BOOT, times)
    for key, column in (values or {}).items():
        made.attribute(key, column)
    if event >= 0 and values is None:
        made.attribute(_RAW, batch.raws(rows))
        if batch.is_cut(int(rows[0])):
            made.literal(
                field(_ATTRIBUTES, text_field(1, _CUT), field(2, tag(2, VARINT) + b"\x01"))
            )
    if late:
        made.fixed(_OBSERVED, times)
    else:
        made.literal(tag(_OBSERVED, FIXED64) + observed_ns.to_bytes(8, "little"))
    if name:
        made.literal(text_field(_EVENT_NAME, name))
    return made


def _thread(made: MessageBlock, batch: Batch, rows: Int64Array, number: int = _ATTRIBUTES) -> None:
    """Append the thread's id and name, where they are known."""
    tid = batch.tid[rows]
    if (tid >= 0).all():
        made.attribute(_THREAD_ID, tid.astype(np.int64))
    elif (tid >= 0).any():
        known, codes = np.unique(tid, return_inverse=True)
        found = [attribute(number, _THREAD_ID, one) if one >= 0 else b"" for one in known.tolist()]
        made.choice(codes, found)
    names = [one.thread for one in batch.origins]
    if any(names):
        found = [attribute(number, _THREAD_NAME, one) if one else b"" for one in names]
        made.choice(batch.origin[rows], found)


def note_record(note: Mapping[str, Any], observed_ns: int) -> bytes:
    """Return a loss, mark or other note, an object of ``qtctl/1``, as a field of log records."""
    named = f"qtctl.{note['type']}"
    parts = [tag(_TIME, FIXED64) + int(note["time_ns"]).to_bytes(8, "little")]
    if note["type"] == "loss":
        parts.append(tag(_SEVERITY, VARINT) + _WARN)
    parts.append(text_value(_BODY, json.dumps(note)))
    parts += [
        attribute(_ATTRIBUTES, f"qtctl.{key}", value)
        for key, value in note.items()
        if isinstance(value, int | str) and key not in ("type", "time_ns")
    ]
    parts.append(tag(_OBSERVED, FIXED64) + observed_ns.to_bytes(8, "little"))
    return field(2, *parts, text_field(_EVENT_NAME, named))


def spans(name: str, found: Spans, random: np.random.Generator) -> list[MessageBlock]:
    """Return pairs as spans called ``name``, with the arguments of their ENDs.

    Each has a trace of its own. Their times must be Unix times.
    """
    batch = found.batch
    assert batch is not None
    made, events = [], batch.event[found.row]
    for event in np.unique(events).tolist():
        chosen = np.flatnonzero(events == event)
        known = batch.arguments(event)
        places = np.searchsorted(known.rows, found.row[chosen])
        whole = known.ok[places]
        for good in (True, False):
            some = chosen[whole == good]
            if len(some):
                values = {k: _take(v, places[whole]) for k, v in known.values.items()}
                made.append(_span(name, found, some, event, values if good else {}, random))
    return made


def _span(
    name: str,
    found: Spans,
    some: Int64Array,
    event: int,
    values: Mapping[str, Column],
    random: np.random.Generator,
) -> MessageBlock:
    batch = found.batch
    assert batch is not None
    made = MessageBlock(some, _SPAN_ATTRIBUTES)
    for number, words in ((_TRACE_ID, 2), (_SPAN_ID, 1)):
        made.literal(field(number, bytes(8 * words))[:2])
        for _ in range(words):
            made.raw(_ids(random, len(some)))
    made.literal(text_field(_NAME, name) + tag(_KIND, VARINT) + _INTERNAL)
    made.fixed(_START, found.start_ns[some])
    made.fixed(_END, found.end_ns[some])
    made.literal(attribute(_SPAN_ATTRIBUTES, "qtctl.end", batch.names[event]))
    _thread(made, batch, found.row[some], _SPAN_ATTRIBUTES)
    for key, column in values.items():
        made.attribute(key, column)
    return made


def _ids(random: np.random.Generator, count: int) -> NDArray[np.uint64]:
    """Return random numbers other than 0, which would be no id."""
    return random.integers(1, np.iinfo(np.uint64).max, count, np.uint64, endpoint=True)
