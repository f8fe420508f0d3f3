"""USDT probes of a real QEMU, followed through uprobes by qtctl as users run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qtctl.backends.detect import signs_in
from qtctl.model import Backend
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
    needs.tracefs()
    if os.geteuid() != 0 or not os.access(needs.TRACEFS / "uprobe_events", os.W_OK):
        pytest.skip("uprobes take root, and a kernel that has them")
    null = subprocess.DEVNULL
    with RealGuest(qemu, image="virtio-blk", extra=SECOND, stderr=null) as running:
        yield running


def left() -> list[str]:
    """Return the instances and uprobes of any qtctl."""
    lines = (needs.TRACEFS / "uprobe_events").read_text().splitlines()
    made = [path.name for path in (needs.TRACEFS / "instances").glob("qtctl_*")]
    return made + sorted({one.partition(" ")[0] for one in lines if one.startswith("p:qtctl_")})


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
    assert run.leases() == []
    eventually(lambda: left() == [], "nothing is left")


def test_two_follow_one_guest_and_sigkill_leaves_nothing(guest: RealGuest, run: Qtctl) -> None:
    one = run.start("-t", guest.address, "tail", "virtio_blk_handle_read", *DTRACE)
    one.wrote(b'"virtio_blk_handle_read"')
    other = str(guest.directory / "second.sock")
    two = run.start("-t", other, "tail", "virtio_blk_handle_read", *DTRACE)
    two.wrote(b'"virtio_blk_handle_read"')
    assert len(left()) == 4
    one.signal(signal.SIGKILL)
    one.finish(None)
    eventually(lambda: len(left()) == 2, "what the killed one made is gone")
    seen = len(two.out)
    eventually(lambda: len(two.out) > seen + 20_000, "the other one goes on")
    two.signal(signal.SIGINT)
    records = parsed(two.finish(None).said(130).out)
    assert (records[-1]["type"], records[-1]["lost"]) == ("summary", 0)
    eventually(lambda: left() == [], "nothing is left")
    # Probes of the dead would slow the guest down still.
    assert run("-t", guest.address, "status", "--json").said(0)
    assert run.leases() == []


def test_a_killed_keeper_is_made_up_for_by_the_next_run(guest: RealGuest, run: Qtctl) -> None:
    running = run.start("-t", guest.address, "tail", "virtio_blk_handle_read", *DTRACE)
    running.wrote(b'"virtio_blk_handle_read"')
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        words = entry.read_bytes().split(b"\0")
        if (
            len(words) > 5
            and words[3].endswith(b"dtrace/keeper.py")
            and left()[0].encode() in words[4]
        ):
            os.kill(int(entry.parent.name), signal.SIGKILL)
    running.signal(signal.SIGKILL)
    running.finish(None)
    assert len(left()) == 2
    ran = run("-t", guest.address, "status")
    ran.said(0, "gave back its uprobes that qtctl pid")
    assert left() == []


def test_all_probes_and_the_death_of_the_guest(guest: RealGuest, run: Qtctl) -> None:
    running = run.start("-t", guest.address, "tail", "*", *DTRACE)
    running.wrote(b'"virtio_blk_handle_read"')
    lines = (needs.TRACEFS / "uprobe_events").read_text().splitlines()
    assert len(lines) > 2000
    guest.process.kill()
    ran = running.finish(None).said(5, "closed the connection")
    records = parsed(ran.out)
    assert (records[-1]["type"], records[-1]["lost"]) == ("summary", 0)
    times = [record["time_ns"] for record in records if record["type"] == "event"]
    assert times == sorted(times)
    assert run.leases() == []
    eventually(lambda: left() == [], "nothing is left")
