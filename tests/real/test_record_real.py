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


def test_a_real_qmp_event_has_the_ring_written(run: Qtctl, tmp_path: Path) -> None:
    with RealGuest(require("path"), image="virtio-blk", extra=SECOND) as guest:
        second = str(guest.directory / "second.sock")
        out = tmp_path / "ring"
        words = ("record", "virtio_blk_*", "-o", str(out), "--ring", "1h", "--dump-on", "STOP")
        running = run.start("-t", guest.address, *words)
        running.said(READY)
        run("-t", second, "qmp", "stop", limit=None).said(0)
        running.said(f"written to {out}\n")
        running.signal(signal.SIGINT)
        running.finish(None).said(130)
    ran = run("replay", str(out), "--ndjson", limit=None).said(0)
    kinds = [json.loads(line) for line in ran.out.splitlines()]
    assert [one["event"] for one in kinds if one["type"] == "guest"] == ["STOP"]
    assert any(one["type"] == "event" for one in kinds)


def test_a_guest_that_panics_has_the_ring_written(run: Qtctl, tmp_path: Path) -> None:
    extra = [*SECOND, "-device", "pvpanic", "-action", "panic=pause"]
    with RealGuest(require("path"), image="counting", extra=extra) as guest:
        out = tmp_path / "crash"
        words = ("record", "memory_region_ops_write", "-o", str(out), "--ring", "1MiB")
        running = run.start("-t", guest.address, *words, "--dump-on", "GUEST_PANICKED")
        running.said(READY)
        # The panic device's port; a monitor may write to it as a guest does.
        panic = ("hmp", "o", "/b", "0x505", "1")
        run("-t", str(guest.directory / "second.sock"), *panic, limit=None).said(0)
        running.said(f"written to {out}\n")
        running.signal(signal.SIGINT)
        running.finish(None).said(130, "GUEST_PANICKED: ")
    ran = run("replay", str(out), "--ndjson", limit=None).said(0)
    assert '"GUEST_PANICKED"' in ran.out


def test_a_trigger_stops_a_real_guest(run: Qtctl) -> None:
    with RealGuest(require("path"), image="sectors") as guest:
        where = "sector % 1000 == 999"
        words = ("on", "virtio_blk_handle_read", "--where", where, "--once", "--ndjson")
        ran = run("-t", guest.address, *words, "do", "stop", limit=None).said(0)
        [told] = [one for line in ran.out.splitlines() if (one := json.loads(line))]
        assert told["found"]["args"]["sector"] % 1000 == 999
        ran = run("-t", guest.address, "qmp", "query-status")
        assert json.loads(ran.out)["status"] == "paused"
        # With no trace event on and no backend opened.
        running = run.start("-t", guest.address, "on", "RESUME", "--once", "do", "mark", "again")
        running.said("Ctrl-C ends")
        run("-t", guest.address, "qmp", "cont", limit=None).said(0)
        ran = running.finish(None).said(0)
        assert "RESUME: mark again: on 1 console" in ran.out
