"""Packets of CTF: real ones against babeltrace2, and made ones with all that may be in them."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.ust.decoder import CtfDecoder
from qtctl.backends.ust.layout import TraceLayout
from qtctl.backends.ust.metadata import parse_metadata
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from qtctl.records.items import Loss
from tests import ctffiles as ctf
from tests.samples import capture, event_table, running

DECLARED = """
own_text(void *dev, const char *name, int ret) "%p %s %d"
own_nothing(void) "nothing"
own_byte(uint8_t small, int8_t signed_one, uint64_t big) "%u %d %"PRIu64
"""
TABLE = EventTable.build(None, parse_declarations(DECLARED).by_name)
TEXT, NOTHING, BYTE = range(3)
NUMBER_8 = ctf.NUMBER % (8, 0, 10, "x")


def read(
    data: bytes, layout: TraceLayout | None = None, **options: Any
) -> tuple[list[Record | Loss], CtfDecoder]:
    decoder = CtfDecoder(layout or ctf.layout(TABLE), **options)
    out: list[Record | Loss] = []
    for item in decoder.feed(data, Clocks(77)) + decoder.flush(Clocks(77)):
        out += list(item.records()) if isinstance(item, Batch) else [item]
    return out, decoder


def named(found: list[Record | Loss]) -> list[str | int | None]:
    return [one.name if isinstance(one, Record) else one.count for one in found]


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ctf.unpack("qemu-7.2-ust-ctf.tar.gz", tmp_path_factory.mktemp("captured"))
    return folder / "qemu-7.2-ust-ctf/ust/uid/0/64-bit"


def test_real_records_are_those_of_babeltrace2(captured: Path) -> None:
    """Its first 1,000 lines, both processors by time."""
    table = event_table("7.2")
    layout = TraceLayout(parse_metadata((captured / "metadata").read_bytes()), table)
    found = []
    for file in ("channel0_0", "channel0_1"):
        records, decoder = read((captured / file).read_bytes(), layout)
        assert decoder.first_bad is None
        assert all(isinstance(one, Record) and one.raw is None for one in records)
        found += [one for one in records if isinstance(one, Record)]
    found.sort(key=lambda one: one.time_ns)
    pattern = (
        r"^\[21:39:(\d\d)\.(\d{9})\] \(\S+\) vm qemu:(\w+): \{ cpu_id = \d+ \}, "
        r"\{ vpid = (\d+), vtid = (\d+), procname = [^}]*\}, \{ (.*) \}$"
    )
    printed = re.findall(pattern, capture("qemu-7.2-ust-babeltrace2.txt").decode(), re.M)
    assert len(printed) == 1000
    for one, (second, nano, name, pid, tid, fields) in zip(found, printed, strict=False):
        assert (one.name, one.pid, one.tid) == (name, int(pid), int(tid))
        assert one.time_ns % (60 * 10**9) == int(second) * 10**9 + int(nano)
        values = [
            value[1:-1] if value.startswith('"') else int(value, 0)
            for value in re.findall(r'= ("[^"]*"|[-\w]+)', fields)
        ]
        shown = [value % 2**64 if isinstance(value, int) else value for value in one.args.values()]
        assert [v % 2**64 if isinstance(v, int) else v for v in values] == shown
        assert [*one.args] == re.findall(r"(\w+) = ", fields)


def test_ctf_2_of_lttng_2_16(tmp_path: Path) -> None:
    folder = ctf.unpack("lttng-2.16-ctf2.tar.gz", tmp_path) / "lttng-2.16/ust/uid/0/64-bit"
    trace = parse_metadata((folder / "metadata").read_bytes())
    names = [one.name.removeprefix("qemu:") for one in trace.events]
    layout = TraceLayout(trace, EventTable.build(names, {}))
    found = [one for n in (0, 1) for one in read((folder / f"one_{n}_0").read_bytes(), layout)[0]]
    records = [one for one in found if isinstance(one, Record)]
    assert len(records) == len(found) == 8
    records.sort(key=lambda one: one.time_ns)
    assert [one.args["n"] for one in records[:5]] == [*range(5)]
    everything = bytes(range(1, 256)).decode("utf-8", "surrogateescape")
    assert records[5].args == {"dev": 2**64 - 1, "name": everything, "ret": -1}
    assert (records[7].name, records[7].args) == ("own_nothing", {})
    assert len({one.tid for one in records}) == 1
    assert 1795883175 < records[0].time_ns / 1e9 < 1795883176


def test_numbers_and_texts_are_as_declared() -> None:
    data = ctf.packet(
        ctf.record(BYTE, 5, struct.pack("<BbQ", 255, -128, 2**64 - 1)),
        ctf.record(TEXT, 6, struct.pack("<Q", 7) + b"x\xff\n\0" + struct.pack("<i", -1)),
        ctf.record(TEXT, 7, struct.pack("<Q", 0) + b"(null)\0" + struct.pack("<i", 1)),
        ctf.record(NOTHING, 8, vtid=-1),
    )
    found, _ = read(data)
    first, second, third, last = (one for one in found if isinstance(one, Record))
    assert first.args == {"small": 255, "signed_one": -128, "big": 2**64 - 1}
    assert (first.pid, first.tid, first.time_ns) == (ctf.VPID, ctf.VTID, ctf.OFFSET_NS + 5)
    assert second.args == {"dev": 7, "name": "x\udcff\n", "ret": -1}
    assert third.args["name"] is None
    assert (last.args, last.tid) == ({}, None)


def test_the_clock_goes_on_over_27_bits() -> None:
    times = [(1 << 27) - 1, 1 << 27, (1 << 27) + 5, (1 << 28) + 4]
    data = ctf.packet(*(ctf.record(NOTHING, time) for time in times), first=times[0])
    found, _ = read(data)
    assert [one.time_ns - ctf.OFFSET_NS for one in found] == times


def test_processes_of_one_trace() -> None:
    data = ctf.packet(*(ctf.record(NOTHING, 1, vpid=pid) for pid in (4711, 5822, 4711, -1)))
    found, _ = read(data)
    assert [one.pid for one in found if isinstance(one, Record)] == [4711, 5822, 4711, None]
    assert {one.pid for one in read(data, pid=9)[0] if isinstance(one, Record)} == {9}


def test_what_the_tracer_discarded_stands_behind_the_packet() -> None:
    one = ctf.record(NOTHING, 5)
    counts = [0, 7, 7, 3, 9]
    data = b"".join(
        ctf.packet(one, last=100 * n, sequence=n, discarded=count) for n, count in enumerate(counts)
    )
    found, _ = read(data)
    name = "own_nothing"
    assert named(found) == [name, name, 7, name, name, name, 2]
    assert found[2] == Loss(Backend.UST, 7, ctf.OFFSET_NS + 100)


def test_packets_that_are_missing_are_a_loss_of_unknown_size() -> None:
    one = ctf.record(NOTHING, 5)
    data = ctf.packet(one, sequence=4, discarded=3) + ctf.packet(one, sequence=6, discarded=5)
    found, decoder = read(data)
    assert named(found) == ["own_nothing", None, "own_nothing", 2]
    assert decoder.missing == 4
    found, _ = read(data, whole=True)
    assert named(found) == [None, "own_nothing", 3, None, "own_nothing", 2]


def test_a_packet_that_is_cut_gives_its_whole_records() -> None:
    one = ctf.record(NOTHING, 5)
    whole = ctf.packet(one, one, one, size=200)
    for cut in range(len(whole)):
        found, decoder = read(whole[:cut])
        records = max(0, min(3, (cut - 84) // len(one)))
        lacks = [None] if 0 < cut < 84 + 3 * len(one) else []
        assert named(found) == ["own_nothing"] * records + lacks, cut
        assert (decoder.first_bad is None) == (not lacks)


def test_garbage_is_a_loss_and_passed_over() -> None:
    one = ctf.packet(ctf.record(NOTHING, 5))
    two = ctf.packet(ctf.record(NOTHING, 6), sequence=1)
    found, decoder = read(one + b"garbage" * 1000 + two)
    assert named(found) == ["own_nothing", None, "own_nothing"]
    assert decoder.first_bad == len(one)
    found, _ = read(ctf.packet(ctf.record(9, 5), ctf.record(NOTHING, 5)) + two)
    assert named(found) == [None, "own_nothing"]


def test_an_event_that_is_declared_later_is_waited_for() -> None:
    early = EventTable.build(["own_text", "own_nothing", "own_byte"], TABLE.declarations)
    short = ctf.metadata(ctf.event_text(NOTHING, "qemu:own_nothing", ()))
    decoder = CtfDecoder(ctf.layout(early, short), patient=True)
    late = ctf.record(BYTE, 6, struct.pack("<BbQ", 1, 2, 3))
    data = ctf.packet(ctf.record(NOTHING, 5), late, ctf.record(NOTHING, 7))
    before = decoder.feed(data, Clocks(77))
    assert sum(len(one) for one in before if isinstance(one, Batch)) == 1
    assert decoder.waiting
    assert decoder.feed(ctf.packet(late, sequence=1), Clocks(77)) == []
    after = decoder.go_on(ctf.layout(early, ctf.table_text(early)), Clocks(77))
    names = [r.name for one in after if isinstance(one, Batch) for r in one.records()]
    assert names == ["own_byte", "own_nothing", "own_byte"]
    assert not decoder.waiting


def test_other_providers_are_passed_over_whatever_they_hold() -> None:
    """Numbers of any bits, floats, texts, arrays, sequences, structs and variants."""
    fields = [
        "integer { size = 3; align = 1; signed = 0; } _bits;",
        "floating_point { exp_dig = 11; mant_dig = 53; byte_order = le; align = 8; } _real;",
        "string _text;",
        "integer { size = 16; align = 8; signed = 0; } _pair[2];",
        "integer { size = 8; align = 8; signed = 0; } _n;",
        "integer { size = 32; align = 8; signed = 0; } _many[ _n ];",
        "struct { integer { size = 8; align = 8; } _a; string _b; } _parts[ _n ];",
        'enum : integer { size = 8; align = 8; } { "no" = 0, yes = 1 ... 5 } _tag;',
        f"variant <_tag> {{ {NUMBER_8.replace('_x', 'no')} string yes; }} _choice;",
        f"{NUMBER_8}",
    ]
    inside = b"\x05" + struct.pack("<d", 1.5) + b"text\0" + struct.pack("<HHB", 1, 2, 2)
    inside += struct.pack("<II", 3, 4) + b"\x01one\0\x02two\0" + b"\x04" + b"chosen\0" + b"\x09"
    events = ctf.event_text(7, "other:all", fields) + ctf.event_text(1, "qemu:own_nothing", ())
    layout = ctf.layout(TABLE, ctf.metadata(events))
    data = ctf.packet(ctf.record(7, 4, inside), ctf.record(NOTHING, 5), ctf.record(7, 6, inside))
    found, decoder = read(data, layout)
    assert named(found) == ["own_nothing"]
    assert decoder.first_bad is None
    with running("interpreted"):
        assert named(read(data, ctf.layout(TABLE, ctf.metadata(events)))[0]) == ["own_nothing"]


def test_a_tracepoint_without_some_arguments() -> None:
    fields = [ctf.NUMBER % (8, 0, 10, "small"), ctf.NUMBER % (64, 0, 10, "big")]
    text = ctf.metadata(ctf.event_text(BYTE, "qemu:own_byte", fields))
    data = ctf.packet(ctf.record(BYTE, 5, struct.pack("<BQ", 1, 3)))
    [record], _ = read(data, ctf.layout(TABLE, text))
    assert isinstance(record, Record)
    assert record.args == {"small": 1, "big": 3}


def test_aligned_fields_and_big_endian_numbers() -> None:
    fields = [
        ctf.NUMBER % (8, 0, 10, "small"),
        "integer { size = 64; align = 64; signed = 0; byte_order = be; } _big;",
    ]
    text = ctf.metadata(ctf.event_text(BYTE, "qemu:own_byte", fields))
    head = ctf.record(BYTE, 5)
    pad = b"\0" * (-(84 + len(head)) % 8)
    data = ctf.packet(head + pad + b"\x07" + b"\0" * 7 + struct.pack(">Q", 258))
    [record], _ = read(data, ctf.layout(TABLE, text))
    assert isinstance(record, Record)
    assert record.args == {"small": 7, "big": 258}
