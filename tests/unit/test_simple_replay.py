"""``qtctl replay``: any file, whole or not, without a guest."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from tests.running import Qtctl
from tests.samples import CASES, DATA, capture, declarations_text
from tests.simplefiles import dropped, event, header, mapping

DECLARED = 'few(int8_t a, const char *s) "%d %s"\nnone(void) ""\n'
BEGIN = header() + mapping(0, "few") + mapping(1, "none")


@pytest.fixture
def declared(tmp_path: Path) -> str:
    path = tmp_path / "trace-events-all"
    path.write_text(DECLARED)
    return str(path)


def saved(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "trace"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(("version", "records", "lost"), [("7.2", 16257, 0), ("10.2", 8857, 12539)])
def test_real_files(run: Qtctl, tmp_path: Path, version: str, records: int, lost: int) -> None:
    trace = saved(tmp_path, capture(f"qemu-{version}-simple-v4.bin"))
    known = tmp_path / "all"
    known.write_text(declarations_text(version))
    ran = run("replay", trace, "--events-all", str(known), "--ndjson", limit=None).said(0)
    lines = [json.loads(line) for line in ran.out.splitlines()]
    summary = {"type": "summary", "read": records, "shown": records, "filtered": 0}
    summary |= {"unread": 0, "lost": lost, "unknown_losses": 0}
    [used] = lines[-1].pop("declarations")
    assert lines[-1] == summary
    assert (used["path"], used["guess"], used["fit"]) == (str(known), False, used["of"])
    found = [line for line in lines if line["type"] == "event"]
    assert len(found) == records
    assert not any("raw" in line for line in found)
    assert {line["clock"] for line in found} == {"monotonic"}


@pytest.mark.parametrize("version", ["7.2", "10.2", "11.1"])
def test_saved_logs(run: Qtctl, tmp_path: Path, version: str) -> None:
    data = capture(f"qemu-{version}-log-timestamp.txt")
    known = tmp_path / "all"
    known.write_text(declarations_text(version))
    ran = run("replay", saved(tmp_path, data), "--events-all", str(known), "--ndjson", limit=None)
    summary = json.loads(ran.said(0).out.splitlines()[-1])
    assert summary["shown"] > 0.9 * data.count(b"\n")


def test_patterns_filters_and_limits(run: Qtctl, tmp_path: Path, declared: str) -> None:
    data = BEGIN + b"".join(event(0, n, n, b"x%d" % n) + event(1, n) for n in range(10))
    words = ("replay", saved(tmp_path, data), "--events-all", declared, "--time", "none")
    ran = run(*words, "few", "--where", "a > 3", "--max-events", "2").said(0, "2 shown")
    assert ran.out == "few a=4 s='x4'\nfew a=5 s='x5'\n"
    assert run(*words, "--except", "few").said(2)
    assert run(*words, "*", "--except", "few").said(0).out == "none\n" * 10
    run(*words, "nothing_of_this*").said(3, "no event matches")
    run(*words, "--where", "nope == 1").said(2, "nope")
    out = tmp_path / "out"
    run(*words, "few", "-o", str(out)).said(0)
    assert len(out.read_text().splitlines()) == 10
    run(*words, "few", "-o", str(out)).said(2, "exists")


def test_a_cut_file_is_printed_and_then_told(run: Qtctl, tmp_path: Path, declared: str) -> None:
    data = BEGIN + event(0, 1, 1, b"whole") + dropped(7, 2) + event(0, 3, 2, b"cut")
    at = len(data) - len(event(0, 3, 2, b"cut"))
    words = ("--events-all", declared, "--ndjson")
    ran = run("replay", saved(tmp_path, data[:-2]), *words)
    ran.said(1, f"is cut off in a record at byte {at}", "1 records were")
    kinds = [json.loads(line)["type"] for line in ran.out.splitlines()]
    assert kinds == ["event", "loss", "loss", "summary"]


def test_a_garbled_file_is_read_on(run: Qtctl, tmp_path: Path, declared: str) -> None:
    one = event(0, 1, 1, b"fine")
    path = saved(tmp_path, BEGIN + one + bytes(4000) + one)
    ran = run("replay", path, "--events-all", declared, "--time", "none")
    ran.said(1, f"is garbled at byte {len(BEGIN + one)}: 4000 of")
    assert [line for line in ran.out.splitlines() if "lost here" not in line] == [
        "few a=1 s='fine'"
    ] * 2


def test_without_declarations_arguments_are_hex(run: Qtctl, tmp_path: Path) -> None:
    names = header() + mapping(0, "an_event_of_no_qemu")
    ran = run("replay", saved(tmp_path, names + event(0, 1, 255)), "--time", "none")
    ran.said(0, "no trace-events-all that fits", "--events-all FILE")
    assert ran.out == "an_event_of_no_qemu ff00000000000000\n"


def test_control_characters_do_not_reach_the_terminal(
    run: Qtctl, tmp_path: Path, declared: str
) -> None:
    path = saved(tmp_path, BEGIN + event(0, 1, 1, b"\x1b[31m\n\xff"))
    out = run("replay", path, "--events-all", declared).said(0).raw
    assert b"\x1b" not in out
    assert out.count(b"\n") == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"\x7fELF" + bytes(500), "neither"),
        (b"hello\n" * 50, "no record in the first"),
        (header(3) + bytes(100), "version 3 of the simple backend"),
        (header()[:19], "ends in its header"),
        (gzip.compress(b"x", mtime=0), "packed with gzip"),
    ],
)
def test_foreign_files_are_named(run: Qtctl, tmp_path: Path, data: bytes, says: str) -> None:
    ran = run("replay", saved(tmp_path, data)).said(1, says)
    assert ran.out == ""


def test_what_is_no_file_is_a_usage_error(run: Qtctl, tmp_path: Path) -> None:
    run("replay", str(tmp_path / "missing")).said(2, "No such file")
    os.mkfifo(tmp_path / "fifo")
    run("replay", str(tmp_path / "fifo")).said(2, "not a plain file")
    run("replay").said(2)
    run("replay", saved(tmp_path, BEGIN), "--json").said(2, "--ndjson")
    path = saved(tmp_path, BEGIN)
    run("replay", path, "--events-all", str(DATA / "missing")).said(2, "cannot read")


def test_a_file_of_names_only_has_no_records(run: Qtctl, tmp_path: Path, declared: str) -> None:
    run("replay", saved(tmp_path, BEGIN), "--events-all", declared).said(0, "0 read")


def test_a_reader_that_leaves_ends_it_quietly(run: Qtctl, tmp_path: Path, declared: str) -> None:
    path = saved(tmp_path, BEGIN + event(0, 1, 1, b"x") * 200_000)
    read, write = os.pipe()
    running = run.start("replay", path, "--events-all", declared, stdout=write)
    os.close(write)
    assert os.read(read, 100)
    os.close(read)
    assert running.finish(None).code == 0


def test_no_pair_spans_a_loss(run: Qtctl, tmp_path: Path) -> None:
    path = str(CASES / "backends" / "loss-as-qemu-writes-it.bin")
    known = tmp_path / "known"
    known.write_text(declarations_text("7.2"))
    words = (path, "--events-all", str(known))
    out = run("replay", *words, "--ndjson").said(0).out
    kinds = [json.loads(line)["type"] for line in out.splitlines()]
    assert kinds == [*["event"] * 5, "loss", "event", "summary"]
    pair = ("virtio_blk_handle_read", "virtio_blk_req_complete")
    told = json.loads(run("latency", *pair, "--from", *words, "--json").said(0).out)
    assert (told["count"], told["max"], told["dropped"]) == (2, 100, 1)
