"""Guests of another host, over a real sshd: verbs that follow them, and links that break."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_qmp import FakeProcess
from tests.integration.conftest import MakeFake
from tests.running import Qtctl, Running, eventually
from tests.sshd import NAME, Sshd

EVENT, DONE = "virtio_blk_handle_read", "virtio_blk_req_complete"


@pytest.fixture
def far(folder: Path) -> Iterator[Sshd]:
    """Run another host."""
    (folder / "ssh").mkdir()
    with Sshd(folder / "ssh") as server:
        yield server


def on(fake: FakeProcess) -> list[str]:
    """Return the arguments that name a fake on the other host."""
    return ["-t", f"ssh://{NAME}/{fake.address}"]


def followed(fake: FakeProcess, running: Running) -> None:
    """Wait until a fake is followed, and that is told."""
    running.said(" on (")
    assert EVENT in fake.tell()["enabled"]


def objects(out: str) -> list[dict[str, Any]]:
    """Return the objects of a stream."""
    return [json.loads(line) for line in out.splitlines()]


def given_back(fake: FakeProcess) -> None:
    """Insist that a fake is given back within 10 s."""
    began = time.monotonic()
    eventually(lambda: not fake.tell()["enabled"], "the guest is given back")
    assert time.monotonic() - began < 10


def test_records_are_those_of_a_verb_there(qtctl: Qtctl, far: Sshd, fake: FakeProcess) -> None:
    found = []
    for target in (on(fake), ["-t", fake.address]):
        words = ("tail", EVENT, DONE, "--max-events", "40", "--ndjson")
        running = qtctl.start(*target, *words, env=far.env)
        followed(fake, running)
        fake.tell(events=40)
        ran = running.finish(None).said(0, "2 events on (2 changed), from ", "40 read")
        assert fake.tell()["enabled"] == []
        events = [one for one in objects(ran.out) if one["type"] == "event"]
        found.append(Counter((one["name"], one["raw"].count("=")) for one in events))
        assert objects(ran.out)[-1]["shown"] == 40
    assert found[0] == found[1]
    assert found[0].total() == 40


def test_count_latency_wait_and_record(
    qtctl: Qtctl, far: Sshd, make_fake: MakeFake, tmp_path: Path
) -> None:
    fake = make_fake("-msg", "timestamp=on")
    calls = {
        "count": (EVENT, DONE, "--json"),
        "latency": (EVENT, DONE, "--key", "none", "--json"),
        "wait": (EVENT, "--ndjson"),
        "record": (EVENT, DONE, "-o", str(tmp_path / "far.qtr"), "--json"),
    }
    for verb, words in calls.items():
        running = qtctl.start(*on(fake), verb, *words, env=far.env)
        followed(fake, running)
        time.sleep(0.3)  # latency leaves out what came while events were switched on
        fake.tell(events=20)
        if verb != "wait":
            time.sleep(0.5)
            running.signal(signal.SIGINT)
        ran = running.finish(None)
        assert ran.code == (0 if verb == "wait" else 130), ran
        assert fake.tell()["enabled"] == []
        if verb != "wait":
            told = json.loads(ran.out)
            assert told["lost"] == 0
            assert told.get("count", told.get("shown")) in (9, 20), ran
    ran = qtctl("replay", str(tmp_path / "far.qtr"), "--ndjson", limit=None).said(0)
    assert objects(ran.out)[-1]["shown"] == 20
    ran = qtctl(*on(fake), "tail", "nosuch*", env=far.env, limit=None)
    ran.said(3, f"{NAME}: no event", f"on {NAME}: ")
    ran = qtctl(*on(fake), "count", EVENT, "--where", "nosuch == 1", env=far.env, limit=None)
    ran.said(2, f"{NAME}: ", "nosuch")


def test_several_hosts_are_one_stream(
    qtctl: Qtctl, far: Sshd, fake: FakeProcess, make_fake: MakeFake
) -> None:
    near = make_fake(name="near")
    targets = ["-t", near.address, *on(fake)]
    running = qtctl.start(*targets, "tail", EVENT, DONE, "--ndjson", env=far.env)
    running.said(f"ssh://{NAME}/{fake.address}: 2 events on")
    for one in (near, fake):
        one.tell(events=20)
    eventually(lambda: running.out.count(b'"event"') == 40, "all came")
    running.signal(signal.SIGINT)
    ran = running.finish(None).said(130, f"{NAME}: its clock is ", "(within ", " this one")
    events = [one for one in objects(ran.out) if one["type"] == "event"]
    guests = {one["guest"] for one in events}
    assert len(guests) == 2
    assert f"ssh://{NAME}/{fake.address}" in guests
    assert len(events) == 40
    assert fake.tell()["enabled"] == []


_SLOW_WAY = """
import os, socket, sys, threading, time
way = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def carry(read, write):
    while data := read(1 << 16):
        time.sleep(0.15)
        while data:
            data = data[write(data):]
    os._exit(0)
threading.Thread(target=carry, args=(way.recv, lambda data: os.write(1, data))).start()
carry(lambda size: os.read(0, size), way.send)
"""


def test_a_slow_way_loses_nothing_and_widens_the_bound(
    qtctl: Qtctl, far: Sshd, fake: FakeProcess, make_fake: MakeFake, tmp_path: Path
) -> None:
    relay = tmp_path / "relay.py"
    relay.write_text(_SLOW_WAY)
    far.configure(f"ProxyCommand {sys.executable} {relay} {far.port}")
    near = make_fake(name="near")
    targets = ("-t", near.address, *on(fake))
    running = qtctl.start(*targets, "tail", EVENT, "--ndjson", env=far.env)
    running.said(f"{fake.address}: 1 event on")
    fake.tell(events=2000)
    eventually(lambda: running.out.count(b'"event"') == 2000, "all records come")
    running.signal(signal.SIGINT)
    ran = running.finish(None).said(130, "2000 read", "0 lost")
    found = re.search(r"\(within ([0-9.]+) (m?s)\)", ran.err)
    assert found is not None, ran.err
    assert float(found[1]) * (1 if found[2] == "ms" else 1000) >= 140
    assert fake.tell()["enabled"] == []


def test_records_of_a_host_with_another_clock_are_put_to_this_one(
    qtctl: Qtctl, far: Sshd, fake: FakeProcess, make_fake: MakeFake
) -> None:
    ahead = "import time; now = time.time_ns; time.time_ns = lambda: now() + 3600 * 10**9; "
    start = "import sys; from qtctl.cli import main; sys.exit(main(['serve']))"
    far.has(f'exec {sys.executable} -c "{ahead}{start}"')
    near = make_fake(name="near")
    for targets in (on(fake), ["-t", near.address, *on(fake)]):
        running = qtctl.start(*targets, "tail", EVENT, "--ndjson", "--duration", "3s", env=far.env)
        running.said("1 event on" if len(targets) == 2 else f"{fake.address}: 1 event on")
        fake.tell(events=1)
        done = "stay as they are" if len(targets) == 2 else "are put to this one"
        ran = running.finish(None).said(0, "its clock is 3,600 s ahead of this one's", done)
        [one] = [one for one in objects(ran.out) if one["type"] == "event"]
        hours = (one["time_ns"] - time.time_ns()) / 3.6e12
        assert abs(hours - (1 if len(targets) == 2 else 0)) < 0.1


def test_a_cut_link_is_told_and_gives_the_guest_back(
    qtctl: Qtctl, far: Sshd, fake: FakeProcess
) -> None:
    running = qtctl.start(*on(fake), "tail", EVENT, "--ndjson", env=far.env)
    running.said("1 event on")
    for pid in far.sessions():
        os.kill(pid, signal.SIGKILL)
    ran = running.finish(None).said(
        5, f"lost {NAME}: ssh ended with 255", "within 10 s", "1 times an unknown"
    )
    *_, loss, sums = objects(ran.out)
    assert (loss["type"], loss.get("count", 0)) == ("loss", None)
    assert sums["type"] == "summary"
    given_back(fake)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_qtctl_that_stands_still_here_keeps_no_guest_there(
    qtctl: Qtctl, far: Sshd, fake: FakeProcess, how: str
) -> None:
    running = qtctl.start(*on(fake), "tail", EVENT, env=far.env)
    followed(fake, running)
    running.signal(signal.SIGSTOP if how == "stopped" else signal.SIGKILL)
    given_back(fake)
    if how == "stopped":
        running.signal(signal.SIGCONT)
        running.finish(None).said(5, f"lost {NAME}")


def test_what_cannot_be_done_from_here_is_told(qtctl: Qtctl, far: Sshd, fake: FakeProcess) -> None:
    there = f"try: ssh {NAME} -t qtctl -t {fake.address} ..."
    for words in (("on", EVENT, "do", "stop"), ("share",), ("repl",), ("pane",)):
        ran = qtctl(*on(fake), *words, env=far.env, limit=None)
        assert ran.code == 2, ran
        if words[0] != "pane":
            ran.said(2, there)
