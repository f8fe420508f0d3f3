"""What a stream tells beside records, as objects of schema ``qtctl/1`` and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtctl.model import Backend, Control, Flood, GuestEvent, Mark, News
from qtctl.records import schema
from qtctl.records.items import Loss


def to_object(item: Loss | News) -> dict[str, Any]:
    """Return the object of a loss or of news."""
    match item:
        case Loss(backend, count, time_ns):
            return schema.loss(backend, count, time_ns)
        case GuestEvent(name, data, time_ns):
            return schema.guest(name, data, time_ns)
        case Mark(text, time_ns):
            return schema.mark(text, time_ns)
        case Control(action, patterns, changed, time_ns):
            return schema.control(action, patterns, changed, time_ns)
        case Flood(per_s, bytes_per_s, loudest, patterns, guarded, time_ns):
            return schema.flood(per_s, bytes_per_s, loudest, patterns, guarded, time_ns)


def from_object(told: Mapping[str, Any]) -> Loss | News | None:
    """Return what :func:`to_object` was given; None for a kind that is not known here.

    Raises:
        ValueError, KeyError, TypeError: it lacks something, or has it wrong.
    """
    time_ns = int(told.get("time_ns", 0))
    match told["type"]:
        case "loss":
            count = told["count"]
            return Loss(Backend(told["backend"]), None if count is None else int(count), time_ns)
        case "guest":
            return GuestEvent(str(told["event"]), dict(told["data"]), time_ns)
        case "mark":
            return Mark(str(told["text"]), time_ns)
        case "control":
            patterns = tuple(map(str, told["patterns"]))
            return Control(str(told["action"]), patterns, int(told["changed"]), time_ns)
        case "flood":
            loudest = tuple((str(one["name"]), int(one["per_s"])) for one in told["loudest"])
            patterns = tuple(map(str, told["patterns"]))
            guarded, size = bool(told["guarded"]), int(told.get("bytes_per_s", 0))
            return Flood(int(told["per_s"]), size, loudest, patterns, guarded, time_ns)
    return None
