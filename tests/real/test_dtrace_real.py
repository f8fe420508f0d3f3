"""USDT probes of a real QEMU, followed through bpftrace by qtctl as users run it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qtctl.backends.detect import signs_in
from qtctl.model import Backend
from qtctl.monitor.processes import start_ticks
from tests import needs
from tests.qemus import RealGuest, require
from tests.running import Qtctl, eventually

pytestmark = pytest.mark.qemu

SECOND = ["-qmp", "unix:{dir}/second.sock,server=on,wait=off"]
DTRACE = ("--backend", "dtrace", "--ndjson")


@pytest.fixture
def guest() -> Iterator[RealGuest]:
    qemu = require("built")
    if not signs_in(Path(qemu.command[0]), None, [Backend.DTRACE])[Backend.DTRACE]:
        pytest.skip("the QEMU in $QTCTL_TEST_QEMU has no USDT probes")
    needs.program("bpftrace", "bpftrace")
    if not Path("/sys/kernel/tracing/trace_marker").exists():
        pytest.skip("a QEMU with ftrace does not start where tracefs is not mounted")
    null = subprocess.DEVNULL
    with RealGuest(qemu, image="virtio-blk", extra=SECOND, stderr=null) as running:
        yield running


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Qtctl]:
    with Qtctl(tmp_path / "home") as qtctl_command:
        yield qtctl_command


def tracers_of(guest: RealGuest) -> list[int]:
    """Find the bpftraces that trace a guest."""
    wanted = ["bpftrace", "-f", "json", "-p", str(guest.pid), "-"]
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:
            continue
        if [Path(words[0]).name, *words[1:]] == wanted if words else False:
            found.append(int(entry.parent.name))
    return found


def parsed(out: bytes | str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in out.splitlines()]


def test_tail_shows_typed_records_and_leaves_qmp_s_states_alone(
    guest: RealGuest, run: Qtctl
) -> None:
    words = ("virtio_blk_handle_read", "virtio_blk_req_complete", "virtio_queue_notify")
    ran = run("-t", guest.address, "tail", *words, *DTRACE, "--duration", "2s", limit=None)
    records = parsed(ran.said(0).out)
    events = [record for record in records if record["type"] == "event"]
    assert {event["name"] for event in events} == set(words)
    assert records[-1]["type"] == "summary"
    assert records[-1]["read"] == records[-1]["shown"] == len(events) > 300
    for event in events:
        assert (event["backend"], event["clock"], event["pid"]) == ("dtrace", "realtime", guest.pid)
        assert "raw" not in event
        if event["name"] == "virtio_blk_handle_read":
            assert (event["args"]["sector"], event["args"]["nsectors"]) == (0, 1)
    listed = run("-t", guest.address, "list", "--state", "enabled", "--json").said(0)
    assert json.loads(listed.out)["events"] == []
    assert (run.leases(), tracers_of(guest)) == ([], [])


def test_two_follow_one_guest_and_sigkill_leaves_nothing(guest: RealGuest, run: Qtctl) -> None:
    one = run.start("-t", guest.address, "tail", "virtio_blk_handle_read", *DTRACE)
    one.wrote(b'"virtio_blk_handle_read"')
    other = str(guest.directory / "second.sock")
    two = run.start("-t", other, "tail", "virtio_blk_handle_read", *DTRACE)
    two.wrote(b'"virtio_blk_handle_read"')
    assert len(tracers_of(guest)) == 2
    one.signal(signal.SIGKILL)
    one.finish(None)
    eventually(lambda: len(tracers_of(guest)) == 1, "the killed one's bpftrace is gone")
    seen = len(two.out)
    eventually(lambda: len(two.out) > seen + 20_000, "the other one goes on")
    two.signal(signal.SIGINT)
    records = parsed(two.finish(None).said(130).out)
    assert (records[-1]["type"], records[-1]["lost"]) == ("summary", 0)
    assert tracers_of(guest) == []
    # Probes of the dead would slow the guest down still.
    assert run("-t", guest.address, "status", "--json").said(0)
    assert run.leases() == []


def test_a_dead_bpftrace_and_a_dead_guest_have_their_exit_codes(
    guest: RealGuest, run: Qtctl
) -> None:
    running = run.start("-t", guest.address, "tail", "virtio_blk_handle_read", *DTRACE)
    running.wrote(b'"virtio_blk_handle_read"')
    (tracer,) = tracers_of(guest)
    subprocess.run(["kill", "-KILL", str(tracer)], check=True)
    running.finish(None).said(1, "bpftrace ended while it followed guest", "follow again")
    eventually(lambda: start_ticks(tracer) is None, "bpftrace is reaped")
    running = run.start("-t", guest.address, "tail", "virtio_blk_handle_read", *DTRACE)
    running.wrote(b'"virtio_blk_handle_read"')
    guest.process.kill()
    ran = running.finish(None).said(5, "closed the connection")
    assert parsed(ran.out)[-1]["type"] == "summary"
    assert run.leases() == []


def test_without_bpftrace_the_alternative_is_named(guest: RealGuest, run: Qtctl) -> None:
    words = ("-t", guest.address, "tail", "virtio_blk_*", *DTRACE)
    run(*words, env={"PATH": "/nonexistent"}).said(
        1, "bpftrace, which is not installed", "apt install bpftrace", "qemu-trace-stap"
    )
    ran = run("-t", guest.address, "tail", "*", *DTRACE, limit=None)
    ran.said(1, "are too many for bpftrace", "at most 512")
    assert tracers_of(guest) == []
