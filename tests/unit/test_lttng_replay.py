"""``qtctl replay`` on folders of LTTng's: a real one, and made ones with all that is odd."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from tests import ctffiles as ctf
from tests.running import Qtctl
from tests.samples import declarations_text

NOTIFY = ctf.event_text(1, "qemu:virtio_notify", [ctf.NUMBER % (64, 0, 16, "vdev")])
BIG = struct.pack("<Q", 5)


@pytest.fixture
def alone(tmp_path: Path) -> tuple[str, str]:
    """Give the option that keeps declarations of installed QEMUs away."""
    (tmp_path / "none").write_text("")
    return "--events-all", str(tmp_path / "none")


def test_a_real_trace(run: Qtctl, tmp_path: Path) -> None:
    (tmp_path / "all").write_text(declarations_text("7.2"))
    trace = ctf.unpack("qemu-7.2-ust-ctf.tar.gz", tmp_path / "trace")
    words = ("--events-all", str(tmp_path / "all"), "replay", str(trace), "--ndjson")
    ran = run(*words, limit=None).said(0, "121 events, declared in", "12586 shown", "0 lost")
    *found, _ = (json.loads(line) for line in ran.out.splitlines())
    times = [one["time_ns"] for one in found]
    assert times == sorted(times)
    assert {one["pid"] for one in found} == {30566}
    assert len({one["tid"] for one in found}) > 1
    assert not any("raw" in one for one in found)
    ran = run(*words, "virtio_blk_req_complete", "--where", "status == 0", limit=None)
    ran.said(0, "576 shown")


def test_a_trace_declares_itself(run: Qtctl, tmp_path: Path) -> None:
    """Without declarations, or with those of another build."""
    folder = ctf.write(tmp_path / "trace", ctf.metadata(NOTIFY), ctf.packet(ctf.record(1, 5, BIG)))
    other = tmp_path / "other"
    other.write_text('virtio_notify(const char *vdev, int state) "%s %d"\n')
    words = ("count", "--by", "vdev", "--json", "--from", str(folder))
    ran = run(*words, "--events-all", str(other)).said(0, "1 event, declared by the trace itself")
    assert json.loads(ran.out)["groups"][0]["value"] == 5


def test_other_traces_and_providers_are_named(
    run: Qtctl, tmp_path: Path, alone: tuple[str, str]
) -> None:
    other = ctf.event_text(2, "app:thing", ["string _text;"])
    data = ctf.packet(ctf.record(1, 5, BIG), ctf.record(2, 6, b"text\0"), ctf.record(1, 7, BIG))
    ctf.write(tmp_path / "trace/ust", ctf.metadata(NOTIFY + other), data)
    kernel = ctf.metadata(ctf.event_text(0, "sched_switch", ["string _comm;"]))
    kernel = kernel.replace('domain = "ust"', 'domain = "kernel"')
    ctf.write(tmp_path / "trace/kernel", kernel, ctf.packet(ctf.record(0, 5, b"x\0")))
    ran = run(*alone, "replay", str(tmp_path / "trace"), "--ndjson")
    ran.said(
        0, "not read, as they are not QEMU's: 1 event of the kernel, 1 event of app", "2 shown"
    )


def test_streams_in_several_files_and_folders(
    run: Qtctl, tmp_path: Path, alone: tuple[str, str]
) -> None:
    """Files of one stream follow one another; those before the first are told."""
    one, two, three = (
        ctf.packet(ctf.record(1, n, struct.pack("<Q", n)), first=n, last=n, sequence=n, discarded=2)
        for n in (3, 4, 5)
    )
    late = ctf.packet(ctf.record(1, 4, BIG), instance=1, first=1, last=9, discarded=4)
    ctf.write(tmp_path / "trace/a", ctf.metadata(NOTIFY), two, one, late)
    ctf.write(tmp_path / "trace/b", ctf.metadata(NOTIFY), three)
    ran = run(*alone, "replay", str(tmp_path / "trace"), "--ndjson")
    ran.said(0, "4 shown", "4 lost", "3 packets before the first that is there are missing")
    found = [json.loads(line) for line in ran.out.splitlines()]
    times = [one["time_ns"] - ctf.OFFSET_NS for one in found if one["type"] == "event"]
    assert times == [3, 4, 4, 5]


def test_an_event_that_differs_between_traces(
    run: Qtctl, tmp_path: Path, alone: tuple[str, str]
) -> None:
    other = NOTIFY.replace("size = 64", "size = 32")
    ctf.write(tmp_path / "t/a", ctf.metadata(NOTIFY), ctf.packet(ctf.record(1, 5, BIG)))
    ctf.write(tmp_path / "t/b", ctf.metadata(other), ctf.packet(ctf.record(1, 5, b"abcd")))
    ran = run(*alone, "replay", str(tmp_path / "t"), "--ndjson")
    ran.said(0, "/t/b, as another trace differs: virtio_notify", "1 shown")


def test_what_cannot_be_read_is_told(run: Qtctl, tmp_path: Path, alone: tuple[str, str]) -> None:
    data = ctf.packet(ctf.record(1, 5, BIG), ctf.record(1, 6, BIG))
    folder = ctf.write(tmp_path / "trace", ctf.metadata(NOTIFY), data[:-1], b"garbage")
    ran = run(*alone, "replay", str(folder), "--ndjson")
    ran.said(1, "cannot read all of", "channel0_0, at byte 0", "1 shown", "1 other file")
    (folder / "metadata").write_text(ctf.metadata(NOTIFY)[:-20])
    run(*alone, "replay", str(folder)).said(1, "cannot read the metadata in", "after")


def test_folders_that_are_none(run: Qtctl, tmp_path: Path) -> None:
    run("replay", str(tmp_path / "home")).said(1, "without an LTTng trace")
    (tmp_path / "trace").mkdir()
    file = tmp_path / "trace" / "metadata"
    file.write_text("")
    run("replay", str(file.parent)).said(1, "no event of QEMU", "lttng enable-event -u")
    file.write_text('env { tracer_name = "qtctl"; };')
    run("replay", str(file.parent)).said(1, "qtctl export --to ctf", "that it was made from")
    file.write_text("something else;")
    run("replay", str(file.parent)).said(1, "the type 'something else' is not known")
