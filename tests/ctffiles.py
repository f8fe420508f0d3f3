"""Traces in the Common Trace Format, made by hand as LTTng makes them."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from qtctl.backends.ust.layout import TraceLayout
from qtctl.backends.ust.metadata import parse_metadata
from qtctl.model import Kind
from qtctl.records.event_table import EventTable
from tests.samples import DATA

UUID = bytes(range(16))
OFFSET_NS = 1_795_380_299_905_669_342
VPID, VTID = 24667, 24668

_HEAD = """/* CTF 1.8 */
typealias integer { size = 8; align = 8; signed = false; } := uint8_t;
typealias integer { size = 32; align = 8; signed = false; } := uint32_t;
typealias integer { size = 64; align = 8; signed = false; } := uint64_t;
typealias integer { size = 64; align = 8; signed = false; } := unsigned long;
typealias integer { size = 5; align = 1; signed = false; } := uint5_t;
trace {
	major = 1; minor = 8;
	uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f";
	byte_order = %s;
	packet.header := struct {
		uint32_t magic;
		uint8_t  uuid[16];
		uint32_t stream_id;
		uint64_t stream_instance_id;
	};
};
env {
	domain = "ust";
	tracer_name = "lttng-ust";
	tracer_major = 2;
};
clock {
	name = "monotonic";
	freq = 1000000000; /* Frequency, in Hz */
	offset = 1795380299905669342;
};
typealias integer { size = 27; align = 1; signed = false; map = clock.monotonic.value; } := u27_t;
typealias integer { size = 64; align = 8; signed = false; map = clock.monotonic.value; } := u64_t;
struct packet_context {
	u64_t timestamp_begin;
	u64_t timestamp_end;
	uint64_t content_size;
	uint64_t packet_size;
	uint64_t packet_seq_num;
	unsigned long events_discarded;
	uint32_t cpu_id;
};
struct event_header_compact {
	enum : uint5_t { compact = 0 ... 30, extended = 31 } id;
	variant <id> {
		struct {
			u27_t timestamp;
		} compact;
		struct {
			uint32_t id;
			u64_t timestamp;
		} extended;
	} v;
} align(8);
stream {
	id = 0;
	event.header := struct event_header_compact;
	packet.context := struct packet_context;
%s};
"""
NUMBER = "integer { size = %d; align = 8; signed = %d; encoding = none; base = %d; } _%s;"
CONTEXTS = NUMBER % (32, 1, 10, "vpid") + NUMBER % (32, 1, 10, "vtid")


def event_text(number: int, name: str, fields: Iterable[str], extra: str = "") -> str:
    """Return an event's metadata."""
    inside = "".join(f"\t\t{field}\n" for field in fields)
    return (
        f'event {{\n\tname = "{name}";\n\tid = {number};\n\tstream_id = 0;\n\tloglevel = 13;\n'
        f"{extra}\tfields := struct {{\n{inside}\t}};\n}};\n\n"
    )


def metadata(events: str = "", *, contexts: str = CONTEXTS, order: str = "le") -> str:
    """Return the metadata of a trace with one channel."""
    context = f"\tevent.context := struct {{ {contexts} }};\n" if contexts else ""
    return _HEAD % (order, context) + events


def table_text(table: EventTable) -> str:
    """Return the metadata of a table's events, numbered as there; ``undeclared`` has one field."""
    made = []
    for number, name in enumerate(table.names):
        declaration = table.declaration(number)
        fields = [NUMBER % (64, 0, 10, "some")]
        if declaration is not None:
            fields = [
                f"string _{one.name};"
                if one.kind is Kind.STRING
                else NUMBER % (one.bits, one.signed, 10, one.name)
                for one in declaration.arguments
            ]
        made.append(event_text(number, f"qemu:{name}", fields))
    return metadata("".join(made))


@cache
def layout(table: EventTable, text: str = "") -> TraceLayout:
    """Return how a trace of the events of a table is read."""
    return TraceLayout(parse_metadata((text or table_text(table)).encode()), table)


def record(
    number: int, cycles: int, fields: bytes = b"", vtid: int = VTID, vpid: int = VPID
) -> bytes:
    """Return a record, in the compact form where its number allows that."""
    head = struct.pack("<BIQ", 31, number, cycles)
    if number < 31:
        head = struct.pack("<I", number | (cycles & 0x7FFFFFF) << 5)
    return head + struct.pack("<ii", vpid, vtid) + fields


def packet(
    *records: bytes,
    first: int = 0,
    last: int = 1 << 20,
    sequence: int = 0,
    discarded: int = 0,
    size: int = 0,
    instance: int = 0,
) -> bytes:
    """Return a packet; ``size`` is at least that of what it holds."""
    inside = b"".join(records)
    content = 84 + len(inside)
    size = max(size, content)
    head = struct.pack("<I16sIQ", 0xC1FC1FC1, UUID, 0, instance)
    head += struct.pack("<QQQQQQI", first, last, content * 8, size * 8, sequence, discarded, 0)
    return (head + inside).ljust(size, b"\0")


def write(folder: Path, text: str, *streams: bytes) -> Path:
    """Write a trace."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata").write_text(text)
    for number, data in enumerate(streams):
        (folder / f"channel0_{number}").write_bytes(data)
    return folder


def unpack(name: str, folder: Path) -> Path:
    """Unpack a captured trace into a folder."""
    with tarfile.open(fileobj=io.BytesIO((DATA / name).read_bytes())) as archive:
        # Debian's Python 3.11.2 has no filters, and 3.12 warns of an archive without one.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)
    return folder
