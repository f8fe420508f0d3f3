"""``qtctl replay`` on a folder of LTTng's, with what babeltrace2 prints replaced by a capture."""

from __future__ import annotations

import json
import os
import pty
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running import Qtctl
from tests.samples import capture, declarations_text


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Qtctl]:
    with Qtctl(tmp_path / "home") as command:
        yield command


def printed(contexts: bytes = rb"{ \4, \5 }, ") -> bytes:
    """Return the capture in the form that qtctl asks babeltrace2 for."""
    pattern = (
        rb"\[21:39:(\d\d\.\d{9})\] \(\S+\) vm (qemu:\w+: )\{ cpu_id = (\d+) \}, "
        rb"\{ vpid = (\d+), vtid = (\d+), procname = [^}]*\}, "
    )
    text = capture("qemu-7.2-ust-babeltrace2.txt")
    return re.sub(pattern, rb"[17953835\1] \2{ \3 }, " + contexts, text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make what looks like a trace, and a babeltrace2 that knows what is in it."""
    made = tmp_path / "trace" / "ust" / "uid" / "0" / "64-bit"
    made.mkdir(parents=True)
    names = ("virtio_blk_handle_read", "virtio_blk_req_complete", "virtio_queue_notify")
    (made / "metadata").write_text("".join(map(metadata, names)))
    (tmp_path / "text").write_bytes(printed())
    (tmp_path / "all").write_text(declarations_text("7.2"))
    return tmp_path / "trace"


def stream(names: list[str]) -> str:
    """Return what metadata say of the contexts that an event has."""
    number = "integer { size = 32; align = 8; signed = 1; encoding = none; base = 10; }"
    return (
        "stream {\n\tevent.context := struct {\n"
        + "".join(f"\t\t{'string' if n == 'procname' else number} _{n};\n" for n in names)
        + "\t};\n};\n"
    )


def metadata(name: str, fields: str = "") -> str:
    return f'event {{\n\tname = "qemu:{name}";\n\tfields := struct {{\n{fields}\t}};\n}};\n\n'


def babeltrace2(tmp_path: Path, script: str) -> dict[str, str | None]:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "babeltrace2"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("contexts", "names", "known"),
    [
        (rb"{ \4, \5 }, ", ["vpid", "vtid"], True),
        (rb"{ \5, \4 }, ", ["vtid", "vpid"], True),
        (rb"{ \5 }, ", ["vtid"], True),
        (rb'{ "qemu } \\" , {", \5 }, ', ["procname", "vtid"], True),
        (rb"{ \4, \5 }, ", ["perf_one", "perf_two"], False),
        (b"", [], False),
    ],
)
def test_it_is_read_as_it_is_live(
    run: Qtctl, folder: Path, tmp_path: Path, contexts: bytes, names: list[str], known: bool
) -> None:
    (tmp_path / "text").write_bytes(printed(contexts))
    file = next(folder.rglob("metadata"))
    file.write_text(stream(names) + file.read_text())
    env = babeltrace2(tmp_path, f"cat {tmp_path / 'text'}")
    words = ("replay", str(folder), "virtio_blk_req_complete", "--ndjson")
    ran = run(*words, "--events-all", str(tmp_path / "all"), env=env, limit=None).said(0)
    *found, summary = (json.loads(line) for line in ran.out.splitlines())
    text = capture("qemu-7.2-ust-babeltrace2.txt")
    events = [one for one in found if one["type"] == "event"]
    assert len(events) == summary["shown"] == text.count(b" qemu:virtio_blk_req_complete:") > 0
    assert all(set(one["args"]) == {"vdev", "req", "status"} for one in events)
    assert {one["backend"] for one in events} == {"ust"}
    threads = re.findall(
        rb"vtid = (\d+)[^\n]* ", text.split(b" qemu:virtio_blk_req_complete:", 1)[1]
    )
    assert events[0]["tid"] == (int(threads[0]) if known else None)


def test_a_trace_declares_itself(run: Qtctl, folder: Path, tmp_path: Path) -> None:
    """Without declarations, or with those of another build."""
    number = "integer { size = 64; align = 8; signed = 0; encoding = none; base = 16; }"
    text = "".join(f"\t\t{number} _{name};\n" for name in ("vdev", "req"))
    text += (
        "\t\tinteger { size = 32; align = 8; signed = 1; encoding = none; base = 10; } _status;\n"
    )
    next(folder.rglob("metadata")).write_text(metadata("virtio_blk_req_complete", text))
    env = babeltrace2(tmp_path, f"cat {tmp_path / 'text'}")
    other = tmp_path / "other"
    other.write_text('virtio_blk_req_complete(const char *vdev, int state) "%s %d"\n')
    words = ("count", "--by", "status", "--json", "--from", str(folder))
    ran = run(*words, "--events-all", str(other), env=env, limit=None).said(
        0, "1 event, declared by the trace itself"
    )
    groups = json.loads(ran.out)["groups"]
    assert [one["value"] for one in groups] == [0]
    assert groups[0]["count"] == printed().count(b" qemu:virtio_blk_req_complete:")


def test_what_babeltrace2_cannot_read_is_told(run: Qtctl, folder: Path, tmp_path: Path) -> None:
    env = babeltrace2(tmp_path, f"head -3 {tmp_path / 'text'}; echo ERROR: it is broken; exit 1")
    ran = run("replay", str(folder), "--events-all", str(tmp_path / "all"), env=env, limit=None)
    ran.said(1, "babeltrace2 cannot read all of", "ERROR: it is broken")
    assert len(ran.out.splitlines()) == 3


def test_progress_is_told_on_a_terminal(run: Qtctl, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(printed() * 8)
    loop = f"for n in 1 2 3 4 5 6; do cat {tmp_path / 'text'}; sleep 0.2; done"
    env = babeltrace2(tmp_path, loop)
    ours, theirs = pty.openpty()
    words = ("--events-all", str(tmp_path / "all"), "count", "--from", str(folder))
    ran = run.start(*words, env=env, stderr=theirs).finish(None)
    assert ran.code == 0
    assert b" MiB  " in os.read(ours, 1 << 16)
    os.close(ours)
    os.close(theirs)


def test_folders_that_are_none(run: Qtctl, folder: Path, tmp_path: Path) -> None:
    run("replay", str(tmp_path / "home")).said(1, "without an LTTng trace")
    next(folder.rglob("metadata")).write_text("something else")
    run("replay", str(folder)).said(1, "no event of QEMU", "lttng enable-event -u")
    next(folder.rglob("metadata")).write_text('env { tracer_name = "qtctl"; };')
    run("replay", str(folder)).said(1, "qtctl export --to ctf", "that it was made from")
    for found in folder.rglob("metadata"):
        found.write_text(metadata("virtio_queue_notify"))
    run("replay", str(folder), env={"PATH": "/nonexistent"}).said(1, "install babeltrace2")
