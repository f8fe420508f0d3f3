"""The JSON objects of schema ``qtctl/1``, as dicts with their keys in order.

``json.dumps`` of them (with its default ``ensure_ascii``) is lossless: integers of any size, and
bytes that are not UTF-8 as escaped surrogates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtctl.model import Backend
from qtctl.records.columns import Record

SCHEMA = "qtctl/1"


def record(one: Record) -> dict[str, Any]:
    """Return the object of a record: an event, or a line of text."""
    if one.line is not None:
        return text(one.backend, one.line)
    result: dict[str, Any] = {
        "type": "event",
        "time_ns": one.time_ns,
        "clock": str(one.clock),
        "pid": one.pid,
        "tid": one.tid,
        "backend": str(one.backend),
        "name": one.name,
        "args": one.args,
    }
    if one.raw is not None:
        result["raw"] = one.raw
    return result


def text(backend: Backend, line: str) -> dict[str, Any]:
    """Return the object of a line that is not an event."""
    return {"type": "text", "backend": str(backend), "line": line}


def loss(backend: Backend, count: int | None, time_ns: int) -> dict[str, Any]:
    """Return the object of a loss found at ``time_ns`` (Unix, ns); ``count`` None: unknown."""
    return {"type": "loss", "backend": str(backend), "count": count, "time_ns": time_ns}


def control(action: str, patterns: Sequence[str], changed: int, time_ns: int) -> dict[str, Any]:
    """Return the object of a switch that changed events at ``time_ns`` (Unix, ns)."""
    return {
        "type": "control",
        "action": action,
        "patterns": list(patterns),
        "changed": changed,
        "time_ns": time_ns,
    }


def flood(
    per_s: int,
    bytes_per_s: int,
    loudest: Sequence[tuple[str, int]],
    patterns: Sequence[str],
    guarded: bool,
    time_ns: int,
) -> dict[str, Any]:
    """Return the object of a flood: its rate, its loudest events, and patterns to switch off."""
    return {
        "type": "flood",
        "per_s": per_s,
        "bytes_per_s": bytes_per_s,
        "loudest": [{"name": name, "per_s": rate} for name, rate in loudest],
        "patterns": list(patterns),
        "guarded": guarded,
        "time_ns": time_ns,
    }


def mark(words: str, time_ns: int) -> dict[str, Any]:
    """Return the object of a mark that a user put into the stream at ``time_ns`` (Unix, ns)."""
    return {"type": "mark", "text": words, "time_ns": time_ns}


def guest(name: str, data: Mapping[str, Any], time_ns: int) -> dict[str, Any]:
    """Return the object of a QMP event of the guest, with its data, at ``time_ns`` (Unix, ns)."""
    return {"type": "guest", "event": name, "data": dict(data), "time_ns": time_ns}


def trigger(
    on: str, action: str, count: int, outcome: str, found: Mapping[str, Any], time_ns: int
) -> dict[str, Any]:
    """Return the object of a trigger that acted: its condition, and the record or event found."""
    return {
        "type": "trigger",
        "on": on,
        "action": action,
        "count": count,
        "outcome": outcome,
        "found": dict(found),
        "time_ns": time_ns,
    }


def summary(read: int, shown: int, filtered: int, lost: int) -> dict[str, Any]:
    """Return the object that ends a stream; ``read`` is ``shown`` + ``filtered``."""
    return {"type": "summary", "read": read, "shown": shown, "filtered": filtered, "lost": lost}
