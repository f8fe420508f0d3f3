"""Parse the metadata of a CTF 2 trace: fragments of JSON, as LTTng 2.16 writes them by itself.

Source: The Common Trace Format 2.0, sections 5 and 6. Fields that have a role in reading packets
get the names that CTF 1.8 has for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qtctl.backends.ust.ctf import (
    DEEPEST,
    CtfArray,
    CtfNumber,
    CtfRanges,
    CtfStruct,
    CtfText,
    CtfType,
    CtfVariant,
    EventClass,
    StreamClass,
    TraceClock,
    TraceMetadata,
)
from qtctl.shapes import elements, member, members, pair, parsed, text, whole

BEGIN = "\x1e"
"""Stands before each fragment."""
_ROLES = {
    "packet-magic-number": "magic",
    "metadata-stream-uuid": "uuid",
    "data-stream-class-id": "stream_id",
    "data-stream-id": "stream_instance_id",
    "packet-content-length": "content_size",
    "packet-total-length": "packet_size",
    "packet-end-default-clock-timestamp": "timestamp_end",
    "packet-sequence-number": "packet_seq_num",
    "discarded-event-record-counter-snapshot": "events_discarded",
    "event-record-class-id": "id",
}
_TIME = "default-clock-timestamp"
_NUMBER = "fixed-length-"
_BYTE = CtfNumber(8, align=8)
_MOST = (1 << 63) - 1


def parse_json(source: str) -> TraceMetadata:
    """Parse metadata.

    Raises:
        ValueError: they are malformed.
    """
    reading = _Reading()
    for fragment in source.split(BEGIN):
        if fragment.strip():
            reading.add(members(parsed(fragment), "a fragment of metadata"))
    return reading.trace()


class _Reading:
    """Collects fragments, which may refer to those before."""

    def __init__(self) -> None:
        self._uuid = b""
        self._header: CtfType | None = None
        self._big = False
        self._streams: dict[int, StreamClass] = {}
        self._events: list[EventClass] = []
        self._clocks: dict[str, TraceClock] = {}
        self._environment: dict[str, str | int] = {}
        self._aliases: dict[str, CtfType] = {}
        self._clock = ""

    def trace(self) -> TraceMetadata:
        """Return what was collected."""
        return TraceMetadata(
            self._uuid,
            self._big,
            self._header,
            self._streams,
            tuple(self._events),
            self._clocks,
            self._environment,
        )

    def add(self, one: dict[str, Any]) -> None:
        """Add a fragment; one of an unknown type is passed over."""
        match one.get("type"):
            case "preamble":
                self._uuid = bytes(elements(one.get("uuid", []), "a uuid"))
            case "trace-class":
                self._header = self._optional(one, "packet-header-field-class")
                for name, value in members(one.get("environment", {}), "an environment").items():
                    if isinstance(value, str | int):
                        self._environment[name] = value
                first = self._header.fields[:1] if isinstance(self._header, CtfStruct) else ()
                self._big = any(isinstance(kind, CtfNumber) and kind.big for _, kind in first)
            case "clock-class":
                self._add_clock(one)
            case "data-stream-class":
                named = one.get("default-clock-class-name", "")
                self._clock = str(one.get("default-clock-class-id", named))
                self._streams[whole(one.get("id", 0), "the id of a stream", 0)] = StreamClass(
                    self._optional(one, "packet-context-field-class"),
                    self._optional(one, "event-record-header-field-class"),
                    self._optional(one, "event-record-common-context-field-class"),
                )
            case "event-record-class":
                self._add_event(one)
            case "field-class-alias":
                name = text(member(one, "name"), "the name of an alias")
                self._aliases[name] = self._type(member(one, "field-class"), 0)

    def _add_clock(self, one: dict[str, Any]) -> None:
        offset = members(one.get("offset-from-origin", {}), "an offset")
        name = text(one.get("id", one.get("name", "")), "the id of a clock")
        self._clocks[name] = TraceClock.checked(
            whole(member(one, "frequency"), "a frequency"),
            whole(offset.get("seconds", 0), "seconds"),
            whole(offset.get("cycles", 0), "cycles"),
        )

    def _add_event(self, one: dict[str, Any]) -> None:
        fields = self._optional(one, "payload-field-class") or CtfStruct(())
        if not isinstance(fields, CtfStruct):
            raise ValueError("an event whose fields are no structure")
        self._events.append(
            EventClass(
                text(one.get("name", ""), "the name of an event"),
                whole(one.get("id", 0), "the id of an event", 0),
                whole(one.get("data-stream-class-id", 0), "the id of a stream", 0),
                self._optional(one, "specific-context-field-class"),
                fields,
            )
        )

    def _optional(self, one: Mapping[str, Any], name: str) -> CtfType | None:
        return self._type(one[name], 0) if name in one else None

    def _type(self, value: object, depth: int) -> CtfType:
        """Return a field class as a type."""
        if depth > DEEPEST:
            raise ValueError("types nested too deep")
        if isinstance(value, str):
            if value not in self._aliases:
                raise ValueError(f"the type {value!r} is not known")
            return self._aliases[value]
        one = members(value, "a field class")
        what = text(member(one, "type"), "the type of a field class")
        match what:
            case "null-terminated-string":
                if one.get("encoding", "utf-8") != "utf-8":
                    raise ValueError(f"texts in {one['encoding']!r}")
                return CtfText()
            case "static-length-string" | "static-length-blob":
                return CtfArray(_BYTE, whole(member(one, "length"), "a length", 0))
            case "dynamic-length-string" | "dynamic-length-blob":
                return CtfArray(_BYTE, _location(member(one, "length-field-location")))
            case "static-length-array":
                element = self._type(member(one, "element-field-class"), depth + 1)
                return CtfArray(element, whole(member(one, "length"), "a length", 0))
            case "dynamic-length-array":
                element = self._type(member(one, "element-field-class"), depth + 1)
                return CtfArray(element, _location(member(one, "length-field-location")))
            case "structure":
                fields = [
                    self._member(field, depth)
                    for field in elements(one.get("member-classes", []), "members")
                ]
                return CtfStruct(tuple(fields), _align(one.get("minimum-alignment", 1)))
            case "variant" | "optional":
                return self._choice(one, what, depth)
        if not what.startswith(_NUMBER):
            raise ValueError(f"fields of type {what!r} cannot be read")
        return self._number(one, what)

    def _member(self, value: object, depth: int) -> tuple[str, CtfType]:
        """Return a field of a structure; its role decides what it is called."""
        one = members(value, "a member")
        kind = self._type(member(one, "field-class"), depth + 1)
        name = _escaped(text(member(one, "name"), "the name of a field"))
        described = one["field-class"]
        roles = described.get("roles", ()) if isinstance(described, dict) else ()
        for role in elements(list(roles), "roles"):
            name = _ROLES.get(role, name)
            if role == _TIME and isinstance(kind, CtfNumber):
                kind = kind._replace(clock=self._clock)
                name = "timestamp_begin" if name.endswith("begin") else name
        return name, kind

    def _choice(self, one: dict[str, Any], what: str, depth: int) -> CtfVariant:
        """Return a variant; an optional field is one with nothing as its other option."""
        tag = _location(member(one, "selector-field-location"))
        if what == "optional":
            kind = self._type(member(one, "field-class"), depth + 1)
            given = one.get("selector-field-ranges")
            on = _ranges("on", given) if given is not None else (("on", 1, _MOST),)
            options: tuple[tuple[str, CtfType], ...] = (("on", kind), ("off", CtfStruct(())))
            return CtfVariant(tag, options, (*on, ("off", -_MOST - 1, _MOST)))
        made: list[tuple[str, CtfType]] = []
        ranges: list[tuple[str, int, int]] = []
        for number, value in enumerate(elements(member(one, "options"), "options")):
            option = members(value, "an option")
            made.append((str(number), self._type(member(option, "field-class"), depth + 1)))
            ranges += _ranges(str(number), member(option, "selector-field-ranges"))
        return CtfVariant(tag, tuple(made), tuple(ranges))

    def _number(self, one: dict[str, Any], what: str) -> CtfNumber:
        bits = whole(member(one, "length"), "a length", 1, 64)
        labels = members(one.get("mappings", {}), "mappings")
        return CtfNumber(
            bits,
            what == "fixed-length-signed-integer",
            _align(one.get("alignment", 1)),
            one.get("byte-order") == "big-endian",
            whole(one.get("preferred-display-base", 10), "a base", 2, 16),
            ranges=tuple(r for label in labels for r in _ranges(label, labels[label])),
            real="floating" in what,
        )


def _ranges(label: str, value: object) -> CtfRanges:
    found = []
    for one in elements(value, "ranges"):
        first, last = (
            min(whole(edge, "a number", -_MOST - 1, 2 * _MOST + 1), _MOST)
            for edge in pair(one, "a range")
        )
        found.append((label, first, last))
    return tuple(found)


def _location(value: object) -> str:
    """Return the name of the field to which a location leads."""
    path = members(value, "a location").get("path") if isinstance(value, dict) else value
    names = [one for one in elements(path, "a path") if one is not None]
    if not names:
        raise ValueError("a path that leads nowhere")
    return _escaped(text(names[-1], "the name of a field"))


def _escaped(name: str) -> str:
    """Return a name as CTF 1.8 has it, where an underscore stands before names."""
    return f"_{name}" if name.startswith("_") else name


def _align(value: object) -> int:
    align = whole(value, "an alignment", 1, 4096)
    if align & (align - 1):
        raise ValueError(f"an alignment of {align} bits")
    return align
