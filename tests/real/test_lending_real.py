"""Consoles that share a real guest: records go on whatever becomes of the lender."""

from __future__ import annotations

import json
import signal
from itertools import pairwise

import pytest

from tests.qemus import RealGuest, require
from tests.running import Qtctl, Running, eventually

pytestmark = pytest.mark.qemu

EVENT = "virtio_blk_handle_read"


def sectors(running: Running) -> list[int]:
    rows = [json.loads(line) for line in bytes(running.out).splitlines(keepends=False)[:-1]]
    return [row["args"]["sector"] for row in rows if row["type"] == "event"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_tail_loses_no_record_when_its_lender_goes(qtctl: Qtctl, how: int) -> None:
    """This guest reads one sector after the other, so a record that is missing shows."""
    with RealGuest(require("path"), image="sectors", extra=("-D", "{dir}/log")) as guest:
        lender = qtctl.start("-t", guest.address, "share")
        eventually(lambda: lender.out.endswith(b"\n"), "share prints its socket")
        tail = qtctl.start("-t", guest.address, "tail", EVENT, "--ndjson")
        tail.said("Ctrl-C gives back")
        before = eventually(lambda: sectors(tail), "records come")
        lender.signal(how)
        lender.finish(None)
        qtctl("-t", guest.address, "mark", "it went").said(0)
        tail.wrote(b"it went")
        after = len(sectors(tail)) + 20
        eventually(lambda: len(sectors(tail)) > after, "records go on")
        tail.signal(signal.SIGINT)
        tail.finish(None).said(130, "0 lost")
        seen = sectors(tail)
        assert seen[: len(before)] == before
        steps = {b - a for a, b in pairwise(seen)}
        assert steps == {1}
        listed = qtctl("-t", guest.address, "list", "--state", "enabled").said(0)
        assert not listed.out
    assert not qtctl.leases()


def test_what_a_real_guest_tells_stands_in_the_stream(qtctl: Qtctl) -> None:
    with RealGuest(require("path"), extra=("-D", "{dir}/log")) as guest:
        tail = qtctl.start("-t", guest.address, "tail", EVENT, "--ndjson")
        tail.said("Ctrl-C gives back")
        qtctl("-t", guest.address, "qmp", "stop").said(0)
        tail.wrote(b'"STOP"')
        qtctl("-t", guest.address, "qmp", "cont").said(0)
        tail.wrote(b'"RESUME"')
        qtctl("-t", guest.address, "qmp", "system_reset").said(0)
        tail.wrote(b'"RESET"')
        guest.process.terminate()
        tail.wrote(b'"SHUTDOWN"')
        tail.finish(None).said(5, "lost")
    told = [json.loads(line) for line in bytes(tail.out).splitlines()]
    assert [row["event"] for row in told if row["type"] == "guest"][:2] == ["STOP", "RESUME"]


def test_a_monitor_that_prints_prettily_serves_and_is_lent(qtctl: Qtctl) -> None:
    chardev = "socket,id=q,path={dir}/qmp.sock,server=on,wait=off"
    pretty = ("-chardev", chardev, "-mon", "chardev=q,mode=control,pretty=on")
    extra = (*pretty, "-D", "{dir}/log")
    with RealGuest(require("path"), image="sectors", qmp=False, extra=extra) as guest:
        eventually(lambda: qtctl("-t", str(guest.pid), "status").code == 0, "it listens")
        lender = qtctl.start("-t", guest.address, "share")
        lender.wrote(b"lent-")
        tail = qtctl.start("-t", guest.address, "tail", EVENT, "--ndjson")
        tail.wrote(b'"args"')
        qtctl("-t", guest.address, "qmp", "stop").said(0)
        tail.wrote(b'"STOP"')
        tail.signal(signal.SIGINT)
        tail.finish(None).said(130, "0 lost")
        lender.signal(signal.SIGINT)
        lender.finish(None)
        listed = qtctl("-t", guest.address, "list", "--state", "enabled").said(0)
        assert not listed.out
