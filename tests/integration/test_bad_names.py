"""Wrong names, filters, options and files: told before anything is switched."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.fake_qmp import FakeProcess
from tests.running import Qtctl, Running

EVENT = "virtio_blk_handle_read"


def switched(fake: FakeProcess) -> list[object]:
    """List the switching commands that the fake was sent."""
    commands = fake.tell()["commands"]
    return [call for call in commands if call["execute"] == "trace-event-set-state"]


def check(
    qtctl: Qtctl,
    fake: FakeProcess,
    rows: list[tuple[tuple[str, ...], int, tuple[str, ...]]],
    **options: Path,
) -> None:
    """Run all rows (arguments, code, what stderr names), and nothing may have been switched."""
    for start in range(0, len(rows), 2):  # a guest has one monitor, and a short queue for it
        runs: list[tuple[Running, int, tuple[str, ...]]] = [
            (qtctl.start("-t", fake.address, *args), code, parts)
            for args, code, parts in rows[start : start + 2]
        ]
        for run, code, parts in runs:
            ran = run.finish().said(code, *parts)
            objects = [json.loads(line)["type"] for line in ran.out.splitlines()]
            assert objects == (["error"] if "--json" in ran.args else []), ran
            assert len(ran.err) < 3000, ran
            bad = set(map(chr, (*range(10), *range(11, 32), *range(127, 160)))) & set(ran.err)
            assert not bad, (bad, ran)
    assert not switched(fake)
    assert not fake.tell()["enabled"]
    assert not qtctl.leases()


def test_names_that_no_event_has(qtctl: Qtctl, fake: FakeProcess) -> None:
    long = "x" * 20_000
    rows: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
        (("enable", "virtio_blk_handle_raed"), 3, ("virtio_blk_handle_raed", EVENT, fake.address)),
        (("info", "VIRTIO_BLK_HANDLE_READ"), 3, (EVENT,)),
        (("disable", "nothing_like_it_*"), 3, ("nothing_like_it_*", "qtctl list")),
        (("tail", "virtio_blk_handle_rea?"), 3, ("virtio_blk_handle_rea?",)),
        (("wait", "virtio_[bs]*"), 3, ("virtio_[bs]*",)),
        (("list", "two words"), 3, ("two words",)),
        (("enable", "esc\x1b[2J\x07\x9b"), 3, ("\\x1b[2J\\x07\\x9b",)),
        (("enable", "virtio_blk_ünïcode"), 3, ("virtio_blk_ünïcode",)),
        (("enable", "--dry-run", "nosuch"), 3, ("nosuch",)),
        (("enable", f"{EVENT}*", "--except", "*"), 3, (EVENT,)),
        (("enable", f"{EVENT}\n"), 3, ()),
        (("list", "no\udcff\udcfeutf8"), 3, ("no\\udcff\\udcfeutf8",)),
    ]
    check(qtctl, fake, rows)
    ran = qtctl("-t", fake.address, "enable", long).said(3)
    assert len(ran.err) < 1500, "a name of 20,000 bytes is not told whole"
    assert not switched(fake)


def test_patterns_that_cannot_be_right(qtctl: Qtctl, fake: FakeProcess) -> None:
    rows: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
        (("enable", ""), 2, ("an empty pattern", "qtctl list")),
        (("enable", EVENT, "  "), 2, ("an empty pattern",)),
        (("enable",), 2, ("needs a PATTERN",)),
        (("enable", "--except", EVENT), 2, ("only exclusions",)),
        (("tail", "--", f"-{EVENT}"), 2, ("only exclusions",)),
        (("enable", EVENT, "--except"), 2, ("--except needs a pattern",)),
    ]
    check(qtctl, fake, rows)
    # One pattern that takes in nothing beside one that does: told, and done.
    ran = qtctl("-t", fake.address, "enable", "--dry-run", EVENT, "nosuch_*")
    ran.said(0, "no event matches 'nosuch_*'")


def test_events_files(qtctl: Qtctl, fake: FakeProcess, folder: Path) -> None:
    def file(name: str, data: bytes) -> str:
        (folder / name).write_bytes(data)
        return str(folder / name)

    binary = file("binary", bytes(range(256)))
    two = file("two", b"# fine\n\nvirtio_blk_* virtio_scsi_*\n")
    empty = file("empty", b"# nothing\n\n")
    only = file("only", b"-virtio_*\n")
    zeros = file("zeros", b"virtio\0_blk\n")
    missing = str(folder / "missing")
    rows: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
        (("enable", "--file", binary), 2, (binary, "not a text file")),
        (("enable", "--file", two), 2, (two, "line 3", "virtio_blk_* virtio_scsi_*")),
        (("enable", "--file", zeros), 2, (zeros, "line 1")),
        (("enable", "--file", missing), 2, (missing, "No such file")),
        (("enable", "--file", str(folder)), 2, (str(folder), "directory")),
        (("enable", "--file", empty), 2, ()),
        (("tail", "--file", empty), 2, ()),
        (("enable", "--file", only), 2, ("only exclusions",)),
    ]
    check(qtctl, fake, rows)
    kind = b"\xef\xbb\xbf# a comment\r\n virtio_blk_* \r\n\r\n-virtio_blk_req*# no\r\n"
    ran = qtctl("-t", fake.address, "enable", "--file", file("kind", kind)).said(0)
    assert "matched" in ran.out
    on = fake.tell()["enabled"]
    assert EVENT in on
    assert not [name for name in on if not name.startswith("virtio_blk_")]
    assert not [name for name in on if name.startswith("virtio_blk_req")]


def test_filters_are_checked_before_anything_is_switched(
    qtctl: Qtctl, fake: FakeProcess, declared: Path
) -> None:
    rows: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
        (("--events-all", str(declared), verb, EVENT, "--where", where), 2, parts)
        for verb, where, parts in [
            ("tail", "sector ==", ()),
            ("tail", "sectr > 1", ("sectr", "sector")),
            ("wait", "nosuch == 1", ("nosuch",)),
            ("tail", "__import__('os').system('x')", ()),
            ("tail", "sector.real", ()),
            ("tail", "[x for x in y]", ()),
            ("tail", "sector > 'text'", ()),
            ("tail", "", ()),
            ("wait", "sector > 1\x1b[2J", ()),
            ("tail", "(" * 500 + "sector" + ")" * 500, ()),
            ("tail", " + ".join(["sector"] * 5_000) + " > 1", ()),
            ("tail", "sector ** sector ** 999999", ()),
        ]
    ]
    check(qtctl, fake, rows)


def test_options_that_cannot_be_right(qtctl: Qtctl, fake: FakeProcess, folder: Path) -> None:
    there = folder / "there"
    there.write_text("mine")
    nowhere = folder / "missing" / "out"
    rows: list[tuple[tuple[str, ...], int, tuple[str, ...]]] = [
        (("enabel", EVENT), 2, ("no verb 'enabel'", "qtctl enable")),
        (("\x1b[2J",), 2, ("no verb",)),
        (("list", "--nosuch"), 2, ("--nosuch", "--help")),
        (("tail", EVENT, "--duration", "0"), 2, ("duration",)),
        (("tail", EVENT, "--duration", "-1s"), 2, ()),
        (("tail", EVENT, "--duration", "soon"), 2, ("soon", "500ms")),
        (("tail", EVENT, "--duration", "nan"), 2, ("nan",)),
        (("tail", EVENT, "--duration", "9" * 400), 2, ()),
        (("wait", EVENT, "--timeout", "1e9"), 2, ("1e9",)),
        (("tail", EVENT, "--max-events", "0"), 2, ("count",)),
        (("tail", EVENT, "--max-events", "²"), 2, ("count",)),
        (("tail", EVENT, "--max-events", "9" * 5000), 2, ()),
        (("tail", EVENT, "--backend", "nosuch"), 2, ("nosuch",)),
        (("--json", "tail", EVENT), 2, ("--ndjson",)),
        (("tail", EVENT, "-o", str(there)), 2, (str(there), "overwrites no file")),
        (("tail", EVENT, "-o", str(nowhere)), 2, (str(nowhere),)),
        (("tail", EVENT, "-o", str(folder)), 2, (str(folder),)),
        (("qmp", "{"), 2, ("not JSON",)),
        (("qmp", "[" * 100_000), 2, ("not JSON",)),
        (("qmp", '{"execute": 1}'), 2, ("execute",)),
        (("qmp", '{"execute": "x", "exec-oob": "y"}'), 2, ("exec-oob",)),
        (("hmp",), 2, ("LINE",)),
    ]
    check(qtctl, fake, rows)
    assert there.read_text() == "mine"
    qtctl().said(2, "a verb is needed")


def test_a_wrong_declarations_file(qtctl: Qtctl, fake: FakeProcess, folder: Path) -> None:
    binary = folder / "binary"
    binary.write_bytes(os.urandom(4096) + b"\xff")
    odd = folder / "odd"
    odd.write_text("not a declaration\nx(\n\x00\n" + "y" * 1_000_000 + "\n")
    for path in (binary, folder, folder / "missing"):
        tail = ("--events-all", str(path), "tail", EVENT, "--duration", "50ms")
        qtctl("-t", fake.address, *tail).said(2, str(path))
    tail = ("--events-all", str(odd), "tail", EVENT, "--duration", "50ms")
    qtctl("-t", fake.address, *tail).said(0, "not declared in", str(odd))
    assert not fake.tell()["enabled"]
