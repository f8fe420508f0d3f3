"""The prompt on real guests: in tmux, under a flood, and across a restart of QEMU."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.qemus import RealGuest, require
from tests.running import Qtctl, eventually
from tests.terminals import Tmux

pytestmark = pytest.mark.qemu

READ = "virtio_blk_handle_read"


def prompt(qtctl: Qtctl, address: str) -> Tmux:
    words = (sys.executable, "-m", "qtctl", "-t", address, "repl")
    return Tmux(words, qtctl.environment(), columns=120, rows=24)


def test_records_of_a_real_guest_arrive_above_the_line(qtctl: Qtctl) -> None:
    extra = ("-name", "vm1", "-msg", "timestamp=on")
    null = subprocess.DEVNULL
    with (
        RealGuest(require("path"), image="virtio-blk", extra=extra, stderr=null) as guest,
        prompt(qtctl, guest.address) as tmux,
    ):
        tmux.until("vm1 running | 0 on")
        tmux.enter(f"tail {READ} --where 'nsectors == 1' --max-events 3")
        tmux.until("3 read, 3 shown, 0 filtered, 0 lost")
        assert tmux.screen().count("sector=0 nsectors=1") == 3
        tmux.enter(f"enable {READ}")
        tmux.send("-l", "status")
        rows = "sector=0 nsectors=1"
        eventually(lambda: tmux.screen("", "-S", "-").count(rows) > 3, "more records")
        tmux.until("qtctl> status")
        tmux.send("Enter")
        eventually(lambda: "declarations" in tmux.screen("", "-S", "-"), "the answer of status")
        tmux.send("C-c")
        tmux.until("is not shown")
        tmux.enter("quit")
        tmux.until("gave back 1 event")


def test_a_flood_is_thinned_and_nothing_is_missing_from_the_sums(qtctl: Qtctl) -> None:
    with (
        RealGuest(require("path"), extra=("-D", "{dir}/log")) as guest,
        prompt(qtctl, guest.address) as tmux,
    ):
        tmux.until("running | 0 on")
        before = (guest.directory / "log").stat().st_size
        tmux.enter("tail memory_region_ops_*")
        tmux.until("more, counted and not drawn")
        tmux.send("-l", "jobs")
        tmux.until("qtctl> jobs")
        tmux.send("C-c")
        tmux.send("C-c")
        shown = tmux.until("0 filtered, 0 lost")
        sums = re.search(r"(\d+) read, (\d+) shown, 0 filtered, 0 lost", shown)
        assert sums is not None
        with (guest.directory / "log").open("rb") as log:
            log.seek(before)
            written = sum(piece.count(b"\n") for piece in iter(lambda: log.read(1 << 20), b""))
        assert int(sums[1]) == int(sums[2]) == written > 10_000
        drawn = tmux.screen("", "-S", "-").count("memory_region_ops_")
        assert 0 < drawn < written / 10


def test_the_prompt_goes_on_when_qemu_is_started_again(qtctl: Qtctl, tmp_path: Path) -> None:
    address = tmp_path / "qmp"
    extra = ("-qmp", f"unix:{address},server=on,wait=off", "-D", "{dir}/log")
    with RealGuest(require("path"), image="virtio-blk", extra=extra, qmp=False) as first:
        eventually(address.exists, "QEMU listens")
        with prompt(qtctl, str(address)) as tmux:
            tmux.until("running | 0 on")
            tmux.enter(f"enable {READ}")
            tmux.until("1 on")
            tmux.until("0 lost")
            tmux.send("C-c")
            tmux.until("is not shown")
            tmux.enter("tail virtio_blk_req_complete --where 'status != 0'")
            tmux.until("1 job")
            first.process.terminate()
            tmux.until("is gone")
            tmux.until("SHUTDOWN guest=False reason=host-signal")
            with RealGuest(require("path"), image="virtio-blk", extra=extra, qmp=False) as second:
                shown = tmux.until("again: tail virtio_blk_req_complete")
                assert "again: 1 event switched on" in shown
                tmux.until(f"pid {second.pid} running | 2 on")
                tmux.enter("quit")
                tmux.until("gave back 1 event")
                ran = qtctl("-t", str(address), "list", "--state", "enabled", limit=20).said(0)
                assert ran.out == ""
