"""The JSON objects of schema ``qtctl/1``, as dicts with their keys in order.

``json.dumps`` of them (with its default ``ensure_ascii``) is lossless: integers of any size, and
bytes that are not UTF-8 as escaped surrogates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtctl.model import Backend, Control, Failure, Flood, GuestEvent, Mark, News
from qtctl.records.columns import Record
from qtctl.records.counts import Counts
from qtctl.records.items import Loss
from qtctl.records.origins import Origin
from qtctl.shapes import any_text, elements, flag, member, members, text, whole

SCHEMA = "qtctl/1"


def origin(one: Origin) -> dict[str, Any]:
    """Return the members of a record that say where it comes from: ``pid``, and what is known."""
    known = one._asdict()
    return {"pid": known.pop("pid"), **{k: v for k, v in known.items() if v is not None}}


def record(one: Record) -> dict[str, Any]:
    """Return the object of a record: an event, or a line of text."""
    if one.line is not None:
        return {"type": "text", "backend": str(one.backend), "line": one.line}
    result: dict[str, Any] = {
        "type": "event",
        "time_ns": one.time_ns,
        "clock": str(one.clock),
        **origin(one.origin),
        "tid": one.tid,
        "backend": str(one.backend),
        "name": one.name,
        "args": one.args,
    }
    if one.raw is not None:
        result["raw"] = one.raw
    if one.cut:
        result["cut"] = True
    return result


def to_object(item: Loss | News) -> dict[str, Any]:
    """Return the object of a loss or news."""
    result = _object(item)
    if result.get("guest") is None:
        result.pop("guest", None)
    return result


def _object(item: Loss | News) -> dict[str, Any]:
    result: dict[str, Any]
    match item:
        case Loss(backend, count, time_ns, file, guest):
            result = {"type": "loss", "backend": str(backend), "count": count, "time_ns": time_ns}
            return {**result, "guest": guest} if file is None else {**result, "file": file}
        case GuestEvent(name, data, time_ns, guest):
            result = {"type": "guest", "event": name, "data": dict(data), "time_ns": time_ns}
            return {**result, "guest": guest}
        case Mark():
            return {"type": "mark", **item._asdict()}
        case Control():
            result = {
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
        case Failure():
            return {"type": "error", **item._asdict()}


def from_object(data: dict[str, Any]) -> Loss | News | None:
    """Return the loss or news of an object (see :func:`to_object`); None for an unknown type.

    Raises:
        Malformed: a member is missing, or of another type.
        ValueError: no backend can have that name.
    """

    def whole_of(name: str) -> int:
        return whole(member(data, name), name, 0)

    def text_of(name: str) -> str:
        return any_text(member(data, name), name)

    def texts_of(name: str) -> tuple[str, ...]:
        return tuple(any_text(one, name) for one in elements(member(data, name), name))

    time_ns = whole(data.get("time_ns", 0), "time_ns")
    guest = text_of("guest") if "guest" in data else None
    match member(data, "type"):
        case "loss":
            count = None if member(data, "count") is None else whole_of("count")
            file = text_of("file") if "file" in data else None
            return Loss(Backend(text_of("backend")), count, time_ns, file, guest)
        case "guest":
            told = members(member(data, "data"), "data")
            return GuestEvent(text_of("event"), told, time_ns, guest)
        case "mark":
            return Mark(text_of("text"), time_ns, guest)
        case "control":
            patterns = texts_of("patterns")
            return Control(text_of("action"), patterns, whole_of("changed"), time_ns, guest=guest)
        case "flood":
            rows = [members(one, "loudest") for one in elements(member(data, "loudest"), "loudest")]
            loudest = tuple(
                (text(member(row, "name"), "name"), whole(member(row, "per_s"), "per_s", 0))
                for row in rows
            )
            patterns = texts_of("patterns")
            size = whole(data.get("bytes_per_s", 0), "bytes_per_s", 0)
            guarded = flag(member(data, "guarded"), "guarded")
            return Flood(whole_of("per_s"), size, loudest, patterns, guarded, time_ns, guest)
        case "error":
            code = whole_of("exit_code")
            return Failure(text_of("message"), text_of("hint"), code, time_ns, guest)
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
    """Return the object that ends a stream; ``read`` is ``shown`` + ``filtered``.

    Those of ``own`` and ``perhaps_own`` are there that are not 0, ``declarations`` if
    files were read, ``guests`` if several were followed.
    """
    each = [{"guest": name, **_own_sums(own)} for name, own in counts.guests]
    guests = {"guests": each} if each else {}
    return {"type": "summary", **_own_sums(counts), **guests, **declarations(counts)}


def _own_sums(counts: Counts) -> dict[str, int]:
    numbers = {name: getattr(counts, name) for name in ("read", "shown", "filtered")}
    return {**numbers, **losses(counts), **rare(counts)}


def losses(counts: Counts) -> dict[str, int]:
    """Return what a stream missed: a number, losses of unknown size, and unread lines of files."""
    return {name: getattr(counts, name) for name in ("unread", "lost", "unknown_losses")}


def rare(counts: Counts) -> dict[str, int]:
    """Return those of ``own`` and ``perhaps_own`` that are not 0."""
    found = {name: getattr(counts, name) for name in ("own", "perhaps_own")}
    return {name: number for name, number in found.items() if number}


def declarations(counts: Counts) -> dict[str, Any]:
    """Return the member that says which declarations files were read with; none for a guest."""
    used = [one._asdict() for one in counts.declared]
    return {"declarations": used} if used else {}
