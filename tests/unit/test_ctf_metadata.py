"""Metadata of traces, in both forms: what is understood, and what is refused."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.ust.ctf import (
    CtfNumber,
    CtfText,
    TraceMetadata,
    agrees,
    declared_events,
    members,
)
from qtctl.backends.ust.layout import TraceLayout
from qtctl.backends.ust.metadata import metadata_text, parse_metadata
from qtctl.events.declarations import parse_declarations
from qtctl.model import Declaration, Kind
from qtctl.records.event_table import EventTable
from tests import ctffiles as ctf

FIELDS = [
    ctf.NUMBER % (64, 0, 16, "dev"),
    "string _name;",
    ctf.NUMBER % (32, 1, 10, "ret"),
    ctf.NUMBER % (8, 0, 10, "flags"),
]
TEXT = ctf.metadata(ctf.event_text(0, "qemu:own_text", FIELDS) + ctf.event_text(1, "x:y", ()))
UUID = bytes(16)


def parse_one(line: str) -> Declaration:
    [declaration] = parse_declarations(line).by_name.values()
    return declaration


def packets(text: bytes, size: int, order: str) -> bytes:
    out = b""
    for at in range(0, len(text), size):
        part = text[at : at + size]
        head = struct.pack(
            order + "I16sIII5B", 0x75D11D57, UUID, 0, 8 * (37 + len(part)), 8 * (37 + size),
            0, 0, 0, 1, 8,
        )  # fmt: skip
        out += (head + part).ljust(37 + size, b"\0")
    return out


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("size", [7, 100, 1 << 20])
def test_text_is_taken_out_of_packets(size: int, order: str) -> None:
    assert metadata_text(packets(TEXT.encode(), size, order)) == TEXT.encode()
    assert metadata_text(TEXT.encode()) == TEXT.encode()


def test_a_trace_is_understood() -> None:
    trace = parse_metadata(TEXT.encode())
    assert trace.uuid == ctf.UUID
    assert trace.environment == {"domain": "ust", "tracer_name": "lttng-ust", "tracer_major": 2}
    assert trace.clocks["monotonic"].offset_ns == ctf.OFFSET_NS
    assert [name for name, _ in members(trace.streams[0].context)] == ["_vpid", "_vtid"]
    assert [one.name for one in trace.events] == ["qemu:own_text", "x:y"]
    declared = declared_events(trace)["own_text"]
    kinds = [(one.name, one.kind, one.bits, one.signed) for one in declared.arguments]
    assert kinds == [
        ("dev", Kind.POINTER, 64, False),
        ("name", Kind.STRING, 64, False),
        ("ret", Kind.INTEGER, 32, True),
        ("flags", Kind.INTEGER, 8, False),
    ]


@pytest.mark.parametrize(
    ("declared", "fits"),
    [
        ('own_text(void *dev, const char *name, int ret, uint8_t flags) "%p %s %d %u"', True),
        ('own_text(void *dev, const char *name, int ret, uint8_t flags, char left) "%p"', True),
        ('own_text(uint64_t dev, const char *name, int ret, bool flags) "%p"', True),
        ('own_text(void *dev, const char *name, int ret) "%p %s %d"', False),
        ('own_text(void *dev, void *name, int ret, uint8_t flags) "%p"', False),
        ('own_text(void *dev, const char *name, unsigned ret, uint8_t flags) "%p"', False),
        ('own_text(void *dev, const char *name, int64_t ret, uint8_t flags) "%p"', False),
    ],
)
def test_declarations_of_another_build_are_noticed(declared: str, fits: bool) -> None:
    written = declared_events(parse_metadata(TEXT.encode()))["own_text"]
    assert agrees(parse_one(declared), written) is fits


@pytest.mark.parametrize(
    "text",
    [
        "event { fields := struct { nowhere _x; }; };",
        "event { name = ",
        "event { id = x; };",
        "clock { name = a; freq = 0; };",
        "clock { name = a; freq = 1; offset = 99999999999999999999; };",
        "typealias integer { size = 65; } := a;",
        "typealias integer { size = 8; align = 3; } := a;",
        "struct { " * 40,
        'trace { uuid = "xyz"; };',
        "\x1e{",
        "\x1e[]",
        '\x1e{"type": "clock-class", "frequency": "x"}',
        '\x1e{"type": "event-record-class", "payload-field-class": "unknown"}',
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_metadata(text.encode())


def test_packets_without_sizes_are_refused() -> None:
    text = TEXT.replace("content_size", "other_size").encode()
    with pytest.raises(ValueError, match="sizes"):
        TraceLayout(parse_metadata(text), EventTable.build(["own_text"], {}))


def test_kinds_of_ctf_2() -> None:
    byte = {"type": "fixed-length-unsigned-integer", "length": 8, "alignment": 8,
            "byte-order": "little-endian"}  # fmt: skip
    fields = {
        "n": byte,
        "real": {"type": "fixed-length-floating-point-number", "length": 64, "alignment": 8},
        "text": {"type": "null-terminated-string"},
        "blob": {"type": "static-length-blob", "length": 3},
        "many": {"type": "dynamic-length-array", "element-field-class": "byte",
                 "length-field-location": {"origin": "event-record-payload", "path": ["n"]}},
        "maybe": {"type": "optional", "field-class": byte,
                  "selector-field-location": {"path": ["n"]}},
        "_under": byte,
    }  # fmt: skip
    payload = [{"name": name, "field-class": kind} for name, kind in fields.items()]
    fragments = [
        {"type": "field-class-alias", "name": "byte", "field-class": byte},
        {"type": "unheard-of"},
        {"type": "event-record-class", "name": "qemu:all",
         "payload-field-class": {"type": "structure", "member-classes": payload}},
    ]  # fmt: skip
    trace = parse_metadata("".join(f"\x1e{json.dumps(one)}\n" for one in fragments).encode())
    found = dict(trace.events[0].fields.fields)
    assert found["n"] == found["__under"] == CtfNumber(8, align=8)
    assert found["text"] == CtfText()


def complain(data: bytes) -> None:
    """Parse what may be nonsense; only a ValueError may come of it."""
    try:
        trace = parse_metadata(data)
    except ValueError:
        return
    assert isinstance(trace, TraceMetadata)
    names = [*declared_events(trace)]
    try:
        TraceLayout(trace, EventTable.build(names, {}))
    except ValueError:
        return


@given(st.binary(max_size=60), st.integers(0, 5000), st.integers(0, 5000))
def test_hostile_bytes_never_raise_anything_else(noise: bytes, at: int, cut: int) -> None:
    for data in (TEXT.encode(), packets(TEXT.encode(), 100, "<")):
        complain(data[:at] + noise + data[at + cut :])
