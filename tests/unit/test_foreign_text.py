"""Text that other programs made of QEMU's records: read, or named with what is readable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qtctl.backends.log.printers import PRINTERS, Converter
from qtctl.errors import QtctlError
from qtctl.events.declarations import parse_declarations
from qtctl.model import Backend, Clock, Kind
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.records.event_table import EventTable
from qtctl.records.items import Item, Loss
from tests.recordings import read
from tests.samples import declarations_text

CASES = Path(__file__).parents[1] / "data/cases/saved"
V, R = 0x55AA10002000, 0x55AA10030000
MARK = f"virtio_blk_handle_read vdev {V:#x} req {R:#x} sector 2048 nsectors 8"
READ = {"vdev": V, "req": R, "sector": 2048, "nsectors": 8}
DONE = {"vdev": V, "req": R, "status": 0}
PERF, SIMPLETRACE = PRINTERS


def items_in(path: Path) -> tuple[list[Item], list[str]]:
    declared = path.with_name("trace-events-all")
    declared.write_text(declarations_text("7.2"))
    items, replay = read(path, events_all=declared, text=False)
    return items, replay.notes


def items_of(text: str, folder: Path) -> tuple[list[Item], list[str]]:
    path = folder / "text"
    path.write_text(text)
    return items_in(path)


def records_of(items: list[Item]) -> list[Record]:
    return [record for item in items if isinstance(item, Batch) for record in item.records()]


@pytest.mark.parametrize("name", ["report.txt", "report-flags.txt"])
def test_trace_cmd_report(tmp_path: Path, name: str) -> None:
    text = (CASES / "s06-trace-cmd" / name).read_text()
    records = records_of(items_of(text, tmp_path)[0])
    assert [(one.time_ns, one.clock, one.tid, one.args) for one in records] == [
        (812_100_010_000, Clock.MONOTONIC, 4711, READ),
        (812_100_110_000, Clock.MONOTONIC, 4711, DONE),
    ]
    assert {one.backend for one in records} == {Backend.FTRACE}


@pytest.mark.parametrize("word", ["tracing_mark_write", "0xffffffffa1b2c3d4"])
def test_trace_cmd_reports_losses_and_nanoseconds(tmp_path: Path, word: str) -> None:
    head = "       CPU 0/KVM-4712  [001]   812.100010123: print:                "
    items, _ = items_of(
        f"cpus=2\nCPU:1 [5 EVENTS DROPPED]\n{head}{word}: {MARK}\nCPU:0 [EVENTS DROPPED]\n",
        tmp_path,
    )
    lost, batch, unknown = items
    assert isinstance(lost, Loss)
    assert isinstance(unknown, Loss)
    assert (lost.count, unknown.count, unknown.time_ns) == (5, None, 812_100_010_123)
    [record] = records_of([batch])
    assert (record.time_ns, record.tid, record.args) == (812_100_010_123, 4712, READ)


def test_simpletrace_py(tmp_path: Path) -> None:
    text = (CASES / "s07-simpletrace-text/printed.txt").read_text()
    items, notes = items_of(text, tmp_path)
    records = records_of(items)
    assert [(one.time_ns, one.args) for one in records] == [
        (0, {"name": "bios.bin", "path": "/usr/share/bios.bin"}),
        (281_451, READ | {"sector": 2048}),
        (393_951, DONE),
        (401_051, {"json": "{}"}),
    ]
    assert {(one.clock, one.backend) for one in records} == {(Clock.MONOTONIC, Backend.SIMPLE)}
    assert "printed by simpletrace.py; times count from the first record" in notes[0]


def test_texts_of_simpletrace_py_are_bytes_of_python(tmp_path: Path) -> None:
    """As every script for Python 3 prints them (7.2 did here)."""
    text = (
        "load_file 0.000 pid=4711 name=b'it\\'s \\xff' path=b\"it's\"\n"
        "load_file 1.000 pid=4711 name=b'' path=b'a=b\\\\ c'\n"
        "load_file 1.000 pid=4711 name=bios b' path=b'x\n"
    )
    assert [one.args for one in records_of(items_of(text, tmp_path)[0])] == [
        {"name": "it's \udcff", "path": "it's"},
        {"name": "", "path": "a=b\\ c"},
        {"name": "bios b'", "path": "b'x"},
    ]


@given(st.binary(max_size=30))
def test_any_text_of_simpletrace_py_is_unquoted(text: bytes) -> None:
    line = b"load_file 0.000 pid=1 name=%b path=%b\n" % (repr(text).encode(), repr(text).encode())
    done = Converter(SIMPLETRACE).convert(line)
    assert done == b"qemu[1]: @0.000000000:load_file name=%b path=%b\n" % (text, text)


def test_what_simpletrace_py_reports_as_dropped_is_placed_by_its_time(tmp_path: Path) -> None:
    """QEMU writes the report before records that are older than it."""
    done = f"pid=1 vdev={V:#x} req={R:#x} status=0x0\n"
    text = (
        f"virtio_blk_req_complete 0.000 {done}"
        "Dropped_Event 100.000 pid=0 num_events_dropped=0x1f\n"
        f"virtio_blk_req_complete -60.000 {done}"
        f"virtio_blk_req_complete 80.000 {done}"
    )
    items, _ = items_of(text, tmp_path)
    [loss] = [one for one in items if isinstance(one, Loss)]
    place = items.index(loss)
    assert loss == Loss(Backend.SIMPLE, 31, 100_000)
    assert [one.time_ns for one in records_of(items[:place])] == [0, 40_000]
    assert [one.time_ns for one in records_of(items[place + 1 :])] == [120_000]


def test_perf_script(tmp_path: Path) -> None:
    """Lines as perf 6.1 printed them of uprobes with such arguments."""
    items, notes = items_of(
        " qemu-system-x86 15588 [000] 15430.198497: sdt_qemu:virtio_blk_handle_read: (401126) "
        f"arg1={V} arg2={R} arg3=2048 arg4=8\n"
        "       CPU 0/KVM 15588/15590 [001] 15430.198597949: sdt_qemu:virtio_blk_req_complete_1: "
        f"(401126) arg1={V} arg2={R} arg3=-5\n"
        ' qemu-system-x86 15588 [000] 15430.200000: sdt_qemu:load_file: (401126) arg1="a" arg2=7\n',
        tmp_path,
    )
    read_, done, other = records_of(items)
    assert (read_.time_ns, read_.tid, read_.args) == (15430_198_497_000, 15588, READ)
    assert (done.time_ns, done.tid) == (15430_198_597_949, 15590)
    assert done.args == {"vdev": V, "req": R, "status": -5}
    assert other.raw == 'arg1="a" arg2=7'
    assert {one.clock for one in (read_, done)} == {Clock.MONOTONIC}
    assert "printed by perf script" in notes[0]


def test_qemu_trace_stap(tmp_path: Path) -> None:
    [record] = records_of(items_of(f"4711@1700000000123456789 {MARK}\n", tmp_path)[0])
    assert (record.time_ns, record.clock) == (1_700_000_000_123_456_789, Clock.REALTIME)
    assert (record.tid, record.args) == (None, READ)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[ID: 00004711] unique: 2, opcode: INIT (26), nodeid: 0\n", "virtiofsd"),
        ("[2026-05-16T10:00:00Z INFO  virtiofsd] Waiting for vhost-user\n", "virtiofsd"),
        ("4711 brk(NULL) = 0x0000555555557000\n", "-strace"),
        (
            "[21:39:39.832592924] (+?.?????????) vm qemu:qmp_enter_query_status: { cpu_id = 1 }\n",
            "babeltrace2",
        ),
    ],
)
def test_what_cannot_be_read_is_named(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(QtctlError, match=says):
        items_of(text, tmp_path)


DECLARED = parse_declarations(declarations_text("7.2"))
NUMBERS = [
    one
    for one in DECLARED.by_name.values()
    if one.arguments and all(a.kind is not Kind.STRING for a in one.arguments)
]


@given(st.data())
def test_any_numbers_are_read_back(data: st.DataObject) -> None:
    """As simpletrace.py prints them: 64 bits, extended as C does; and perf: as declared."""
    one = data.draw(st.sampled_from(NUMBERS))
    values = [
        data.draw(st.integers(-(1 << a.bits - 1), (1 << a.bits - 1) - 1))
        if a.signed
        else data.draw(st.integers(0, (1 << a.bits) - 1))
        for a in one.arguments
    ]
    pairs = list(zip(one.arguments, values, strict=True))
    lines = {
        SIMPLETRACE: f"{one.name} 1.000 pid=7 "
        + " ".join(f"{a.name}={v % (1 << 64):#x}" for a, v in pairs),
        PERF: f" qemu 7 [000] 1.000001: sdt_qemu:{one.name}: (4011) "
        + " ".join(f"arg{n}={v}" for n, v in enumerate(values, 1)),
    }
    for printer, line in lines.items():
        table = EventTable.build(None, printer.declared(DECLARED).by_name)
        text = Converter(printer).convert(line.encode())
        begin, event = text.index(one.name.encode()) + len(one.name) + 1, table.indices[one.name]
        columns, ok = table.read(text, event, np.array([begin]), np.array([len(text)]))
        assert ok.all()
        assert [column.tolist()[0] for column in columns.values()] == values
