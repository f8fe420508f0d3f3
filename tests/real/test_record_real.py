"""Recordings of real guests: every record, from any backend, and rings that real events dump."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qtctl.backends.ring import tracefs as ftrace
from qtctl.errors import Unsupported
from tests import needs
from tests.qemus import COUNTER, LABELS, RealGuest, require
from tests.real import test_syslog_real as system_log
from tests.running import Qtctl, eventually

pytestmark = pytest.mark.qemu

SECOND = ("-qmp", "unix:{dir}/second.sock,server=on,wait=off")
READY = "Ctrl-C gives back"
STAMPED = ("-msg", "timestamp=on")


@pytest.mark.parametrize("label", LABELS)
def test_every_turn_of_a_counting_guest_is_recorded(label: str, run: Qtctl, tmp_path: Path) -> None:
    with RealGuest(require(label), image="counting", busy=True, extra=SECOND) as guest:
        second = str(guest.directory / "second.sock")

        def turns() -> int:
            said = run("-t", second, "hmp", f"xp /1xw {COUNTER:#x}", limit=None).said(0).out
            return int(said.split("0x")[-1], 16)

        def order(command: str) -> None:
            run("-t", second, "qmp", command, limit=None).said(0)

        eventually(lambda: turns() > 1000, "the guest counts")
        order("stop")
        before, logged = turns(), guest.stderr_path.read_bytes().count(b"\n")
        words = ["record", "memory_region_ops_write", "-o", str(tmp_path / "a")]
        words += ["--backend", "log", "--where", "addr == 0x80"]
        running = run.start("-t", guest.address, *words)
        running.said(READY)
        order("cont")
        eventually(lambda: turns() > before + 50_000, "the guest counts on")
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


@dataclass(frozen=True, slots=True)
class Way:
    """A way for events to leave the guest: a backend, what QEMU is started with, what it needs."""

    backend: str
    extra: tuple[str, ...] = STAMPED
    needs: str | None = None
    same_times: bool = True


WAYS = {
    "log-in-a-file": Way("log", (*STAMPED, "-D", "{dir}/qemu.log")),
    "log-in-a-spool": Way("log", (*STAMPED, "-D", "/dev/null")),
    "log-without-times": Way("log", ("-D", "{dir}/qemu.log"), same_times=False),
    # Each reader of these and of ust has a clock of its own.
    "simple": Way("simple", same_times=False),
    "ftrace": Way("ftrace", needs="tracefs", same_times=False),
    "dtrace": Way("dtrace", needs="tracefs", same_times=False),
    "rsyslog": Way("syslog", needs="rsyslog"),
    "journald": Way("syslog", needs="journald"),
    "ust": Way("ust", needs="lttng", same_times=False),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Way]:
    """Give each way that there is here."""
    found = WAYS[request.param]
    match found.needs:
        case "tracefs" if os.geteuid() != 0:
            pytest.skip("it takes root")
        case "tracefs":
            try:
                ftrace.check_namespace()
            except Unsupported as error:
                pytest.skip(str(error))
        case "lttng":
            needs.lttng()
        case "rsyslog" | "journald":
            system_log.check_nobody_serves()
    if found.needs == "rsyslog":
        needs.program("rsyslogd", "rsyslog")
        with system_log.Rsyslog(tmp_path, 'SysSock.RateLimit.Interval="0"'):
            yield found
    elif found.needs == "journald":
        with system_log.own_journald():
            yield found
    else:
        yield found


def events_of(lines: str) -> list[Any]:
    """Return the events of ndjson."""
    return [one for line in lines.splitlines() if (one := json.loads(line))["type"] == "event"]


def without_times(events: list[Any]) -> list[Any]:
    return [{key: one[key] for key in one if key != "time_ns"} for one in events]


def between(events: list[Any], first: int, last: int) -> list[Any]:
    """Cut to what begins with the read of one sector and ends before that of another."""
    reads = {
        one["args"]["sector"]: place
        for place, one in enumerate(events)
        if one["name"] == "virtio_blk_handle_read"
    }
    return events[reads[first] : reads[last]]


def test_a_recording_holds_what_is_shown_live(way: Way, run: Qtctl, tmp_path: Path) -> None:
    out = tmp_path / "a"
    with RealGuest(require("built"), image="sectors", extra=[*way.extra, *SECOND]) as guest:
        chosen = ("virtio_blk_*", "--backend", way.backend)
        live = run.start("-t", guest.address, "tail", *chosen, "--ndjson")
        live.said(READY)
        live.wrote(b"virtio_blk_req_complete")
        running = run.start("-t", guest.address, "record", *chosen, "-o", str(out))
        running.said(READY)
        before = live.out.count(b"\n")
        eventually(lambda: live.out.count(b"\n") > before + 2000, "events are shown")
        running.signal(signal.SIGINT)
        running.finish(None).said(130, " 0 lost")
        before = live.out.count(b"\n")
        eventually(lambda: live.out.count(b"\n") > before + 1000, "events are shown still")
        live.signal(signal.SIGINT)
        shown = events_of(live.finish(None).said(130, " 0 lost").out)
    recorded = events_of(run("replay", str(out), "--ndjson", limit=None).said(0, way.backend).out)
    reads = [o["args"]["sector"] for o in recorded if o["name"] == "virtio_blk_handle_read"]
    assert reads == list(range(reads[0], reads[0] + len(reads)))
    assert len(reads) > 300
    shown, recorded = (between(found, reads[0], reads[-1]) for found in (shown, recorded))
    assert {one["backend"] for one in recorded} == {way.backend}
    assert not any("raw" in one for one in recorded)
    assert without_times(recorded) == without_times(shown)
    apart = [abs(a["time_ns"] - b["time_ns"]) for a, b in zip(recorded, shown, strict=True)]
    assert max(apart) < (1 if way.same_times else 1_000_000_000)


def test_a_record_of_any_backend_has_the_ring_written(way: Way, run: Qtctl, tmp_path: Path) -> None:
    out = tmp_path / "ring"
    with RealGuest(require("built"), image="sectors", extra=[*way.extra, *SECOND]) as guest:
        words = ["record", "virtio_blk_*", "--backend", way.backend, "-o", str(out)]
        words += ["--ring", "64KiB", "--dump-on", "sector % 100 == 99"]
        running = run.start("-t", guest.address, *words)
        running.said(READY)
        eventually(lambda: f"written to {out}".encode() in running.err, "it is written")
        running.signal(signal.SIGINT)
        running.finish(None).said(130, "sector % 100 == 99: ")
    events = events_of(run("replay", str(out), "--ndjson", limit=None).said(0).out)
    reads = [o["args"]["sector"] for o in events if o["name"] == "virtio_blk_handle_read"]
    assert any(sector % 100 == 99 for sector in reads)
    assert reads == list(range(reads[0], reads[0] + len(reads)))


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
    with RealGuest(require("path"), image="counting", busy=True, extra=extra) as guest:
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
        where = "sector % 100 == 99"
        words = ("on", "virtio_blk_handle_read", "--where", where, "--once", "--ndjson")
        ran = run("-t", guest.address, *words, "do", "stop", limit=None).said(0)
        [told] = [one for line in ran.out.splitlines() if (one := json.loads(line))]
        assert told["found"]["args"]["sector"] % 100 == 99
        ran = run("-t", guest.address, "qmp", "query-status")
        assert json.loads(ran.out)["status"] == "paused"
        # With no trace event on and no backend opened.
        running = run.start("-t", guest.address, "on", "RESUME", "--once", "do", "mark", "again")
        running.said("Ctrl-C ends")
        run("-t", guest.address, "qmp", "cont", limit=None).said(0)
        ran = running.finish(None).said(0)
        assert "RESUME: mark again: on 1 console" in ran.out
