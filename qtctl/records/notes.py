"""Convert losses and news to objects of schema ``qtctl/1``, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtctl.model import Backend, Control, Flood, GuestEvent, Mark, News
from qtctl.records import schema
from qtctl.records.items import Loss


def to_object(item: Loss | News) -> dict[str, Any]:
    """Return a loss or news as an object of schema ``qtctl/1``."""
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
