"""The pane and top on a real guest: what they show, what it is called, and that nothing stays."""

from __future__ import annotations

import json
import re
import shlex
import sys

import pytest

from tests.qemus import RealGuest, require
from tests.running import Qtctl, eventually
from tests.terminals import Tmux

pytestmark = pytest.mark.qemu

MACHINE = (
    *("-object", "iothread,id=io1", "-smp", "2", "-name", "vm1,debug-threads=on"),
    *("-device", "virtio-rng-pci,id=rng0", "-msg", "timestamp=on"),
)


def top(qtctl: Qtctl, guest: RealGuest, *words: str) -> list[dict[str, object]]:
    ran = qtctl("-t", guest.address, "top", "virtio_*", "--once", "--json", *words, limit=20)
    ran.said(0)
    rows: list[dict[str, object]] = json.loads(ran.out)["rows"]
    return rows


def enabled(qtctl: Qtctl, guest: RealGuest) -> list[str]:
    ran = qtctl("-t", guest.address, "list", "--state", "enabled", limit=20).said(0)
    return ran.out.splitlines()


@pytest.mark.parametrize("label", ["path", "unpacked"])
def test_top_names_threads_and_devices(qtctl: Qtctl, label: str) -> None:
    with RealGuest(require(label), image="virtio-blk", extra=MACHINE) as guest:
        before = enabled(qtctl, guest)
        events = top(qtctl, guest)
        assert {row["key"] for row in events} >= {
            "virtio_queue_notify", "virtio_blk_handle_read",
            "virtio_blk_rw_complete", "virtio_blk_req_complete",
        }  # fmt: skip
        assert sum(float(str(row["share"])) for row in events) == pytest.approx(1, abs=0.01)
        threads = top(qtctl, guest, "--by", "tid")
        main = {row["name"] for row in threads if row["key"] == guest.pid}
        assert main == {"main"}
        [device] = top(qtctl, guest, "--by", "vdev")[:1]
        assert device["name"] == "/machine/peripheral-anon/device[0]"
        ran = qtctl(
            *("-t", guest.address, "top", "memory_region_ops_*", "--once", "--json"),
            *("--by", "tid"),
            limit=20,
        )
        names = {row["name"] for row in json.loads(ran.out)["rows"]}
        assert names & {"vCPU 0", "vCPU 1"}
        assert enabled(qtctl, guest) == before


def test_memory_regions_are_named_by_their_records(qtctl: Qtctl) -> None:
    with RealGuest(require("path"), image="ports", busy=True) as guest:
        words = ("top", "memory_region_ops_*", "--once", "--json", "--by", "mr")
        ran = qtctl("-t", guest.address, *words, limit=20).said(0)
        names = {row["name"] for row in json.loads(ran.out)["rows"]}
        assert {"rtc-index", "ioport80"} <= names


def test_the_pane_follows_a_real_flood_and_gives_back(qtctl: Qtctl) -> None:
    environment = qtctl.environment()
    with (
        RealGuest(require("path"), image="ports", busy=True) as guest,
        Tmux(["sh"], environment, columns=120) as tmux,
    ):
        call = [sys.executable, "-m", "qtctl", "-t", guest.address]
        tmux.enter(shlex.join([*call, "pane", "memory_region_ops_*", "--size", "40"]), "%0")
        found = eventually(lambda: tmux.run("list-panes", "-F", "#{pane_id}").split()[1:], "")
        pane = found[0]
        tmux.until("ion_ops_", pane, 30.0)
        assert "0 lost" in tmux.screen(pane)
        tmux.send("Space", pane=pane)
        paused = tmux.until("PAUSED", pane)
        counts = [counted(paused)]
        later = str(eventually(lambda: later_than(tmux.screen(pane), counts[0]), "counts go on"))
        assert later.splitlines()[1:-1] == paused.splitlines()[1:-1]
        tmux.run("kill-pane", "-t", pane)
        eventually(lambda: qtctl.leases() == [], "no lease is left")
        assert enabled(qtctl, guest) == []
        assert qtctl.spools() == []


def counted(screen: str) -> str:
    """Return the count of what was read, as the bar shows it."""
    found = re.search(r"([\d.,]+[kMG]?) read", screen)
    assert found is not None, screen
    return found[1]


def later_than(screen: str, count: str) -> str:
    """Return the screen once its count is another."""
    return screen if counted(screen) != count else ""
