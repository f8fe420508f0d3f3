"""Saved text from public reports (``tests/data/cases/saved``): the right records and times."""

from __future__ import annotations

import base64
import gzip
import json
import quopri
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from qtctl.model import Clock
from qtctl.records.batch import Batch
from qtctl.records.columns import Record
from qtctl.session.replay import Replay
from tests.recordings import read
from tests.running import Qtctl
from tests.samples import declarations_text

CASES = Path(__file__).parents[1] / "data/cases/saved"
V, R = 0x55AA10002000, 0x55AA10030000
US = 1000
BASE_NS = 1_700_000_000 * 10**9
READ = f"virtio_blk_handle_read vdev {V:#x} req {R:#x} sector 2048 nsectors 8"
DONE = f"virtio_blk_req_complete vdev {V:#x} req {R:#x} status 0"
OWN = "4711@1700000000.000001:"
Found = tuple[list[Record], Replay]


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    path = tmp_path / "trace-events-all"
    path.write_text(declarations_text("7.2"))
    return path


def found_in(path: Path, declared: Path, *, text: bool = False) -> Found:
    items, replay = read(path, events_all=declared, text=text)
    batches = [item for item in items if isinstance(item, Batch)]
    return [record for batch in batches for record in batch.records()], replay


def found(data: str | bytes, declared: Path, *, text: bool = False) -> Found:
    path = declared.with_name("saved.log")
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return found_in(path, declared, text=text)


def test_carriage_returns_are_no_part_of_a_value(declared: Path) -> None:
    records, _ = found_in(CASES / "s01-crlf/windows.log", declared)
    assert [list(record.args.values()) for record in records] == [
        [V, R, 2048, 8],
        [V, R, 0],
        [V, 15],
        [V, 1],
        ["bios.bin", "C:/qemu/bios.bin"],
    ]


def test_each_line_has_its_own_fraction(declared: Path) -> None:
    records, _ = found_in(CASES / "s02-go-times/cri.log", declared)
    assert len(records) == 400
    assert {record.clock for record in records} == {Clock.REALTIME}
    times = [record.time_ns for record in records]
    spans = [end - start for start, end in pairwise(times)][::2]
    assert (min(spans) >= 50 * US, max(spans) <= 200 * US) == (True, True)
    records, _ = found_in(CASES / "s02-go-times/whole-second-first.log", declared)
    first = records[0].time_ns
    assert [(r.time_ns - first) // 10**6 for r in records] == [0, 250, 500, 875]


@pytest.mark.parametrize(
    ("name", "times_us", "tids"),
    [
        ("iso.log", [0, 659286, 659286, 659286, None, None], {None}),
        ("iso-prefixed.log", [0, 659286], {None}),
        ("prefix-mixed.log", [s * 10**6 for s in (0, 0, 1, 1, 2, 2, 3, 3)], {None}),
        ("prefix-v5-default.log", [None] * 18, {1168876, 1168880, 1168881}),
    ],
)
def test_prefixes_differ_from_line_to_line(
    declared: Path, name: str, times_us: list[int | None], tids: set[int | None]
) -> None:
    records, replay = found_in(CASES / name, declared)
    known = [r.time_ns if r.clock == Clock.REALTIME else None for r in records]
    base = min((time // 10**9 for time in known if time is not None), default=0) * 10**9
    assert [None if t is None else (t - base) // US for t in known] == times_us
    assert {record.tid for record in records} == tids
    assert replay.counts.unread == 0


def test_words_before_qemus_own_prefix_are_text(declared: Path) -> None:
    records, _ = found_in(CASES / "s04-glued/nographic.log", declared, text=True)
    assert [(r.time_ns - BASE_NS) // US for r in records if r.name] == [1, 101, 300, 400]
    assert records[0].line == "Booting from Hard Disk..."


def test_indented_lines_are_records(declared: Path) -> None:
    records, replay = found_in(CASES / "s03-indent/mail.txt", declared)
    assert ("pci_nvme_admin_cmd", 77, 5) in [
        (r.name, r.args.get("cid"), r.args.get("opcode")) for r in records
    ]
    assert replay.counts.unread == 0


def test_a_cut_line_is_raw_and_unread(declared: Path) -> None:
    records, replay = found_in(CASES / "s05-cut/diskfull.log", declared)
    assert (records[-1].args, (records[-1].raw or "")[-10:]) == ({}, "nsectors 1")
    assert (replay.counts.unread, len(replay.unread_lines)) == (1, 1)
    records, replay = found_in(CASES / "s05-cut/wrapped.txt", declared)
    assert [record.args for record in records] == [{}, {}, {}]
    assert replay.counts.unread == 3


@pytest.mark.parametrize("name", ["in_asm.log.gz", "journal-b.txt.gz"])
@pytest.mark.parametrize("given", [True, False])
def test_the_first_record_may_come_late(declared: Path, name: str, given: bool) -> None:
    if not given and not Path("/usr/share/qemu/trace-events-all").exists():
        pytest.skip("needs an installed QEMU's trace-events-all")
    path = declared.with_name("late.log")
    path.write_bytes(gzip.decompress((CASES / "s12-late" / name).read_bytes()))
    items, _ = read(path, events_all=declared if given else None, text=False)
    assert sum(len(item) for item in items if isinstance(item, Batch)) == 100


HEADS = {
    "qemu.log:12:4711@1700000000.000001:": (1000, 4711),
    "12:2023-11-14T22:13:20.000001Z ": (1000, None),
    "> > 4711@1700000000.000001:": (1000, 4711),
    ">4711@1700000000.000001:": (1000, 4711),
    "\t4711@1700000000.000001:": (1000, 4711),
    "\x1b[32m4711@1700000000.000001:": (1000, 4711),
    "<30>1 2023-11-14T22:13:20.000001+00:00 host qemu-system-x86_64 4711 - - ": (1000, None),
    '<30>1 2023-11-14T22:13:20.000001Z h qemu 4711 ID [a@1 b="c] d"][x] ': (1000, None),
    "Tue 2023-11-14 22:13:20.000001 UTC host qemu[4711]: ": (1000, None),
    "2023-11-14T22:13:20.000001+0000 host qemu[4711]: ": (1000, None),
    "2023-11-15T03:58:20,000001234+05:45 host qemu: ": (1234, None),
    "1700000000.000001 host qemu-system-x86_64[4711]: ": (1000, None),
    "[12345.678901] host qemu[4711]: ": (None, None),
    "2023-11-14T22:13:20.000001234Z stderr F ": (1234, None),
    "2023-11-14T22:13:20.0000012Z ": (1200, None),
    "2023-11-14T22:13:20.000001Z 00O ": (1000, None),
    "vm1-qemu-1  | 4711@1700000000.000001:": (1000, 4711),
    "[pod/virt-launcher-vm1/compute] 2023-11-14T22:13:20.000001Z ": (1000, None),
    "2023/11/14 22:13:20.000001Z INFO ": (1000, None),
    "2023-11-14T22:13:20.000001Z vm1 qemu-system-x86_64(CPU 0/KVM): ": (1000, None),
    "2023-11-14T22:13:20.000001Z [fish food] qemu(77:CPU 0/KVM): ": (1000, 77),
    "Nov 14 22:13:21 host qemu[1]: 4711@1700000000.000001:": (1000, 4711),
    "2023-11-14 22:13:20.000001 XYZ host qemu[1]: ": (None, None),
    "2023-13-14T22:13:20.000001Z ": (None, None),
    "2023-11-14 22:13:20.000001+0000: ": (1000, None),
    "Tue Nov 14 22:13:20 UTC 2023 ": (0, None),
    "[Tue Nov 14 22:13:20 2023] ": (0, None),
    "Tue, 14 Nov 2023 22:13:20 +0000 ": (0, None),
    "[14/Nov/2023:22:13:20 +0000] ": (0, None),
}


@pytest.mark.parametrize("head", HEADS)
def test_words_before_a_record(declared: Path, head: str) -> None:
    expected, tid = HEADS[head]
    [record, other], replay = found(f"{head}{READ}\n{DONE}\n", declared)
    assert list(record.args.values()) == [V, R, 2048, 8]
    assert other.args["status"] == 0
    assert (record.time_ns - BASE_NS if record.clock == Clock.REALTIME else None) == expected
    assert (record.tid, replay.counts.unread) == (tid, 0)


@pytest.mark.parametrize(
    ("head", "time"),
    [
        ("I1114 22:13:20.000001   12345 main.go:123] ", "%m%d %H:%M:%S"),
        ("W1114 22:13:20.000001 ", "%m%d %H:%M:%S"),
    ],
)
def test_times_of_klog_have_no_year(declared: Path, head: str, time: str) -> None:
    [record], replay = found(f"{head}{READ}\n", declared)
    local = datetime.fromtimestamp(record.time_ns // 10**9)
    assert (local.month, local.day, local.hour, local.second) == (11, 14, 22, 20)
    assert local <= datetime.now() + timedelta(days=1)
    assert (record.clock, record.time_ns % 10**9, replay.counts.unread) == ("realtime", 1000, 0)


def test_what_was_always_read_is_read(declared: Path) -> None:
    """Heads and records of a guide, a mail and macOS (s15)."""
    folder = CASES / "s15-works"
    names = [
        [record.name for record in found_in(folder / name, declared)[0]]
        for name in ("macos.log", "qtest.log", "vfio.log")
    ]
    assert names == [
        ["virtio_set_status", "virtio_mmio_read", "virtio_queue_notify"],
        ["virtio_set_status", "usb_xhci_fetch_trb"],
        ["vfio_region_write", "vfio_region_read", "vfio_pci_read_config"],
    ]
    for name in ("macos.log", "qtest.log", "vfio.log"):
        records, replay = found_in(folder / name, declared)
        assert [r.raw for r in records] == [None] * len(records), name
        assert replay.counts.unread == 0


def test_a_known_name_in_a_sentence_is_no_record(declared: Path) -> None:
    text = f"{READ}\nI see virtio_blk_handle_read here\n$ qemu -trace virtio_blk_handle_read\n"
    records, replay = found(text, declared)
    assert (len(records), replay.counts.unread, replay.counts.filtered) == (1, 0, 2)


@pytest.mark.parametrize(
    "line", ["virtio_blk_handle_read vdev 0x1 req", f'"x","{OWN}{READ}"', f"vm({READ}"]
)
def test_what_could_not_be_read_is_counted(declared: Path, line: str) -> None:
    _, replay = found(f"{READ}\n{line}\n", declared)
    assert replay.counts.unread == 1
    assert replay.unread_lines == (line,) or line.startswith('"')


def test_the_event_behind_an_unknown_one_is_its_text(declared: Path) -> None:
    records, replay = found(f"{READ}\n{OWN}new_event text {READ}\n", declared)
    assert len(records) == 1
    assert replay.counts.unread == 1


def test_colours_beside_a_name_are_left_out(declared: Path) -> None:
    name, arguments = READ.split(" ", 1)
    [one, two], _ = found(
        f"\x1b[01;31m\x1b[K{name}\x1b[m\x1b[K {arguments}\n\x1b[32m{READ}\x1b[0m\n", declared
    )
    assert one.args == two.args != {}


@pytest.mark.parametrize("verb", ["replay FILE", "diff FILE FILE", "query SELECT FILE"])
def test_unread_is_told_and_strict_about(
    qtctl: Qtctl, declared: Path, tmp_path: Path, verb: str
) -> None:
    path = tmp_path / "saved.log"
    path.write_text(f"{READ}\n" + "virtio_blk_handle_read cut\n" * 5)
    words = [{"FILE": str(path), "SELECT": "FROM events"}.get(w, w) for w in verb.split()]
    assert qtctl(*words, "--events-all", str(declared)).code == 0
    ran = qtctl(*words, "--events-all", str(declared), "--strict")
    assert ran.code == 6
    if verb.startswith("diff"):
        assert ran.err.count("virtio_blk_handle_read cut") == 6
        return
    assert ran.err.count("virtio_blk_handle_read cut") == 3
    assert "5 unread" in ran.err


LATER = "2023-11-14T22:13:21Z"
DOCKER = {"stream": "stderr", "time": "2023-11-14T22:13:20.000001Z"}
JOURNAL = {"MESSAGE": READ, "__REALTIME_TIMESTAMP": "1700000000000001", "_PID": "4711"}
WRAPPED = {
    "docker": (CASES / "s08-json/docker-json-file.log").read_bytes(),
    "kubevirt": (CASES / "s08-json/virt-launcher.log").read_bytes(),
    "bom": (CASES / "s14-utf16/bom.log").read_bytes(),
    "powershell": (CASES / "s14-utf16/powershell.log").read_bytes(),
    "big-endian": b"\xfe\xff" + f"{OWN}{READ}\r\n".encode("utf-16-be"),
    "journal": f"{json.dumps(JOURNAL)}\n".encode(),
    **{
        name: f"{before}{json.dumps(fields)}\n".encode()
        for name, before, fields in (
            ("ecs", "", {"@timestamp": "2023-11-14T22:13:20.000001Z", "message": READ}),
            ("gelf", "", {"short_message": READ, "timestamp": 1700000000.000001}),
            ("micros", "", {"line": READ, "ts": 1700000000000001}),
            (
                "behind-cri",
                "2023-11-14T22:13:21Z stderr F ",
                {"msg": READ, "ts": "1700000000.000001"},
            ),
            ("kubevirt-in-docker", "", {**DOCKER, "log": json.dumps({"msg": READ}) + "\n"}),
            ("behind-text", "starting\n", {"msg": READ, "timestamp": DOCKER["time"]}),
        )
    },
}


@pytest.mark.parametrize("name", WRAPPED)
def test_text_in_other_text_is_unwrapped(declared: Path, name: str) -> None:
    records, replay = found(WRAPPED[name], declared)
    assert list(records[0].args.values()) == [V, R, 2048, 8]
    assert (records[0].clock, records[0].time_ns) == (Clock.REALTIME, BASE_NS + 1000)
    assert len(records) == (2 if name in ("docker", "bom", "powershell") else 1)
    assert replay.counts.unread == 0


CRI = "2023-11-14T22:13:20.000001{n:03}Z stderr "
MAIL = (
    'Subject: x\nContent-Type: multipart/mixed; boundary="{b}"\n\n--{b}\n'
    "Content-Transfer-Encoding: {e}\n\n{t}\n--{b}--\n"
)
LONG = "virtio_blk_req_complete vdev 0x1 req 0x2 status 0" + " " * (1 << 14)


def mail(encoding: str, body: bytes) -> str:
    coded = quopri.encodestring(body) if encoding[0] == "q" else base64.encodebytes(body)
    return MAIL.format(b="-" * 14 + "AB1", e=encoding, t=coded.decode())


DIVIDED = {
    "cri": f"{CRI.format(n=1)}P {READ[:30]}\n{CRI.format(n=2)}P {READ[30:50]}\n"
    f"{CRI.format(n=3)}F {READ[50:]}\n",
    "gitlab": f"2023-11-14T22:13:20.000001Z 00E {READ[:50]}\n"
    f"2023-11-14T22:13:21.0Z 00E+{READ[50:]}\n",
    "docker": "".join(
        json.dumps({"log": text, **DOCKER}) + "\n"
        for text in ("." * (1 << 14), f" {READ[:9]}", f"{READ}\n")
    ),
    "quoted-printable": mail("quoted-printable", f"{'-' * 16}\nIN: =\n{OWN}{READ}\n".encode()),
    "base64": mail("base64", f"{OWN}{READ}\n".encode()),
}


@pytest.mark.parametrize("name", DIVIDED)
def test_divided_lines_are_joined(declared: Path, name: str) -> None:
    records, replay = found(DIVIDED[name], declared)
    assert [list(record.args.values()) for record in records] == [[V, R, 2048, 8]]
    assert replay.counts.unread == 0
    assert records[0].time_ns - BASE_NS in (1000, 1001)


def test_a_part_without_its_rest_is_cut(declared: Path) -> None:
    [record], replay = found(f"{CRI.format(n=1)}P {READ[:-1]}1\n", declared)
    assert (record.args, record.cut, replay.counts.unread) == ({}, True, 1)


def test_json_of_docker_is_joined_where_docker_divided_it(declared: Path) -> None:
    begun, rest = LONG[: 1 << 14], LONG[1 << 14 :]
    lines = [json.dumps({"log": text, **DOCKER}) for text in (begun, f"{rest}\n", f"{READ}\n")]
    (one, _), replay = found("\n".join(lines) + "\n", declared)
    assert (one.raw, replay.counts.unread) == (LONG[24:], 1)


@pytest.mark.parametrize("head", ["", "Nov 14 22:13:20 host qemu[7]: ", "> "])
@pytest.mark.parametrize("own", ["", OWN])
def test_a_format_of_two_lines_is_read_behind_heads(declared: Path, head: str, own: str) -> None:
    text = f"{head}{own}sh7750_porta porta changed from 0x0001 to 0x0002\n"
    text += f"{head}pdtra=0x0003, pctra=0x00000004\n"
    (first, other), replay = found(text + f"{head}{own}{READ}\n", declared)
    assert list(first.args.values()) == [1, 2, 3, 4]
    assert (other.args["nsectors"], replay.counts.unread) == (8, 0)


def test_lines_of_a_message_in_json_are_one_text(declared: Path) -> None:
    message = "handle_cmd_fis_dump ahci(0x1)[5]: FIS:\n0x00: 27"
    lines = [json.dumps({**JOURNAL, "MESSAGE": text}) for text in (message, READ)]
    records, _ = found("\n".join(lines) + "\n", declared)
    assert [(r.name, r.cut) for r in records] == [
        ("handle_cmd_fis_dump", True),
        ("virtio_blk_handle_read", False),
    ]
    [record], _ = found(json.dumps({**JOURNAL, "MESSAGE": list(READ.encode())}) + "\n", declared)
    assert list(record.args.values()) == [V, R, 2048, 8]


def test_a_file_of_cut_records_only_is_a_log() -> None:
    if not Path("/usr/share/qemu/trace-events-all").exists():
        pytest.skip("needs an installed QEMU's trace-events-all")
    items, replay = read(CASES.parent / "backends/newline.log", text=False)
    [record] = [one for item in items if isinstance(item, Batch) for one in item.records()]
    assert (record.name, record.cut, replay.counts.unread) == ("handle_cmd_fis_dump", True, 1)
