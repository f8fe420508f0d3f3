"""The JSON objects of schema ``qtctl/1``, as dicts with their keys in order.

``json.dumps`` of them (with its default ``ensure_ascii``) is lossless: integers of any size, and
bytes that are not UTF-8 as escaped surrogates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtctl.model import Backend, Control, Flood, GuestEvent, Mark, News
from qtctl.records.columns import Record
from qtctl.records.counts import Counts
from qtctl.records.items import Loss

SCHEMA = "qtctl/1"


def record(one: Record) -> dict[str, Any]:
    """Return the object of a record: an event, or a line of text."""
    if one.line is not None:
        return {"type": "text", "backend": str(one.backend), "line": one.line}
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


def to_object(item: Loss | News) -> dict[str, Any]:
    """Return the object of a loss or news."""
    match item:
        case Loss(backend, count, time_ns):
            return {"type": "loss", "backend": str(backend), "count": count, "time_ns": time_ns}
        case GuestEvent(name, data, time_ns):
            return {"type": "guest", "event": name, "data": dict(data), "time_ns": time_ns}
        case Mark():
            return {"type": "mark", **item._asdict()}
        case Control():
            result: dict[str, Any] = {
                "type": "control",
                **item._asdict(),
                "patterns": list(item.patterns),
            }
            del result["pid"]
            return result
        case Flood():
            loudest = [{"name": name, "per_s": rate} for name, rate in item.loudest]
            fields = item._asdict() | {"loudest": loudest, "patterns": list(item.patterns)}
            return {"type": "flood", **fields}


def from_object(data: Mapping[str, Any]) -> Loss | News | None:
    """Return the loss or news of an object (see :func:`to_object`); None for an unknown type.

    Raises:
        KeyError: a key is missing.
        ValueError, TypeError: a value has the wrong type.
    """
    time_ns = int(data.get("time_ns", 0))
    match data["type"]:
        case "loss":
            count = data["count"]
            return Loss(Backend(data["backend"]), None if count is None else int(count), time_ns)
        case "guest":
            return GuestEvent(str(data["event"]), dict(data["data"]), time_ns)
        case "mark":
            return Mark(str(data["text"]), time_ns)
        case "control":
            patterns = tuple(map(str, data["patterns"]))
            return Control(str(data["action"]), patterns, int(data["changed"]), time_ns)
        case "flood":
            loudest = tuple((str(one["name"]), int(one["per_s"])) for one in data["loudest"])
            patterns = tuple(map(str, data["patterns"]))
            guarded, size = bool(data["guarded"]), int(data.get("bytes_per_s", 0))
            return Flood(int(data["per_s"]), size, loudest, patterns, guarded, time_ns)
    return None


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


def summary(counts: Counts) -> dict[str, Any]:
    """Return the object that ends a stream; ``read`` is ``shown`` + ``filtered``."""
    numbers = {name: getattr(counts, name) for name in ("read", "shown", "filtered", "lost")}
    return {"type": "summary", **numbers}
