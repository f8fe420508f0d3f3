"""Recordings give back what was recorded: every column, byte and note, in its order."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qtctl.backends.base import Clocks
from qtctl.backends.dtrace.decoder import ProbeDecoder
from qtctl.backends.log.decoder import LogDecoder
from qtctl.backends.simple.decoder import SimpleDecoder
from qtctl.backends.syslog.decoder import SyslogDecoder
from qtctl.backends.ust.decoder import CtfDecoder
from qtctl.events.declarations import parse_declarations
from qtctl.events.selection import Selection
from qtctl.model import Backend, Control, GuestEvent, Mark
from qtctl.recordings.packing import pack, unpack
from qtctl.records.batch import Batch
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss, labelled
from qtctl.records.rows import Rows
from tests import ctffiles as ctf
from tests import printedfields
from tests import ringpages as ring
from tests.recordings import objects, read, write
from tests.samples import FORMS, capture, declarations, event_table, forms, running

NOW_NS = 1_700_000_000_000_000_000


@pytest.fixture(params=FORMS)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    with running(request.param):
        yield


I64 = st.integers(-(2**63), 2**63 - 1)
I32 = st.integers(-(2**31), 2**31 - 1)
Row = tuple[int, int, int, bool, bool, bytes]
ROW = st.tuples(
    st.integers(-1, 5000),
    I64,
    I32,
    st.booleans(),
    st.booleans(),
    st.binary(max_size=30) | st.just(b"x" * 1500),
)


def rows_of(rows: list[Row]) -> Rows:
    event, time_ns, tid, arrived, cut, texts = zip(*rows, strict=True)
    size = np.array([len(text) for text in texts], np.int64)
    # As in a batch, other bytes stand before and between.
    data = b"".join(b"." * (n % 3) + text for n, text in enumerate(texts))
    skipped = np.cumsum([n % 3 for n in range(len(texts))])
    return Rows.copied(
        np.array(event, np.int32),
        np.array(time_ns, np.int64),
        np.array(tid, np.int32),
        np.array(arrived, np.bool_),
        np.array(cut, np.bool_),
        np.cumsum(size) - size + skipped,
        size,
        data,
    )


def plain(rows: Rows) -> list[Row]:
    texts = [rows.data[a : a + n] for a, n in zip(rows.begin, rows.size, strict=True)]
    columns = (rows.event, rows.time_ns, rows.tid, rows.arrived, rows.cut)
    return list(zip(*(c.tolist() for c in columns), texts, strict=True))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(ROW, min_size=1, max_size=12), min_size=1, max_size=3))
def test_rows_come_back_as_they_were(parts: list[list[Row]]) -> None:
    whole = [row for part in parts for row in part]
    for form in forms():
        with running(form):
            joined = Rows.joined([rows_of(part) for part in parts])
            assert plain(joined) == whole
            facts, packed = pack(joined)
            facts = json.loads(json.dumps(facts))
            back, end = unpack(facts, b"before" + packed + b"behind", 6)
            assert end == 6 + len(packed)
            assert plain(back) == whole


@pytest.mark.usefixtures("kernels")
def test_what_makes_no_sense_is_refused() -> None:
    facts, packed = pack(rows_of([(3, 5, 7, False, False, b"abc"), (3, 6, 7, True, False, b"de")]))
    wrong: list[dict[str, object]] = [
        {"rows": 0},
        {"rows": 10**12},
        {"bytes": -1},
        {"bytes": 4},
        {"bytes": 6},
        {"event": [-2, 0]},
        {"event": [2**40, 0]},
        {"size": [-1, 0]},
        {"size": [2**62, 0]},
        {"size": [0, 9]},
        {"time": [0, -1]},
        {"tid": [None, 1]},
        {"tid": [[[-1]], 0]},
        {"tid": [True, 0]},
        {"tid": [7.0, 0]},
        {"tid": [7, 0, 0]},
        {"arrived": 7},
        {"first_ns": 2**70},
        {"unit_ns": "1"},
        {"rows": 2.0},
    ]
    for change in wrong:
        with pytest.raises(ValueError, match=r"\S"):
            unpack({**facts, **change}, packed, 0)
    with pytest.raises(ValueError, match="missing"):
        unpack(facts, packed[:-1], 0)


def simple_items(version: str) -> Iterator[Item]:
    decoder = SimpleDecoder(event_table(version))
    yield from decoder.feed(capture(f"qemu-{version}-simple-v4.bin"), Clocks(0))


def log_items(name: str, version: str) -> Iterator[Item]:
    decoder = LogDecoder(event_table(version), pid=4711)
    data = capture(name)
    for at in range(0, len(data), 50_000):
        yield from decoder.feed(data[at : at + 50_000], Clocks(NOW_NS + at))
    yield from decoder.flush(Clocks(NOW_NS))


_READ_FIELDS = (
    ("cpu_index", 32, 1), ("mr", 64, 0), ("addr", 64, 0), ("value", 64, 0), ("size", 32, 0)
)  # fmt: skip


def lttng_items() -> Iterator[Item]:
    """Return records of qtctl 0.1, and of a trace that has an event in another form."""
    yield printedfields.captured()
    table = event_table("7.2")
    complete, read = (
        table.indices[name] for name in ("virtio_blk_req_complete", "memory_region_ops_read")
    )
    fields = [ctf.NUMBER % (64, 0, 16, "req"), ctf.NUMBER % (16, 1, 10, "status")]
    text = ctf.event_text(complete, "qemu:virtio_blk_req_complete", fields)
    fields = [
        *(ctf.NUMBER % (bits, signed, 10, name) for name, bits, signed in _READ_FIELDS),
        "string _name;",
    ]
    text = ctf.metadata(text + ctf.event_text(read, "qemu:memory_region_ops_read", fields))
    decoder = CtfDecoder(ctf.layout(table, text), pid=1)
    arguments = struct.pack("<iQQQI", 1, 5, 0x70, 0xFF, 1) + b"rtc-\xff\0"
    records = (
        ctf.record(complete, 5, struct.pack("<Qh", 6, -1)),
        ctf.record(read, 6, arguments),
    )
    yield from decoder.feed(ctf.packet(*records, discarded=4), Clocks(NOW_NS))


def probe_items() -> Iterator[Item]:
    table = event_table("7.2")
    decoder = ProbeDecoder(table, ring.LAYOUT, ring.sites(len(table)), pid=1)
    complete, read = (
        table.indices[name] for name in ("virtio_blk_req_complete", "memory_region_ops_read")
    )
    records = (
        ring.probe(complete, 5, 6, 0),
        ring.probe(read, 1, 5, 0x70, 0xFF, 1, texts=(b"rtc-\xff",)),
        ring.probe(read, 1, 5, 0x70, 0xFF, 1, texts=(None,)),
        ring.probe(complete),
    )
    yield from decoder.feed(ring.page(*map(ring.entry, records[:2])), Clocks(NOW_NS))
    yield from decoder.feed(ring.page(*map(ring.entry, records[2:]), lost=4), Clocks(NOW_NS))


def syslog_items() -> Iterator[Item]:
    data = capture("qemu-7.2-syslog-datagrams.txt")
    yield from SyslogDecoder(event_table("7.2"), pid=30513).feed(data, Clocks(NOW_NS))


CAPTURES = {
    "simple 7.2": lambda: simple_items("7.2"),
    "simple 10.2": lambda: simple_items("10.2"),
    "log 7.2": lambda: log_items("qemu-7.2-log-timestamp.txt", "7.2"),
    "log 10.2": lambda: log_items("qemu-10.2-log-timestamp.txt", "10.2"),
    "log 11.1": lambda: log_items("qemu-11.1-log-timestamp.txt", "11.1"),
    "log mixed": lambda: log_items("qemu-7.2-log-plain-mixed-with-d-output.txt", "7.2"),
    "ust": lttng_items,
    "dtrace": probe_items,
    "syslog": syslog_items,
}


@pytest.mark.parametrize("name", CAPTURES)
def test_captures_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    version = next((v for v in ("10.2", "11.1") if v in name), "7.2")
    items = list(CAPTURES[name]())
    write(tmp_path / "a", items, declarations(version).by_name)
    back, replay = read(tmp_path / "a")
    assert not replay.problem
    expected = objects(items)
    assert objects(back) == expected
    assert replay.counts.read == sum(len(item) for item in items if isinstance(item, Batch)) > 0
    assert replay.counts.lost == sum(i.count or 0 for i in items if isinstance(i, Loss))


@pytest.mark.parametrize("version", ["7.2", "10.2"])
def test_a_recording_is_far_smaller_than_the_simple_file(version: str, tmp_path: Path) -> None:
    write(tmp_path / "a", simple_items(version), declarations(version).by_name)
    size = len(capture(f"qemu-{version}-simple-v4.bin"))
    assert (tmp_path / "a").stat().st_size < 0.06 * size


def test_notes_stay_at_their_place(tmp_path: Path) -> None:
    batches = [b for b in log_items("qemu-7.2-log-timestamp.txt", "7.2") if isinstance(b, Batch)]
    notes: list[Item] = [
        Control("enable", ("virtio_*", "-virtio_gpu*"), 61, NOW_NS),
        GuestEvent("STOP", {"a": [1, {"b": None}]}, NOW_NS + 1),
        Mark("vor dem Reset \x1b[31m \udcff", NOW_NS + 2),
        Loss(Backend.LOG, None, NOW_NS + 3),
        Loss(Backend.SIMPLE, 2**40, NOW_NS + 4),
    ]
    items = [one for pair in zip(notes, batches[:5], strict=True) for one in pair]
    write(tmp_path / "a", items, {})
    assert objects(read(tmp_path / "a")[0]) == objects(items)


def test_filters_views_and_declarations_work_as_on_other_files(tmp_path: Path) -> None:
    declared = declarations("7.2").by_name
    write(tmp_path / "a", simple_items("7.2"), declared, names=["virtio_blk_req_complete"])
    from qtctl.events.selection import Selection

    items, replay = read(
        tmp_path / "a",
        selection=Selection.of("memory_region_ops_*"),
        where="size == 1 and addr == 0x70",
        limit=3,
        text=False,
    )
    records = [r for batch in items if isinstance(batch, Batch) for r in batch.records()]
    assert len(records) == replay.counts.shown == 3
    assert all(r.args["addr"] == 0x70 for r in records)
    assert "virtio_blk_req_complete" in replay.table.names
    assert replay.table.declarations["virtio_blk_req_complete"] == declared[
        "virtio_blk_req_complete"
    ].__class__(
        "virtio_blk_req_complete",
        declared["virtio_blk_req_complete"].arguments,
        declared["virtio_blk_req_complete"].format,
    )
    assert any("vm1 (pid 4711, QEMU 7.2.22)" in note for note in replay.notes)


def test_guests_with_other_declarations_of_one_event_are_recorded_together(tmp_path: Path) -> None:
    texts = {
        "old": 'io(int n) "n %d"\nsame(int a) "a %d"\n',
        "new": 'io(const char *name, uint64_t n) "name %s n %" PRIu64\nsame(int a) "a %d"\n',
        "bare": "",
    }
    lines = {
        "old": b"io n -1\nsame a 1\n",
        "new": b"io name x n 7\nsame a 2\n",
        "bare": b"io n 5\n",
    }
    items: list[Item] = []
    for guest, text in texts.items():
        table = EventTable.build(["io", "same"], parse_declarations(text).by_name)
        decoder = LogDecoder(table)
        decoded = [*decoder.feed(lines[guest], Clocks(NOW_NS)), *decoder.flush(Clocks(NOW_NS))]
        items += [labelled(one, guest=guest) for one in decoded]
    write(
        tmp_path / "all.qtr", items, parse_declarations(texts["old"]).by_name, names=["io", "same"]
    )
    found, _ = read(tmp_path / "all.qtr")
    records = [one for item in found if isinstance(item, Batch) for one in item.records()]
    assert [(one.origin.guest, one.name, one.args, one.raw) for one in records] == [
        ("old", "io", {"n": -1}, None),
        ("old", "same", {"a": 1}, None),
        ("new", "io", {"name": "x", "n": 7}, None),
        ("new", "same", {"a": 2}, None),
        ("bare", "io", {}, "n 5"),
    ]
    found, _ = read(tmp_path / "all.qtr", selection=Selection.of("io"), where="n > 0")
    assert [len(item) for item in found if isinstance(item, Batch)] == [1]
