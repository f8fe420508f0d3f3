"""Recordings of real guests: every record, from any backend, and rings that real events dump."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.qemus import COUNTER, LABELS, RealGuest, require
from tests.running import Qtctl, eventually

pytestmark = pytest.mark.qemu

SECOND = ("-qmp", "unix:{dir}/second.sock,server=on,wait=off")
READY = "Ctrl-C gives back"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Qtctl]:
    with Qtctl(tmp_path / "home") as command:
        yield command


@pytest.mark.parametrize("label", LABELS)
def test_every_turn_of_a_counting_guest_is_recorded(label: str, run: Qtctl, tmp_path: Path) -> None:
    with RealGuest(require(label), image="counting", extra=SECOND) as guest:
        second = str(guest.directory / "second.sock")

        def turns() -> int:
            said = run("-t", second, "hmp", f"xp /1xw {COUNTER:#x}", limit=None).said(0).out
            return int(said.split("0x")[-1], 16)

        def order(command: str) -> None:
            run("-t", second, "qmp", command, limit=None).said(0)

        eventually(lambda: turns() > 1000, "the guest counts", 60)
        order("stop")
        before, logged = turns(), guest.stderr_path.read_bytes().count(b"\n")
        words = ["record", "memory_region_ops_write", "-o", str(tmp_path / "a")]
        words += ["--backend", "log", "--where", "addr == 0x80"]
        running = run.start("-t", guest.address, *words)
        running.said(READY)
        order("cont")
        eventually(lambda: turns() > before + 50_000, "the guest counts on", 60)
        order("stop")
        after = turns()
        running.signal(signal.SIGINT)
        running.finish(None).said(130, "0 lost")
        lines = guest.stderr_path.read_bytes().splitlines()[logged:]
    written = sum(b"memory_region_ops_write" in line for line in lines)
    # The guest was stopped anywhere in its turn.
    assert abs(written - (after - before)) <= 1
    ran = run("replay", str(tmp_path / "a"), "--ndjson", limit=None).said(0)
    records = [json.loads(line) for line in ran.out.splitlines()]
    events = [one for one in records if one["type"] == "event"]
    assert len(events) == written
    assert {one["args"]["addr"] for one in events} == {0x80}
    assert {one["pid"] for one in events} == {guest.pid}
    assert records[-1]["shown"] == written


@pytest.mark.parametrize("backend", ["log", "simple", "ftrace", "dtrace"])
def test_every_backend_is_recorded_as_it_is_shown(backend: str, run: Qtctl, tmp_path: Path) -> None:
    extra = ["-msg", "timestamp=on"]
    with RealGuest(require("built"), image="sectors", extra=extra) as guest:
        words = ("-t", guest.address, "record", "virtio_blk_*", "--backend", backend)
        ran = run(*words, "-o", str(tmp_path / "a"), "--max-events", "2000", limit=None)
    if "cannot" in ran.err and ran.code:
        pytest.skip(ran.err)
    ran.said(0, "2000 shown")
    ran = run("replay", str(tmp_path / "a"), "--ndjson", limit=None).said(0, backend)
    events = [json.loads(line) for line in ran.out.splitlines()]
    events = [one for one in events if one["type"] == "event"]
    assert len(events) == 2000
    assert not any("raw" in one for one in events)
    sectors = [o["args"]["sector"] for o in events if o["name"] == "virtio_blk_handle_read"]
    assert sectors == list(range(sectors[0], sectors[0] + len(sectors)))
    assert len(sectors) > 300
