"""Files of the simple backend: real ones, cut ones, garbled ones and hostile ones."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from qtctl.backends.base import Clocks
from qtctl.backends.simple.decoder import SimpleDecoder, read_names
from qtctl.backends.simple.forms import NATIVE, form_of
from qtctl.errors import QtctlError
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend, Clock
from qtctl.records.batch import Batch, EventTable
from qtctl.records.items import Loss
from qtctl.writers.ndjson import json_lines
from tests.samples import batches, capture, declarations
from tests.simplefiles import dropped, event, header, mapping, plainly

DECLARED = parse_declarations(
    'few(int8_t a, uint16_t b, const char *s, void *p) "%d %u %s %p"\n'
    'none(void) ""\n'
    'text(const char *one, const char *two) "%s %s"\n'
).by_name
BEGIN = header() + mapping(0, "few") + mapping(1, "none") + mapping(2, "text") + mapping(3, "odd")
NOW = 99
CLOCKS = Clocks(NOW)
FEW = event(0, 10, -5, 70000, b"hi", 2**63)
THREE = BEGIN + FEW + event(1, 20) + event(2, 30, b"", "é".encode())


def table() -> EventTable:
    return EventTable.build(["few", "none", "text", "odd"], DECLARED)


def shown(items: Sequence[Batch | Loss]) -> list[Any]:
    """Return records and losses in order, as plain values that do not depend on chunks."""
    out: list[Any] = []
    for item in items:
        if isinstance(item, Loss):
            out.append((item.count, item.time_ns))
        else:
            records = item.records()
            out += [(r.name, r.time_ns, r.pid, r.args, r.raw, r.line) for r in records]
    return out


def decoded(data: bytes, *cuts: int) -> tuple[list[Any], SimpleDecoder]:
    decoder = SimpleDecoder(table())
    out: list[Any] = []
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        out += shown(decoder.feed(data[begin:end], CLOCKS))
    out += shown(decoder.flush(CLOCKS))
    assert decoder.position == len(data)
    assert not decoder.pending_bytes
    return out, decoder


RECORDS: list[Any] = [
    ("few", 10, 4711, {"a": -5, "b": 70000 & 0xFFFF, "s": "hi", "p": 2**63}, None, None),
    ("none", 20, 4711, {}, None, None),
    ("text", 30, 4711, {"one": "", "two": "é"}, None, None),
]


@pytest.mark.parametrize(("version", "lost"), [("7.2", 0), ("10.2", 12539)])
def test_real_files_are_read_whole(version: str, lost: int) -> None:
    data = capture(f"qemu-{version}-simple-v4.bin")
    assert form_of(data, "it") == NATIVE
    names = read_names(data)
    assert len(names) > 4000
    decoder = SimpleDecoder(EventTable.build(names, declarations(version).by_name))
    items = decoder.feed(data, CLOCKS) + decoder.flush(CLOCKS)
    assert sum(item.count or 0 for item in items if isinstance(item, Loss)) == lost
    batches = [item for item in items if isinstance(item, Batch)]
    for batch in batches:
        assert (batch.clock, batch.backend) == (Clock.MONOTONIC, Backend.SIMPLE)
        assert all(batch.arguments(event).ok.all() for event in batch.groups())
    got = [(r.name, r.time_ns, r.pid) for batch in batches for r in batch.records()]
    expected = [row for row in plainly(data) if row[0] != "dropped"]
    assert got == [row[:3] for row in expected]
    assert (decoder.unread, decoder.records) == (0, len(expected))


def test_arguments_of_a_real_file_are_what_the_bytes_say() -> None:
    data = capture("qemu-7.2-simple-v4.bin")
    decoder = SimpleDecoder(EventTable.build(read_names(data), declarations("7.2").by_name))
    [batch] = decoder.feed(data, CLOCKS)
    assert isinstance(batch, Batch)
    rows = zip(batch.records(), plainly(data), strict=True)
    checked = 0
    for record, (name, _, _, arguments) in rows:
        if name == "virtio_blk_handle_read":
            assert tuple(record.args.values()) == struct.unpack("=QQQQ", arguments)
            checked += 1
    assert checked > 500


def test_three_records() -> None:
    assert decoded(THREE)[0] == RECORDS


def test_a_file_cut_at_each_byte_gives_every_whole_record() -> None:
    ends = [len(BEGIN), len(BEGIN + FEW), len(BEGIN + FEW) + 32, len(THREE)]
    for size in range(len(BEGIN), len(THREE) + 1):
        out, decoder = decoded(THREE[:size])
        whole = sum(end <= size for end in ends) - 1
        assert out[:whole] == RECORDS[:whole]
        if size in ends:
            assert (len(out), decoder.unread) == (whole, 0)
        else:
            assert out[whole:] == [(None, NOW)]
            assert (decoder.unread, decoder.first_unread) == (size - ends[whole], ends[whole])


@pytest.mark.parametrize("garbage", [b"\0" * 5000, b"\0" * 7, b"\xff" * 333, b"hello", FEW[:20]])
def test_records_behind_garbage_are_found(garbage: bytes) -> None:
    out, decoder = decoded(BEGIN + FEW + garbage + FEW + event(1, 20))
    found = [row for row in out if row[0] is not None]
    assert found[0] == RECORDS[0]
    assert found[-1] == RECORDS[1]
    assert out[1][0] is None
    assert decoder.unread > 0


def test_what_follows_a_record_that_a_full_disk_cut_is_found() -> None:
    out, decoder = decoded(BEGIN + FEW[:-3] + FEW + FEW)
    assert [row[0] for row in out] == ["few", None, "few"]
    assert decoder.unread == len(FEW) - 3


def ticks(*times_ns: int) -> bytes:
    return b"".join(event(1, time_ns) for time_ns in times_ns)


DROPS: list[tuple[bytes, list[Any]]] = [
    (dropped(12, 15) + ticks(10, 20), [10, (12, 15), 20]),
    (dropped(12, 15) + ticks(10, 15), [10, 15, (12, 15)]),
    (ticks(10) + dropped(12, 15) + ticks(20), [10, (12, 15), 20]),
    (dropped(1, 15) + dropped(2, 25) + ticks(10, 20, 30), [10, (1, 15), 20, (2, 25), 30]),
    (dropped(2, 25) + dropped(1, 15) + ticks(10, 30), [10, (1, 15), (2, 25), 30]),
    (dropped(3, 15) + ticks(10, 20, 14, 21), [10, (3, 15), 20, 14, 21]),
    (dropped(2**64 - 1, 15) + ticks(10), [10, (2**64 - 1, 15)]),
    (dropped(3, 15) + ticks(10) + header() + mapping(1, "none") + ticks(5), [10, (3, 15), 5]),
]


@pytest.mark.parametrize(("data", "order"), DROPS)
def test_drops_come_before_the_first_later_record(data: bytes, order: list[Any]) -> None:
    whole = BEGIN + data
    for cut in range(len(BEGIN), len(whole)):
        out, _ = decoded(whole, cut)
        assert [row if len(row) == 2 else row[1] for row in out] == order


def test_every_drop_of_a_real_file_is_at_the_largest_step_of_time() -> None:
    data = capture("qemu-10.2-simple-v4.bin")
    decoder = SimpleDecoder(EventTable.build(read_names(data), declarations("10.2").by_name))
    items = decoder.feed(data, CLOCKS) + decoder.flush(CLOCKS)
    losses = [at for at, item in enumerate(items) if isinstance(item, Loss)]
    assert losses
    for at in losses:
        before, after = items[at - 1], items[at + 1]
        assert isinstance(before, Batch)
        assert isinstance(after, Batch)
        step = after.time_ns[0] - before.time_ns[-1]
        assert step > max(np.diff(before.time_ns).max(), np.diff(after.time_ns).max())


def test_drops_without_a_later_record_are_released() -> None:
    decoder = SimpleDecoder(table())
    clocks = Clocks(NOW, 1000)
    assert shown(decoder.feed(BEGIN + dropped(12, 15), clocks)) == []
    assert decoder.release(clocks, 1015) == []
    assert shown(decoder.release(clocks, 1016)) == [(12, 1015)]
    assert decoder.release(clocks) == []


def test_what_contradicts_its_declaration_stays_hex() -> None:
    out, decoder = decoded(BEGIN + event(1, 20, 255) + event(2, 30, b"abc") + event(3, 40, 1))
    number = struct.pack("=Q", 255).hex()
    assert [row[4] for row in out] == [
        number,
        (struct.pack("=I", 3) + b"abc").hex(),
        struct.pack("=Q", 1).hex(),
    ]
    assert decoder.unread == 0


def test_a_text_that_qemu_may_have_cut_stays_hex_and_is_marked() -> None:
    data = BEGIN + event(2, 10, b"a" * 511, b"") + event(2, 20, b"", b"a" * 512) + event(2, 30, b"")
    [batch] = batches(SimpleDecoder(table()).feed(data, Clocks(0)))
    whole, cut, bad = batch.records()
    assert whole.args == {"one": "a" * 511, "two": ""}
    assert (cut.args, (cut.raw or "")[-4:], cut.cut) == ({}, "6161", True)
    assert (bad.args, bad.cut) == ({}, False)
    assert [json.loads(line).get("cut") for line in json_lines(batch)] == [None, True, None]


def test_numbers_without_a_name_stay_records() -> None:
    data = BEGIN + FEW + event(9, 20, 1) + mapping(9, "none") + event(9, 30)
    out, _ = decoded(data)
    assert [row[0] for row in out] == ["few", "", "none"]
    assert out[1][5] == event(9, 20, 1).hex()


def test_a_file_that_begins_anew_has_its_own_numbers_and_process() -> None:
    again = header() + mapping(0, "none") + event(0, 5, pid=1)
    out, decoder = decoded(THREE + again)
    assert out == [*RECORDS, ("none", 5, 1, {}, None, None)]
    assert decoder.unread == 0


def test_reading_from_the_middle_of_a_record() -> None:
    decoder = SimpleDecoder(table())
    decoder.preload(BEGIN + FEW, 1000)
    out = shown(decoder.feed(FEW[11:] + FEW + event(1, 20), CLOCKS) + decoder.flush(CLOCKS))
    assert out == RECORDS[:2]
    assert decoder.unread == 0


def test_what_is_skipped_is_counted() -> None:
    decoder = SimpleDecoder(table())
    decoder.feed(BEGIN + FEW[:20], CLOCKS)
    assert shown(decoder.skip(FEW[20:] + FEW * 9 + dropped(5, 1) + FEW[:7], CLOCKS))[0][0] == 10
    decoder.restart(5000)
    assert shown(decoder.feed(FEW + event(1, 20), CLOCKS)) == [(5, 1), *RECORDS[:2]]


def test_a_batch_can_be_moved_in_time() -> None:
    [batch] = SimpleDecoder(table(), clock=Clock.REALTIME).feed(THREE, Clocks(0, 1000))
    assert isinstance(batch, Batch)
    assert batch.time_ns.tolist() == [1010, 1020, 1030]
    assert not batch.arrived.any()


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (header(1), "version 1 "),
        (header(2**40), "version 1099511627776 "),
        (header()[:20], "ends in its header"),
        (b"", "is no file"),
        (b"hello " * 9, "is no file"),
    ],
)
def test_other_headers_are_refused_by_name(head: bytes, says: str) -> None:
    with pytest.raises(QtctlError, match=says):
        form_of(head, "t")
